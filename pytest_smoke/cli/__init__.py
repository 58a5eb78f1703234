"""The commands of `python -m pytest_smoke`: one module per command, imported when the command is used."""
