"""Command line: `python -m pytest_smoke COMMAND`, or `verdict-smoke COMMAND`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = ("judge", "audit", "compare", "diagnose", "probe", "package", "schema", "init")
PROGRAM = "python -m pytest_smoke"
EXIT_BROKEN_PIPE = 2
"""The output pipe was closed early, as by `head`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code of the process."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Judge training logs, compare runs, and check data mixes, gradients and packages of smoke runs.",
        epilog=f"`{PROGRAM} COMMAND --help` explains a command.",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    given = list(sys.argv[1:] if argv is None else argv)
    # Import only the requested command; --help and a misspelt command need all of them.
    wanted = [command for command in COMMANDS if command in given[:1]] or COMMANDS
    modules = {command: import_module(f"pytest_smoke.cli.{command}") for command in wanted}
    for module in modules.values():
        module.add_parser(subparsers)
    args = parser.parse_args(given)
    try:
        code = int(modules[args.command].run(args))
        sys.stdout.flush()
    except BrokenPipeError:  # as in `judge ... | head`: the interpreter's own flush at exit would fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    return code


if __name__ == "__main__":
    sys.exit(main())
