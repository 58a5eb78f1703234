"""What follows the training: evaluate, export, quantize, package, and load the package in a fresh process."""
