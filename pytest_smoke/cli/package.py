"""`package FOLDER`: check that a packaged model loads and reproduces the outputs it was packaged with."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from pytest_smoke.allowed import TASKS_KEY, allowed_by_files
from pytest_smoke.cli.arguments import Subparsers, add_format, fail, print_json, print_text
from pytest_smoke.errors import SmokeError

EXIT_SOUND, EXIT_DAMAGED = 0, 1


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "package",
        help="check a packaged model",
        description="Check a model package written by the export pipeline of a smoke run: compare the checksums, then "
        "load and run the weights and the ONNX files.",
        epilog="Exit status: 0 if every part of the package passed, 1 if one did not, 2 if there is no package.",
    )
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="DIR/packages/NAME, written by --smoke-report DIR"
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder that the task is imported from (default: the current folder)",
    )
    parser.add_argument(
        "--allow-task",
        action="append",
        default=[],
        metavar="GLOB",
        help="module or package outside that folder that the task may be in, in addition to those of the ini key "
        f"{TASKS_KEY} there; may be repeated",
    )
    add_format(parser, json_help="one object per part of a package, each on its own line")


def run(args: argparse.Namespace) -> int:
    """Check, print, and return the worst exit code of all packages."""
    return max(_check(folder, args) for folder in args.folders)


def _check(folder: Path, args: argparse.Namespace) -> int:
    from pytest_smoke.train.export.verify import check_package  # imports torch

    sound, several = True, len(args.folders) > 1
    root = args.root.resolve()
    try:
        allowed = allowed_by_files(root)
        allowed = replace(allowed, tasks=(*allowed.tasks, *args.allow_task))
        for part in check_package(folder, root=root, allowed=allowed):
            sound = sound and part.ok
            if args.format == "json":
                package = {"package": str(folder)} if several else {}
                print_json(package | part.to_dict())
            else:
                where = f"{folder.name}: " if several else ""
                print_text(f"{'ok  ' if part.ok else 'FAIL'}  {where}{part.part}: {part.text}")
    except SmokeError as error:
        return fail("package", str(error))
    return EXIT_SOUND if sound else EXIT_DAMAGED
