"""Checkpoints of a run: recent weights in memory, states on disk."""
