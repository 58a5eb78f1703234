"""`judge LOG...`: verdicts on logs that any trainer wrote, once or while a log grows (`--follow`)."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pytest_smoke.cli.arguments import (
    EXIT_ERROR,
    Subparsers,
    add_format,
    add_log_options,
    fail,
    log_options,
    print_json,
    print_text,
    seconds,
)
from pytest_smoke.errors import LogError
from pytest_smoke.judge.curve.curve_judge import CurveVerdict
from pytest_smoke.logs import find
from pytest_smoke.logs import read as logs
from pytest_smoke.logs.judging import GrowingLogJudge, RunDescription, judge_logs, refusing_as_log_errors
from pytest_smoke.logs.log import ColumnNames, Log
from pytest_smoke.logs.source import STDIN, is_regular, open_source, whole_lines
from pytest_smoke.logs.tensorboard import EVENT_FILE_MARK
from pytest_smoke.plain import MESSAGE_CHARS, plain_text
from pytest_smoke.text import count, verdict_label

EXIT_PROMOTE, EXIT_NOT_PROMOTE, EXIT_UNSTABLE = 0, 1, 3

SLEEP_PER_PARSE = 10
"""Sleep at least this many times as long as the last read took: each read parses the whole file."""
INCOMPLETE = ("unreadable", "empty", "header-only", "no-loss-column", "no-points")
"""Reasons of a LogError that more lines may resolve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogVerdict:
    """The verdict on one log, or why it could not be judged."""

    log: str
    verdict: str
    """A verdict of the judge, or `error`."""
    reason: str
    step: int | None
    text: str
    points: int
    """Judged points; 0 if the log could not be judged."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, log: Log, verdict: CurveVerdict) -> LogVerdict:
        """Combine the judge's verdict with the notes of the log's reader."""
        return cls(
            log=log.path,
            verdict=verdict.verdict,
            reason=verdict.reason,
            step=verdict.step,
            text=verdict.text,
            points=verdict.points,
            notes=(*verdict.notes, *log.notes),
        )

    @classmethod
    def of_error(cls, path: str, error: LogError) -> LogVerdict:
        """Describe a log that could not be judged."""
        text = plain_text(str(error), limit=MESSAGE_CHARS)  # it may quote a line of the log
        return cls(log=path, verdict="error", reason=error.reason, step=None, text=text, points=0)

    @property
    def exit_code(self) -> int:
        """0 for a promotion, 3 for `unstable`, 1 for another verdict, 2 for an error; higher is worse."""
        codes = {"promote": EXIT_PROMOTE, "unstable": EXIT_UNSTABLE, "error": EXIT_ERROR}
        return codes.get(self.verdict, EXIT_NOT_PROMOTE)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "log": self.log,
            "verdict": self.verdict,
            "reason": self.reason,
            "step": self.step,
            "text": self.text,
            "points": self.points,
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Return the text form: the verdict, then one indented line per note."""
        return [
            f"{self.log}: {verdict_label(self.verdict, self.reason)}: {self.text}",
            *(f"    {note}" for note in self.notes),
        ]


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "judge",
        help="judge training logs",
        description="Judge training logs of any trainer: printed lines, tables inside text, CSV, JSON, exports of "
        "Weights & Biases and TensorBoard, event files. Which columns and rows are judged is printed as notes. In a "
        f"folder, at any depth, these files are logs: {find.searched()}. Of the checkpoints of a run, only the newest "
        "trainer_state.json is judged.",
        epilog="Exit status: 0 if every log is promoted, 1 if one is not, 2 if one could not be judged, 3 if one is "
        "unstable; of several, the highest. Errors of the program itself exit with 2.",
    )
    parser.add_argument(
        "logs", nargs="+", metavar="LOG", help="log file, folder (all logs in it are judged), or - for standard input"
    )
    add_format(parser, json_help="one object per log, each on its own line")
    add_log_options(parser)
    parser.add_argument(
        "--follow",
        action="store_true",
        help="judge one file while it grows and exit as soon as there is a verdict; needs --planned",
    )
    parser.add_argument(
        "--idle",
        type=seconds,
        metavar="SECONDS",
        help="with --follow: the run has ended if the log does not change for this long (default: wait forever)",
    )
    parser.add_argument(
        "--poll",
        type=seconds,
        metavar="SECONDS",
        default=1.0,
        help="with --follow: time between checks of the file (default: 1)",
    )


