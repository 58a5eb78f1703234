"""`judge --follow FILE`: the verdict on a log while it is written, so that a launch script can stop a doomed run."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator

from pytest_smoke.cli.judged_log import EXIT_ERROR, Line, Window, add, line_of, line_of_error, show
from pytest_smoke.errors import LogError
from pytest_smoke.judge.curve.curve_judge import CurveVerdict
from pytest_smoke.logs import read as logs
from pytest_smoke.logs.log import Log, Names, Point
from pytest_smoke.logs.tensorboard import MARK

_PARSE_SHARE = 10
"""A look is followed by at least this many times its own duration of sleep: the file is read anew each time."""
_NOT_YET = ("unreadable", "empty", "header-only", "no-loss-column", "no-points")
"""What may be wrong with a log that has only begun."""


class Follower:
    """Feeds the engine what is new in a log. Where the past has changed (a resumed run), it starts anew."""

    def __init__(self, window: Window) -> None:
        assert window.planned is not None, "blocks are cut from the planned points"
        self._window, self._planned = window, window.planned
        self._restart()

    def _restart(self) -> None:
        self._judge = self._window.engine(self._planned)
        self._fed: list[Point] = []

    def feed(self, log: Log) -> CurveVerdict | None:
        """The verdict, once there is one: doomed, or as many points as were planned."""
        # The newest point is compared too: a sparse log completes it a row later.
        if list(log.points[: len(self._fed)]) != self._fed:
            self._restart()
        for point in log.points[len(self._fed) : self._planned]:
            self._fed.append(point)
            if (doomed := add(self._judge, point)) is not None:
                return doomed
        return self._judge.finish() if len(self._fed) == self._planned else None

    def cut(self) -> CurveVerdict:
        """The verdict on a log that stopped growing."""
        return self._judge.finish(cut=True)


def _looks(path: str, poll: float, idle: float | None) -> Iterator[bool]:
    """False after each change of the file; True, once and last, when it has rested `idle` seconds."""
    seen: tuple[int, int] | None = None
    changed = time.monotonic()
    while True:
        begun = time.monotonic()
        try:
            stat = os.stat(path)
        except OSError:
            now = None
        else:
            now = (stat.st_size, stat.st_mtime_ns)
        if now != seen:
            seen, changed = now, begun
            yield False
        elif idle is not None and begun - changed >= idle:
            yield True
            return
        time.sleep(max(poll, _PARSE_SHARE * (time.monotonic() - begun)))


def _whole_lines(text: str) -> str:
    document = text.lstrip()[:1] in ("{", "[") and text.rstrip()[-1:] in ("}", "]")
    return text if document else text[: text.rfind("\n") + 1]


def _watch(args: argparse.Namespace, names: Names, window: Window) -> Line:
    path: str = args.logs[0]
    follower = Follower(window)
    last: Log | None = None
    problem: LogError | None = None
    for resting in _looks(path, args.poll, args.idle):
        try:
            text = logs.text_of(path)
            last = logs.read_text(path, text if resting else _whole_lines(text), names)
        except LogError as error:
            problem = error
            if not resting and error.reason not in _NOT_YET:
                break
        else:
            if (judgement := follower.feed(last)) is not None:
                return line_of(last, judgement)
        if resting and last is not None:
            return line_of(last, follower.cut())
    assert problem is not None
    return line_of_error(path, problem)


def run(args: argparse.Namespace, names: Names, window: Window) -> int:
    """Follow, print, and return the exit code."""
    wrong = ""
    if args.planned is None:
        wrong = "--follow needs --planned N, the points that a whole log will have: blocks are cut from that"
    elif len(args.logs) != 1:
        wrong = f"--follow takes one file, not {len(args.logs)}"
    elif args.logs[0] == logs.STDIN or os.path.isdir(args.logs[0]) or MARK in os.path.basename(args.logs[0]):
        wrong = f"--follow takes a text file, not {args.logs[0]!r}"
    if wrong:
        print(f"judge: {wrong}", file=sys.stderr)
        return EXIT_ERROR
    try:
        line = _watch(args, names, window)
    except KeyboardInterrupt:
        print("judge: interrupted before there was a verdict", file=sys.stderr)
        return EXIT_ERROR
    show(line, args.format, sys.stdout)
    return line.exit_code
