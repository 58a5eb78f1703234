"""`schema`: the JSON Schema of a recipe, for editors."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    subparsers.add_parser("schema", help="print the JSON Schema of a recipe, so that editors complete it")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    from pytest_smoke.recipe.schema import json_schema  # pydantic: 0.2 s that the other commands do not owe

    print(json.dumps(json_schema(), indent=2))
    return 0
