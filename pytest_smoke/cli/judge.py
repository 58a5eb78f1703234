"""`judge LOG...`: the verdict on logs that any trainer wrote."""

from __future__ import annotations

import argparse
import sys

from pytest_smoke.cli.judged_log import EXIT_ERROR, EXIT_PROMOTE, Line, Window, add, line_of, line_of_error, show
from pytest_smoke.errors import LogError
from pytest_smoke.judge.curve.curve_judge import CurveVerdict
from pytest_smoke.logs import read as logs
from pytest_smoke.logs.log import Log, Names


def judge_log(log: Log, window: Window) -> CurveVerdict:
    """The verdict on a whole log; with fewer points than were planned it is judged as one that was cut short."""
    judge = window.engine(len(log.points))
    for point in log.points:
        if (doomed := add(judge, point)) is not None:
            return doomed
    return judge.finish(cut=window.planned is not None and len(log.points) < window.planned)


def judged(path: str, names: Names, window: Window) -> Line:
    """The line of the log at `path`, read or not."""
    try:
        log = logs.read(path, names)
    except LogError as error:
        return line_of_error(path, error)
    return line_of(log, judge_log(log, window))


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "judge",
        help="judge training logs",
        description="Judge training logs: CSV, JSON Lines, Hugging Face trainer_state.json, what trainers print, "
        "TensorBoard event files. Exit 0: all promote; 1: something is not; 2: something could not be judged.",
    )
    parser.add_argument(
        "logs", nargs="+", metavar="LOG", help="a file, a folder to search, or - for the standard input"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one object a line")
    parser.add_argument("--loss", metavar="NAME", help="the column that holds the training loss")
    parser.add_argument("--lr", metavar="NAME", help="the column that holds the learning rate")
    parser.add_argument("--step", metavar="NAME", help="the column that holds the step")
    parser.add_argument("--planned", type=_count, metavar="N", help="points a whole log has; fewer: it was cut short")
    parser.add_argument(
        "--edge", type=_count, action="append", default=[], metavar="STEP", help="data or loss change here by design"
    )
    parser.add_argument("--from-scratch", action="store_true", help="weights began random: no progress, no promotion")
    parser.add_argument("--follow", action="store_true", help="judge one file as it grows; exit 1 once it is doomed")
    parser.add_argument(
        "--idle", type=_seconds, metavar="SECONDS", help="with --follow: a log that rests so long was cut"
    )
    parser.add_argument("--poll", type=_seconds, metavar="SECONDS", default=1.0, help="with --follow: look this often")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def run(args: argparse.Namespace) -> int:
    """Judge and print; the worst exit code of all logs."""
    names = Names(loss=args.loss, lr=args.lr, step=args.step)
    window = Window(planned=args.planned, edges=tuple(args.edge), from_scratch=args.from_scratch)
    if args.follow:
        from pytest_smoke.cli import follow

        return follow.run(args, names, window)
    worst = EXIT_PROMOTE
    for path in args.logs:
        try:
            found = logs.find(path)
        except LogError as error:
            show(line_of_error(path, error), args.format, sys.stdout)
            worst = EXIT_ERROR
            continue
        for log in found:
            line = judged(log, names, window)
            show(line, args.format, sys.stdout)
            worst = max(worst, line.exit_code)
    return worst
