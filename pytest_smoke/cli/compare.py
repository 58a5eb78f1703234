"""`compare OLD NEW`: what changed between two smokes, two logs, or a smoke and a log."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace

from pytest_smoke.cli.runs import SEPARATOR, runs_of
from pytest_smoke.errors import ReportError
from pytest_smoke.files import json_value
from pytest_smoke.report.compare import Comparison, compare
from pytest_smoke.report.compare_rows import Run
from pytest_smoke.report.compare_text import markdown, text

EXIT_COMPARED, EXIT_ERROR = 0, 2
SCHEMA = 1
"""Version of the JSON output; raised when a key changes its meaning or goes away."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "compare",
        help="compare two smokes or logs",
        description="Compare two runs: the folder of --smoke-report, its verdicts.json, PATH::ID for one of its "
        "outcomes, or any log that `judge` reads. Exit 0: compared, whatever came out; 2: could not.",
    )
    parser.add_argument("old", metavar="OLD")
    parser.add_argument("new", metavar="NEW")
    parser.add_argument("--format", choices=("text", "markdown", "json"), default="text")
    for which in ("old", "new"):
        parser.add_argument(
            f"--{which}-batch", type=_count, metavar="N", help=f"effective batch of {which.upper()}, for a log"
        )


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Compare and print."""
    try:
        pairs, notes = _pairs(args.old, args.new)
        found = [compare(_with_batch(old, args.old_batch), _with_batch(new, args.new_batch)) for old, new in pairs]
    except ReportError as error:
        print(f"compare: {error}", file=sys.stderr)
        return EXIT_ERROR
    for note in notes:
        print(f"compare: {note}", file=sys.stderr)
    sys.stdout.write(_rendered(found, args.format))
    return EXIT_COMPARED


def _rendered(found: list[Comparison], form: str) -> str:
    if form == "json":
        tree = {"schema": SCHEMA, "comparisons": [json_value(one.to_dict()) for one in found]}
        return json.dumps(tree, indent=1, allow_nan=False) + "\n"
    return "\n".join(map(markdown if form == "markdown" else text, found))


def _pairs(old: str, new: str) -> tuple[list[tuple[Run, Run]], list[str]]:
    """The runs to be held against each other, and which were left out. Raises `ReportError`."""
    one, other = runs_of(old), runs_of(new)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        common = [run_id for run_id in one if run_id in other]
        if common:
            return [(one[run_id], other[run_id]) for run_id in common], list(_alone(old, one, other, new))
    return [(_only(old, one), _only(new, other))], []


def _only(argument: str, found: dict[str, Run] | Run) -> Run:
    if isinstance(found, Run):
        return found
    if len(found) != 1:
        names = ", ".join(found) or "none"
        raise ReportError(
            f"{argument} has {len(found)} outcomes to choose from ({names}); write {argument}{SEPARATOR}ID"
        )
    (run,) = found.values()
    return run


def _alone(old: str, one: Mapping[str, Run], other: Mapping[str, Run], new: str) -> Iterator[str]:
    for place, ids in ((old, one.keys() - other.keys()), (new, other.keys() - one.keys())):
        if ids:
            yield f"only in {place}, not compared: {', '.join(sorted(ids))}"


def _with_batch(run: Run, batch: int | None) -> Run:
    if batch is None:
        return run
    if run.batch not in (None, batch):
        raise ReportError(f"{run.name} has an effective batch of {run.batch}, not {batch}")
    return replace(run, batch=batch)
