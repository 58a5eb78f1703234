"""Command line: `python -m pytest_smoke COMMAND`, or `verdict-smoke COMMAND`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = (
    *("judge", "watch", "preflight", "gate", "report", "audit", "compare", "history", "merge"),
    *("diagnose", "probe", "package", "schema", "init"),
)
PROGRAM = "python -m pytest_smoke"
EXIT_FAILED = 2
"""The command could not do its work or print it. Status 1, with which Python ends a crash, means a verdict here."""


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
    try:
        modules = {command: import_module(f"pytest_smoke.cli.{command}") for command in wanted}
    except Exception:  # a broken installation
        return _fail_with_traceback(wanted[0])
    for module in modules.values():
        module.add_parser(subparsers)
    args = parser.parse_args(given)
    if sys.stdout is None and getattr(modules[args.command], "NEEDS_OUTPUT", True):
        return _fail(args.command, "the standard output is closed: nothing can be printed")
    try:
        code = int(modules[args.command].run(args))
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # as in `judge ... | head`
        _drop_output()
        return EXIT_FAILED
    except OSError as error:
        _drop_output()
        return _fail(args.command, f"stopped: {error.strerror or error}")
    except MemoryError:
        return _fail(args.command, "stopped: not enough memory")
    except Exception:
        return _fail_with_traceback(args.command)
    return code


def _drop_output() -> None:
    """Send what is still buffered to nowhere: the interpreter's own flush at exit would fail once more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail_with_traceback(command: str) -> int:
    import traceback

    with contextlib.suppress(OSError):
        traceback.print_exc()
    return _fail(command, "stopped by an error of its own: please report it with the lines above")


def _fail(command: str, text: str) -> int:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"{command}: {text}", file=sys.stderr)
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
