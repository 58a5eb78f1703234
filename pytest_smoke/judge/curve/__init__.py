"""Streaming judge of one loss curve."""
