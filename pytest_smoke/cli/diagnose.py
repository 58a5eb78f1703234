"""`diagnose PREDICTIONS`: what kinds of errors a tagger makes, and what changed since another run."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pytest_smoke.cli.arguments import Subparsers, add_format, fail, non_negative_int, print_json, print_text
from pytest_smoke.errors import ExamplesError
from pytest_smoke.files import NOT_REGULAR, open_regular, read_failure
from pytest_smoke.ner.comparison import ErrorComparison, compare
from pytest_smoke.ner.examples import Example, read_lines, trim_predictions
from pytest_smoke.ner.report_text import comparison_text, report_text
from pytest_smoke.ner.tally import ErrorReport, report_of

STDIN = "-"
EXIT_DONE = 0
SCHEMA = 1
"""Version of the JSON output; raised when a key changes its meaning or goes away."""


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "diagnose",
        help="sort the errors of a tagger into buckets",
        description="Sort the false negatives and false positives of a tagger into buckets, per tag. Each input line "
        'is one example: {"raw": TEXT, "gold": VALUES, "pred": VALUES}. VALUES is a list of {"tag", "start", "end"} '
        "or [start, end, tag], or an object with the values of each tag.",
        epilog="Exit status: 0 if the predictions were read, 2 if they could not be read.",
    )
    parser.add_argument("predictions", metavar="PREDICTIONS", help="JSON Lines file, or - for standard input")
    comparison = parser.add_mutually_exclusive_group()
    comparison.add_argument(
        "--before", metavar="OLD", help="predictions of an earlier run: also show what changed since then"
    )
    comparison.add_argument(
        "--trim", action="store_true", help="trim the predicted spans first, and show what that changes"
    )
    parser.add_argument(
        "--keep-full-stop", action="store_true", help="with --trim: keep a full stop after a letter, as in 'St.'"
    )
    parser.add_argument(
        "--examples", type=non_negative_int, metavar="N", default=3, help="examples per tag and bucket (default: 3)"
    )
    add_format(parser, json_help="one object")


def run(args: argparse.Namespace) -> int:
    """Count errors, compare, print, and return the exit code."""
    try:
        report, comparison = _diagnose(args)
    except ExamplesError as error:
        return fail("diagnose", *str(error).splitlines())
    if args.format == "json":
        print_json(_tree(report, comparison))
        return EXIT_DONE
    parts = ["predicted spans were trimmed; the last table shows what that changed"] if args.trim else []
    parts += [report_text(report), *([comparison_text(comparison)] if comparison else [])]
    print_text("\n\n".join(parts))
    return EXIT_DONE


def _diagnose(args: argparse.Namespace) -> tuple[ErrorReport, ErrorComparison | None]:
    if args.keep_full_stop and not args.trim:
        raise ExamplesError(["--keep-full-stop needs --trim"])
    if args.predictions == args.before == STDIN:
        raise ExamplesError(["PREDICTIONS and --before cannot both be standard input (-)"])
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
    if path == STDIN:
        return read_lines(sys.stdin.buffer, path)
    try:
        with open_regular(path) as file:
            return read_lines(file, path)
    except OSError as error:
        read_it = f"; to read what a pipe yields, pass {STDIN} and pipe it in" if error.strerror == NOT_REGULAR else ""
        raise ExamplesError([f"{path}: {read_failure(error)}{read_it}"]) from None


def _tree(report: ErrorReport, comparison: ErrorComparison | None) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "report": report.to_dict(),
        "before": comparison.before.to_dict() if comparison else None,
        "comparison": comparison.to_dict() if comparison else None,
    }
