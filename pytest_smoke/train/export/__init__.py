"""The export pipeline after training: evaluate, export, quantize, package, and load the package again."""
