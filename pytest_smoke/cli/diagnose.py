"""`diagnose PREDICTIONS`: what kinds of mistakes a tagger makes, and what changed since another run."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from pytest_smoke.errors import ExamplesError
from pytest_smoke.ner.comparison import Comparison, compare
from pytest_smoke.ner.examples import Example, read_lines, trim_predictions
from pytest_smoke.ner.report_text import comparison_text, report_text
from pytest_smoke.ner.tally import Report, report_of

_STDIN = "-"
_EXIT_FINE, _EXIT_ERROR = 0, 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "diagnose",
        help="sort a tagger's errors into buckets",
        description="Sort the false negatives and false positives of a tagger into buckets, per tag. A line of the "
        'input is one example: {"raw": text, "gold": [...], "pred": [...]}, each a list of {"tag", "start", "end"} or '
        "[start, end, tag], or an object of tags and values. Exit 0: done; 2: something could not be read.",
    )
    parser.add_argument("predictions", metavar="PREDICTIONS", help="a JSON Lines file, or - for the standard input")
    against = parser.add_mutually_exclusive_group()
    against.add_argument("--before", metavar="OLD", help="an earlier run's predictions: show what changed since")
    against.add_argument(
        "--trim", action="store_true", help="trim the predicted spans first, and show what that changes"
    )
    parser.add_argument("--keep-full-stop", action="store_true", help="with --trim: keep the full stop of 'St.'")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one object")
    parser.add_argument("--examples", type=_count, metavar="N", default=3, help="of each tag's buckets (default: 3)")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Count, compare, print."""
    try:
        report, comparison = _diagnosed(args)
    except ExamplesError as error:
        print(_printable(str(error), sys.stderr.encoding), file=sys.stderr)
        return _EXIT_ERROR
    if args.format == "json":
        print(json.dumps(_wire(report, comparison), allow_nan=False))
        return _EXIT_FINE
    trimmed = ["predicted spans trimmed; before -> after stands below the tables"] if args.trim else []
    texts = [*trimmed, report_text(report), *([comparison_text(comparison)] if comparison else [])]
    print(_printable("\n\n".join(texts), sys.stdout.encoding))
    return _EXIT_FINE


def _diagnosed(args: argparse.Namespace) -> tuple[Report, Comparison | None]:
    if args.keep_full_stop and not args.trim:
        raise ExamplesError(["--keep-full-stop needs --trim: nothing else would cut the full stop"])
    if args.predictions == args.before == _STDIN:
        raise ExamplesError(["the standard input cannot be both PREDICTIONS and --before; allowed: - for one of them"])
    examples = _read(args.predictions)
    before = None
    if args.before is not None:
        before = report_of(_read(args.before), samples=args.examples)
    elif args.trim:
        before = report_of(examples, samples=args.examples)
        examples = [trim_predictions(example, keep_full_stop=args.keep_full_stop) for example in examples]
    report = report_of(examples, samples=args.examples)
    return report, compare(before, report) if before else None


def _read(path: str) -> list[Example]:
    if path == _STDIN:
        return read_lines(sys.stdin.buffer, path)
    try:
        with open(path, "rb") as file:
            return read_lines(file, path)
    except OSError as error:
        raise ExamplesError([f"{path}: {error.strerror}; allowed: a JSON Lines file, or -"]) from None


def _wire(report: Report, comparison: Comparison | None) -> dict[str, Any]:
    before = {"before": comparison.before.to_json(), "comparison": comparison.to_json()} if comparison else {}
    return {"schema": 1, "report": report.to_json(), "before": None, "comparison": None, **before}


def _printable(text: str, encoding: str | None) -> str:
    """A text's characters that the terminal has, the others escaped."""
    return text.encode(encoding or "utf-8", "backslashreplace").decode(encoding or "utf-8")
