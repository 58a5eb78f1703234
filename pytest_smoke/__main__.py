"""`python -m pytest_smoke COMMAND`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = ("judge", "audit", "compare", "diagnose", "probe", "package", "schema", "init")
EXIT_UNREAD = 2
"""Nobody read the answer to its end: an error, as in every command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    parser = argparse.ArgumentParser(prog="verdict-smoke", description="Verdicts on short training runs.")
    subparsers = parser.add_subparsers(dest="command", required=True)
    given = list(sys.argv[1:] if argv is None else argv)
    # Only the module of the command that is asked for is imported; all of them for the overview.
    wanted = [command for command in COMMANDS if command in given[:1]] or COMMANDS
    modules = {command: import_module(f"pytest_smoke.cli.{command}") for command in wanted}
    for module in modules.values():
        module.add_parser(subparsers)
    args = parser.parse_args(given)
    try:
        code = int(modules[args.command].run(args))
        sys.stdout.flush()
    except BrokenPipeError:  # `judge ... | head`: nobody reads on, and the interpreter's own flush would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNREAD
    return code


if __name__ == "__main__":
    sys.exit(main())
