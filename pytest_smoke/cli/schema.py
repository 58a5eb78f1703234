"""`schema`: the JSON Schema of recipes or of `verdicts.json`."""

from __future__ import annotations

import argparse

from pytest_smoke.cli.arguments import Subparsers, print_json


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "schema",
        help="print the JSON Schema of recipes or of verdicts.json",
        description="Print a JSON Schema: that of recipes, which editors use to complete and check them, or that of "
        "verdicts.json, for programs that read it.",
        epilog="Exit status: 0 if the schema was printed.",
    )
    parser.add_argument(
        "--of", choices=("recipe", "verdicts"), default="recipe", help="what the schema describes (default: recipe)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    # Both import pydantic, which takes 0.2 s.
    if args.of == "verdicts":
        from pytest_smoke.report import verdicts_schema

        schema = verdicts_schema.json_schema()
    else:
        from pytest_smoke.recipe.schema import json_schema

        schema = json_schema()
    print_json(schema, indent=2)
    return 0
