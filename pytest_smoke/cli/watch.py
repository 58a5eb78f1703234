"""`watch -- COMMAND`: run the full run, or follow one that runs already, and stop it only if it is unstable."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import time
from pathlib import Path

from pytest_smoke.cli.arguments import Subparsers, add_expected_jump, fail, positive_int, print_message, seconds
from pytest_smoke.logs.log import ColumnNames
from pytest_smoke.watch.follow import WatchedLog
from pytest_smoke.watch.guard import EXIT_SIGNAL, OUTPUT, WatchOptions, watch_command, watch_process


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "watch",
        help="run a training command and stop it if it becomes unstable",
        usage="%(prog)s [options] [--log PATH] -- COMMAND...\n       %(prog)s [options] --pid N --log PATH",
        description="Run a training command, or follow one that runs already, and judge its loss while it trains. It "
        "is stopped only if it is unstable: SIGTERM, then SIGKILL, to its whole process group. A decaying learning "
        "rate, a plateau or an unreadable log never stop it. Signals to watch are passed on to the command.",
        epilog="Exit status: 0 if the command ended with 0, or the process of --pid by itself; 3 if it was stopped as "
        "unstable; 2 if nothing was started; else that of the command, 128 + N if signal N ended it.",
    )
    parser.add_argument(
        "--log",
        metavar="PATH",
        help="log file that the command writes, or a folder with its logs; it need not exist yet (default: the "
        "command's output)",
    )
    parser.add_argument("--pid", type=positive_int, metavar="N", help="follow this process instead of a command")
    parser.add_argument("--loss", metavar="NAME", help="column with the training loss (default: found by its name)")
    parser.add_argument("--step", metavar="NAME", help="column with the step (default: found by its name)")
    parser.add_argument(
        "--planned",
        type=positive_int,
        metavar="N",
        help="number of losses that the complete log will have (default: unknown; a rise is then recognized by the "
        "length so far)",
    )
    add_expected_jump(parser)
    parser.add_argument(
        "--checkpoints",
        type=Path,
        metavar="FOLDER",
        help="folder to look for checkpoints in (default: the log's folder, or the current one)",
    )
    parser.add_argument(
        "--grace", type=seconds, metavar="SECONDS", default=30.0, help="time from SIGTERM to SIGKILL (default: 30)"
    )
    parser.add_argument(
        "--poll", type=seconds, metavar="SECONDS", default=0.5, help="time between checks of the log (default: 0.5)"
    )
    parser.add_argument("run_command", nargs=argparse.REMAINDER, metavar="COMMAND", help="command with its arguments")


NEEDS_OUTPUT = False
"""The run matters more than what is printed about it."""


def run(args: argparse.Namespace) -> int:
    """Watch, and return the exit status of the command."""
    _open_standard_streams()
    command = args.run_command[1:] if args.run_command[:1] == ["--"] else args.run_command
    if bool(command) == (args.pid is not None):
        return fail("watch", "give a command after --, or --pid N, not both" if command else "give a command after --")
    if args.pid is not None and args.log is None:
        return fail("watch", "--pid needs --log: the output of a running process cannot be read")
    if args.pid in (os.getpid(), os.getppid()):
        return fail("watch", f"--pid {args.pid} is watch itself or the shell that started it")
    log = WatchedLog(
        path=args.log or "",
        shown=args.log or OUTPUT,
        names=ColumnNames(loss=args.loss, step=args.step),
        planned_points=args.planned,
        expected_jumps=tuple(args.expected_jump),
        is_new_run=args.pid is None,
    )
    options = WatchOptions(
        log=log,
        poll_seconds=args.poll,
        grace_seconds=args.grace,
        checkpoints=args.checkpoints or _folder_of(args.log),
        started_at=time.time() if args.pid is None else 0.0,
    )
    if args.pid is None:
        return watch_command(command, options, follows_output=args.log is None, say=_say)
    try:
        return watch_process(args.pid, options, _say)
    except ProcessLookupError:
        return fail("watch", f"there is no process {args.pid}")
    except PermissionError:
        return fail("watch", f"process {args.pid} belongs to another user")
    except KeyboardInterrupt:
        _say("interrupted; the run continues unwatched")
        return EXIT_SIGNAL + signal.SIGINT


def _open_standard_streams() -> None:
    """Open the null device in place of closed standard streams: the next file would get their descriptors."""
    for stream in (0, 1, 2):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor
            os.set_inheritable(stream, True)


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a closed standard error must not end the watch
        print_message("watch", text)


def _folder_of(log: str | None) -> Path:
    if log is None:
        return Path()
    return Path(log) if os.path.isdir(log) else Path(log).parent
