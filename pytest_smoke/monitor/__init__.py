"""Executes one smoke run, from its case to its outcome. It imports neither pytest nor torch."""
