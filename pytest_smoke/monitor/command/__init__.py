"""A smoke run of a command: starts it, reads its log while it grows, stops it. It imports no torch."""