def run(args: argparse.Namespace) -> int:
    """Judge, print, and return the worst exit code of all logs."""
    names, description = log_options(args)
    if args.follow:
        return _run_follow(args, names, description)
    worst = EXIT_PROMOTE
    for path in args.logs:
        verdicts: Counter[str] = Counter()
        for result in _judge_all(path, names, description):
            _show(result, args.format)
            verdicts[result.verdict] += 1
            worst = max(worst, result.exit_code)
        if args.format == "text" and verdicts.total() > 1:
            counted = ", ".join(f"{often:,} {verdict}" for verdict, often in verdicts.most_common())
            print_text(f"{path}: {count(verdicts.total(), 'log')}: {counted}")
    return worst


def _judge_all(path: str, names: ColumnNames, description: RunDescription) -> Iterator[LogVerdict]:
    """Judge a log, or every log in a folder."""
    try:
        found = find.find(path)
    except LogError as error:
        yield LogVerdict.of_error(path, error)
        return
    for log_path in found:
        yield _judge_one(log_path, names, description)


def _judge_one(path: str, names: ColumnNames, description: RunDescription) -> LogVerdict:
    """Judge one log; whatever goes wrong with it leaves the others to be judged."""
    try:
        with refusing_as_log_errors():
            return LogVerdict.of(*judge_logs(logs.read_all(path, names), description))
    except LogError as error:
        return LogVerdict.of_error(path, error)


def _show(result: LogVerdict, form: str) -> None:
    if form == "json":
        print_json(result.to_dict())
    else:
        print_text("\n".join(result.lines()))


def _run_follow(args: argparse.Namespace, names: ColumnNames, description: RunDescription) -> int:
    if args.planned is None:
        return fail("judge", "--follow needs --planned N, the number of points in the complete log")
    if len(args.logs) != 1:
        return fail("judge", f"--follow takes one file, not {len(args.logs)}")
    path: str = args.logs[0]
    is_special = os.path.exists(path) and not is_regular(path)
    if path == STDIN or is_special or EVENT_FILE_MARK in os.path.basename(path):
        return fail("judge", f"--follow takes a text file, not {path!r}")
    try:
        result = _follow(path, args.poll, args.idle, names, description)
    except KeyboardInterrupt:
        return fail("judge", "interrupted before there was a verdict")
    _show(result, args.format)
    return result.exit_code


def _follow(path: str, poll: float, idle: float | None, names: ColumnNames, description: RunDescription) -> LogVerdict:
    judge = GrowingLogJudge(description)
    log: Log | None = None
    last_error: LogError | None = None
    for is_idle in _changes(path, poll, idle):
        try:
            source = open_source(path)
            text = source.text()
            source.close()
            log = logs.read_text(path, text if is_idle else whole_lines(text), names)
        except LogError as error:
            last_error = error
            if not is_idle and error.reason not in INCOMPLETE:
                break
        else:
            verdict = judge.update(log) or judge.decided_outside(log)
            if verdict is not None:
                return LogVerdict.of(log, verdict)
        if is_idle and log is not None:
            return LogVerdict.of(log, judge.end_early())
    assert last_error is not None
    return LogVerdict.of_error(path, last_error)


def _changes(path: str, poll: float, idle: float | None) -> Iterator[bool]:
    """Yield False after each change of the file, and True at the end, when it has not changed for `idle` seconds."""
    seen: tuple[int, int] | None = None
    changed_at = time.monotonic()
    while True:
        started_at = time.monotonic()
        try:
            stat = os.stat(path)
        except OSError:
            state = None
        else:
            state = (stat.st_size, stat.st_mtime_ns)
        if state != seen:
            seen, changed_at = state, started_at
            yield False
        elif idle is not None and started_at - changed_at >= idle:
            yield True
            return
        time.sleep(max(poll, SLEEP_PER_PARSE * (time.monotonic() - started_at)))
