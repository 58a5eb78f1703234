"""`compare OLD NEW`: what changed between two smoke runs, two logs, or a smoke run and a log."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace

from pytest_smoke.cli.arguments import Subparsers, fail, positive_int, print_message
from pytest_smoke.compare.comparison import Run, RunComparison, compare
from pytest_smoke.compare.runs import SEPARATOR, read_runs
from pytest_smoke.errors import ReportError
from pytest_smoke.files import strict_json
from pytest_smoke.report.comparison import comparison_markdown, comparison_text
from pytest_smoke.text import count, printable

EXIT_COMPARED = 0
SCHEMA = 1
"""Version of the JSON output; raised when a key changes its meaning or goes away."""


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "compare",
        help="compare two smoke runs or training logs",
        description="Compare two runs. Each is a folder written by --smoke-report, a verdicts.json, PATH::ID for one "
        "of its smoke runs, or any log that `judge` reads.",
        epilog="Exit status: 0 if the runs were compared, whatever the result; 2 if they could not be compared.",
    )
    parser.add_argument("old", metavar="OLD", help="report, smoke run or log to compare with")
    parser.add_argument("new", metavar="NEW", help="report, smoke run or log of the newer run")
    parser.add_argument(
        "--format", choices=("text", "markdown", "json"), default="text", help="output format (default: text)"
    )
    for which in ("old", "new"):
        parser.add_argument(
            f"--{which}-batch",
            type=positive_int,
            metavar="N",
            help=f"effective batch size of {which.upper()}, in samples; needed for logs that do not say it",
        )


def run(args: argparse.Namespace) -> int:
    """Compare, print, and return the exit code."""
    try:
        pairs, notices = _pairs(args.old, args.new)
        comparisons = [
            compare(_with_batch(old, args.old_batch, "--old-batch"), _with_batch(new, args.new_batch, "--new-batch"))
            for old, new in pairs
        ]
    except ReportError as error:
        return fail("compare", str(error))
    for notice in notices:
        print_message("note", notice)
    sys.stdout.write(printable(_render(comparisons, args.format), sys.stdout.encoding))
    return EXIT_COMPARED


def _render(comparisons: list[RunComparison], form: str) -> str:
    if form == "json":
        tree = {"schema": SCHEMA, "comparisons": [comparison.to_dict() for comparison in comparisons]}
        return strict_json(tree, indent=1) + "\n"
    return "\n".join(map(comparison_markdown if form == "markdown" else comparison_text, comparisons))


def _pairs(old: str, new: str) -> tuple[list[tuple[Run, Run]], list[str]]:
    """Return the runs to compare with each other, and a notice on those that are left out. Raises ReportError."""
    old_runs, new_runs = read_runs(old), read_runs(new)
    if isinstance(old_runs, Mapping) and isinstance(new_runs, Mapping):
        common = [run_id for run_id in old_runs if run_id in new_runs]
        if common:
            pairs = [(old_runs[run_id], new_runs[run_id]) for run_id in common]
            return pairs, list(_unpaired(old, old_runs, new_runs, new))
    return [(_single(old, old_runs), _single(new, new_runs))], []


def _single(argument: str, runs: dict[str, Run] | Run) -> Run:
    if isinstance(runs, Run):
        return runs
    if len(runs) != 1:
        if not runs:
            raise ReportError(
                f"{argument} contains no smoke runs; write a report with pytest --smoke --smoke-report DIR"
            )
        choice = f"choose one with {argument}{SEPARATOR}ID: {', '.join(runs)}"
        raise ReportError(f"{argument} contains {count(len(runs), 'smoke run')}; {choice}")
    (only,) = runs.values()
    return only


def _unpaired(old: str, old_runs: Mapping[str, Run], new_runs: Mapping[str, Run], new: str) -> Iterator[str]:
    for place, ids in ((old, old_runs.keys() - new_runs.keys()), (new, new_runs.keys() - old_runs.keys())):
        if ids:
            missing = "it was" if len(ids) == 1 else "they were"
            yield f"only {place} has {', '.join(sorted(ids))}, so {missing} not compared"


def _with_batch(run: Run, batch: int | None, option: str) -> Run:
    if batch is None:
        return run
    if run.facts and run.batch not in (None, batch):  # a column of a log may count the samples of one rank
        raise ReportError(f"{option} {batch}: {run.name} has an effective batch of {run.batch}; remove {option}")
    return replace(run, batch=batch)
