"""`package FOLDER`: does a packaged model still load, and give the outputs it was packaged with?"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "package",
        help="check a packaged model",
        description="Check a package that a smoke's pipeline wrote: checksums, then weights and ONNX files are loaded "
        "and run. Exit 0: sound; 1: something is not; 2: there is no package.",
    )
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="DIR/packages/NAME under --smoke-report DIR"
    )
    parser.add_argument(
        "--root", type=Path, default=Path(), help="folder that the task is imported from (default: this one)"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one object a line")


def run(args: argparse.Namespace) -> int:
    """Check and print."""
    return max(_checked(folder, args) for folder in args.folders)


def _checked(folder: Path, args: argparse.Namespace) -> int:
    from pytest_smoke.errors import PackageError
    from pytest_smoke.train.export.verify import check_package

    sound, several = True, len(args.folders) > 1
    try:
        for part in check_package(folder, root=args.root.resolve()):
            sound = sound and part.ok
            if args.format == "json":
                wire = {"package": str(folder)} if several else {}
                print(json.dumps(wire | part.to_dict(), allow_nan=False), flush=True)
            else:
                where = f"{folder.name}: " if several else ""
                print(f"{'ok  ' if part.ok else 'FAIL'}  {where}{part.part}: {part.text}", flush=True)
    except PackageError as error:
        print(f"package: {error}", file=sys.stderr)
        return 2
    return 0 if sound else 1
