"""`merge DIR... -o OUT`: one report folder from those of several sessions, such as the tasks of a Slurm job."""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_smoke.cli.arguments import Subparsers, add_format, fail, print_json, print_message, print_text
from pytest_smoke.errors import MergeError
from pytest_smoke.plain import plain_name
from pytest_smoke.text import count, printable

if TYPE_CHECKING:
    from pytest_smoke.merge.merge import Merged

EXIT_PROMOTED, EXIT_NOT_PROMOTED = 0, 1
SCHEMA = 1
"""Version of the JSON output; raised when a key changes its meaning or goes away."""


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "merge",
        help="merge the report folders of several sessions",
        description="Merge report folders of several sessions into a new one: outcomes, receipts, traces, logs, "
        "predictions and packages. The page, the summary and the SARIF file are made of all outcomes.",
        epilog="Exit status: 0 if every smoke run was promoted (or completed in a mode without a verdict); 1 if one "
        "was not, or a session did not end; 2 if something could not be read or written, or a smoke run has "
        "different outcomes. Nothing is written then.",
    )
    parser.add_argument("folders", metavar="DIR", nargs="+", type=Path, help="folder written by --smoke-report")
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, required=True, help="folder to write; it must be new or empty"
    )
    parser.add_argument(
        "--newest",
        action="store_true",
        help="if sessions have different outcomes of one smoke run, take the run that started last",
    )
    parser.add_argument(
        "--checkpoints", action="store_true", help="also take checkpoints, as hard links where that is possible"
    )
    add_format(parser, json_help="the counts, and what was not promoted")


def run(args: argparse.Namespace) -> int:
    """Write the merged folder, print its verdicts, and return the exit code."""
    from pytest_smoke.merge.merge import merge  # imports pydantic and yaml

    try:
        merged = merge(args.folders, args.output, newest=args.newest, checkpoints=args.checkpoints)
    except MergeError as error:
        return fail("merge", *error.problems)
    except OSError as error:
        where = plain_name(str(error.filename or args.output))
        return fail("merge", f"{where} could not be written: {error.strerror or error}")
    for note in merged.notes:
        print_message("note", note)
    for folder in merged.incomplete:
        print_message("note", f"the session of {folder} did not end: smoke runs may be missing")
    if args.format == "json":
        print_json(_tree(merged, args.output), indent=1)
    else:
        print_text(_text(merged, args.output))
    return EXIT_NOT_PROMOTED if merged.not_promoted or merged.incomplete else EXIT_PROMOTED


def _text(merged: Merged, output: Path) -> str:
    from pytest_smoke.page.report import INDEX
    from pytest_smoke.report.terminal import verdict_table

    lines = [line for line, _ in verdict_table(merged.outcomes, width=shutil.get_terminal_size().columns)]
    sessions = count(merged.sessions, "session")
    lines.append(f"{count(len(merged.outcomes), 'smoke run')} of {sessions}: {printable(str(output / INDEX))}")
    return "\n".join(lines)


def _tree(merged: Merged, output: Path) -> dict[str, Any]:
    verdicts = Counter(outcome.verdict for outcome in merged.outcomes)
    return {
        "schema": SCHEMA,
        "output": plain_name(str(output)),
        "sessions": merged.sessions,
        "incomplete_sessions": list(merged.incomplete),
        "smoke_runs": len(merged.outcomes),
        "verdicts": dict(sorted(verdicts.items())),
        "not_promoted": [
            {"id": one.id, "verdict": one.verdict, "reason": one.reason, "text": one.text}
            for one in merged.not_promoted
        ],
        "notes": list(merged.notes),
    }
