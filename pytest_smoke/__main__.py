"""`python -m pytest_smoke COMMAND`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = ("judge", "audit", "compare", "diagnose", "probe", "package", "schema", "init")


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
    return int(modules[args.command].run(args))


if __name__ == "__main__":
    sys.exit(main())
