"""`schema`: the JSON Schema of a recipe, for editors."""

from __future__ import annotations

import argparse

from pytest_smoke.cli.arguments import Subparsers, print_json


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    subparsers.add_parser(
        "schema",
        help="print the JSON Schema of recipes",
        description="Print the JSON Schema of recipes, which editors use to complete and check them.",
    )


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    from pytest_smoke.recipe.schema import json_schema  # imports pydantic, which takes 0.2 s

    print_json(json_schema(), indent=2)
    return 0
