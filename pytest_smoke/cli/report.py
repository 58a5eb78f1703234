"""`report DIR|LOG...`: the HTML page of reports of smoke runs, and of logs that any trainer wrote."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pytest_smoke.cli.arguments import (
    EXIT_ERROR,
    Subparsers,
    add_log_options,
    fail,
    log_options,
    print_message,
    print_text,
)
from pytest_smoke.files import VERDICTS, open_regular, read_failure, write_atomic
from pytest_smoke.logs import find
from pytest_smoke.page.html import GENERATOR
from pytest_smoke.page.report import INDEX, page
from pytest_smoke.page.sources import UNREADABLE, runs_of, told_apart
from pytest_smoke.text import count

DEFAULT_OUTPUT = "report.html"
"""File for what is not the report of one folder."""
HEAD_BYTES = 2000
"""Beginning of a file in which a page says what made it."""


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "report",
        help="make an HTML page of smoke runs and logs",
        description="Make one HTML page with interactive plots of the smoke runs in report folders, and of the logs of "
        "any trainer, which it judges as `judge` does. The page needs no network. In a folder without a "
        f"{VERDICTS}, these files are logs: {find.searched()}.",
        epilog="Exit status: 0 if the page was written, whatever the verdicts; 2 if something could not be read, or "
        "the page cannot be written.",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="DIR|LOG",
        help="folder written by --smoke-report, log file, folder of logs, or - for standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"file to write (default: {INDEX} in the report folder if it is the only argument, else {DEFAULT_OUTPUT})",
    )
    add_log_options(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page, print its path, and return the exit code."""
    names, description = log_options(args)
    output = args.output or _default_output(args.sources)
    if (foreign := foreign_output(output)) is not None:
        return fail("report", foreign)
    found = [(argument, runs_of(argument, names, description)) for argument in args.sources]
    problems = [problem for _, one in found for problem in one.problems]
    runs = told_apart(found)
    for problem in problems:
        print_message("report", problem)
    if all(run.outcome.decided_by == UNREADABLE for run in runs):
        return EXIT_ERROR if problems else fail("report", f"{args.sources[0]} contains no smoke runs")
    try:
        write_atomic(output, page(runs, problems=problems))
    except OSError as error:
        return fail("report", f"{output} could not be written: {error.strerror or error}")
    print_text(f"{count(len(runs), 'run')}: {output}")
    return EXIT_ERROR if problems else 0


def _default_output(sources: list[str]) -> Path:
    if len(sources) == 1:
        only = Path(sources[0])
        folder = only.parent if only.name == VERDICTS else only
        if os.path.isfile(folder / VERDICTS):
            return folder / INDEX
    return Path(DEFAULT_OUTPUT)


def foreign_output(output: Path) -> str | None:
    """Say why a file must not be written over; None if it does not exist or is a page of ours."""
    if output.is_dir():
        return f"{output} is a folder; name a file with --output"
    try:
        with open_regular(output) as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{output}: {read_failure(error)}; name another file with --output"
    if GENERATOR.encode() in head:
        return None
    return f"{output} exists and was not made by this command; name another file with --output"
