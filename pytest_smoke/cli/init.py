"""`init`: a starter recipe that runs as written."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser("init", help="write a commented starter recipe and its task to this folder")
    parser.add_argument("name", nargs="?", default="starter", help="name of the recipe (default: starter)")


def run(args: argparse.Namespace) -> int:
    """Write both files, or neither; 2 where one is there already or the name is none."""
    from pytest_smoke.recipe.starter import write_starter  # pydantic comes with the room

    try:
        written = write_starter(Path(), args.name)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for path in written:
        print(f"wrote {path}")
    recipe = next(path for path in written if path.suffix == ".yaml")
    print(f"run it: pytest --smoke {recipe}")
    return 0
