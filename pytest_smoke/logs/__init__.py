"""Other people's logs, read into one frozen value. Standard library only, but for TensorBoard's own reader."""
