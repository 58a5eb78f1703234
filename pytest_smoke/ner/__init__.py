"""Diagnostics that ride alongside a smoke: the data mix, error buckets, span boundaries; pure."""
