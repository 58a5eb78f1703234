"""Readers of training logs of other tools. They need only the standard library, and `tensorboard` for event files."""
