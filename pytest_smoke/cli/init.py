"""`init`: write a starter recipe that runs as it is."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_smoke.cli.arguments import Subparsers, fail, print_text


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "init",
        help="create a starter recipe",
        description="Create a commented recipe and its task in the current folder: NAME.smoke.yaml and NAME_task.py. "
        "Existing files are never overwritten.",
        epilog="Exit status: 0 if both files were written, 2 if none was.",
    )
    for key, what in (
        ("hf", "a Hugging Face Trainer, NAME_trainer.py"),
        ("lightning", "a LightningModule, NAME_module.py"),
        ("command", "a training script, NAME_train.py"),
    ):
        parser.add_argument(
            f"--{key}",
            dest="trainer",
            action="store_const",
            const=key,
            default="task",
            help=f"create a recipe of {what}, instead of a task",
        )
    parser.add_argument("name", metavar="NAME", nargs="?", default="starter", help="recipe name (default: starter)")


def run(args: argparse.Namespace) -> int:
    """Write both files, or none; return 2 if a file exists or the name cannot be used."""
    from pytest_smoke.recipe.starter import write_starter  # imports pydantic

    try:
        written = write_starter(Path(), args.name, args.trainer)
    except (ValueError, OSError) as error:
        return fail("init", str(error))
    for path in written:
        print_text(f"created {path}")
    recipe = next(path for path in written if path.suffix == ".yaml")
    print_text(f"run it with: pytest --smoke {recipe}")
    return 0
