"""Comparison of two runs: read from reports and logs, and computed as plain data."""
