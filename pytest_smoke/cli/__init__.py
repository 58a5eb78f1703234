"""The commands of `python -m pytest_smoke`, a module each, imported only when asked for."""
