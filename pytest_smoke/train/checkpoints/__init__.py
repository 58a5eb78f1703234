"""Checkpoints of a run: recent weights in memory, whole states on disk."""
