"""Train in a process of its own, save checkpoints, export the model. The only importers of torch in the package."""
