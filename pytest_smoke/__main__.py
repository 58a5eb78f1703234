"""Command line: `python -m pytest_smoke COMMAND`, or `verdict-smoke COMMAND`."""

from __future__ import annotations

import contextlib
import os
import sys
from importlib import import_module

TYPE_CHECKING = False  # of `typing`, which is not imported: memory may lack for what stands outside of `main`
if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (
    *("judge", "watch", "preflight", "gate", "report", "audit", "compare", "history", "merge"),
    *("diagnose", "probe", "package", "schema", "init"),
)
PROGRAM = "python -m pytest_smoke"
EXIT_FAILED = 2
"""The command could not do its work or print it. Status 1, with which Python ends a crash, means a verdict here."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code of the process."""
    given = list(sys.argv[1:] if argv is None else argv)
    # Import only the requested command; --help and a misspelt command need all of them.
    wanted = [command for command in COMMANDS if command in given[:1]] or COMMANDS
    name = PROGRAM if wanted is COMMANDS else wanted[0]
    try:
        return _run(given, wanted)
    except BrokenPipeError:  # as in `judge ... | head`
        _drop_output()
        return EXIT_FAILED
    except OSError as error:
        _drop_output()
        return _fail(name, f"stopped: {error.strerror or error}")
    except MemoryError:
        return _fail(name, "stopped: not enough memory")
    except Exception:
        return _fail_with_traceback(name)


def _run(given: Sequence[str], wanted: Sequence[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Judge training logs, compare runs, and check data mixes, gradients and packages of smoke runs.",
        epilog=f"`{PROGRAM} COMMAND --help` explains a command.",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    modules = {command: import_module(f"pytest_smoke.cli.{command}") for command in wanted}
    for module in modules.values():
        module.add_parser(subparsers)
    args = parser.parse_args(given)
    module = modules[args.command]
    if sys.stdout is None and getattr(module, "NEEDS_OUTPUT", True):
        return _fail(args.command, "the standard output is closed: nothing can be printed")
    try:
        code = int(module.run(args))
    except SystemExit as error:  # of imported code: its status 1 would mean a verdict
        return _fail(args.command, f"stopped: imported code ended the program with SystemExit: {error}")
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _drop_output() -> None:
    """Send what is still buffered to nowhere: the interpreter's own flush at exit would fail once more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail_with_traceback(command: str) -> int:
    with contextlib.suppress(Exception):  # what made the command fail (memory, open files) can prevent this, too
        import traceback

        traceback.print_exc()
    return _fail(command, "stopped by an error of its own: please report it with the lines above")


def _fail(command: str, text: str) -> int:
    if sys.stderr is not None:
        with contextlib.suppress(Exception):
            print(f"{command}: {text}", file=sys.stderr)
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
