"""`history FOLDER...`: how every smoke run changed over many sessions, and which one drifts towards a limit."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from pytest_smoke.cli.arguments import Subparsers, add_format, fail, print_json, print_message, print_text
from pytest_smoke.errors import ReportError
from pytest_smoke.files import write_atomic
from pytest_smoke.history.trend import history
from pytest_smoke.report.history import history_text
from pytest_smoke.text import printable

EXIT_STEADY, EXIT_DRIFT = 0, 1
PAGE = "history.html"
"""Name of the page in a folder that `-o` names."""
SCHEMA = 1
"""Version of the JSON output; raised when a key changes its meaning or goes away."""


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "history",
        help="show smoke runs over many sessions, and name those that drift towards a limit",
        description="Read the verdicts.json of every session below a folder, and show how each smoke run changed: its "
        "verdict, its loss, its time, and its margin, which is the distance from the limits that its verdict "
        "depends on.",
        epilog="Exit status: 0 if no margin drifts towards its limit; 1 if one does; 2 if there are no sessions to "
        "read, or the page cannot be written.",
    )
    parser.add_argument(
        "folders",
        metavar="FOLDER",
        nargs="+",
        type=Path,
        help="folder with a report folder for each session, at any depth",
    )
    parser.add_argument(
        "-o", "--output", metavar="PATH", type=Path, help=f"also write a page with plots to PATH, or to PATH/{PAGE}"
    )
    add_format(parser, json_help="all points, series and drifts")


def run(args: argparse.Namespace) -> int:
    """Print the history, write the page, and return the exit code."""
    try:
        found = history(args.folders)
    except ReportError as error:
        return fail("history", str(error))
    for note in found.notes:
        print_message("note", note)
    if args.output is not None:
        from pytest_smoke.cli.report import foreign_output
        from pytest_smoke.page.history import history_page

        path = args.output / PAGE if args.output.is_dir() else args.output
        if (foreign := foreign_output(path)) is not None:
            return fail("history", foreign)
        try:
            write_atomic(path, history_page(found))
        except OSError as error:
            return fail("history", f"{path} could not be written: {error.strerror or error}")
    if args.format == "json":
        print_json({"schema": SCHEMA, **found.to_dict()}, indent=1)
    else:
        width = shutil.get_terminal_size().columns
        sys.stdout.write(printable(history_text(found, width=width), sys.stdout.encoding))
        if args.output is not None:
            print_text(f"written to {path}")
    return EXIT_DRIFT if found.drifting else EXIT_STEADY
