"""`audit RECIPE|CORPUS`: is the data mix the one that was meant?"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_smoke.cli.audit_table import Audited, show, show_error
from pytest_smoke.errors import AuditError, CorpusError
from pytest_smoke.mix.audit import Intent, Mix, Source, audit
from pytest_smoke.mix.corpus import Corpus, count
from pytest_smoke.mix.draws import Draws, audit_draws

if TYPE_CHECKING:
    from pytest_smoke.recipe.case import Case

EXIT_INTENDED, EXIT_NOT_INTENDED, EXIT_ERROR = 0, 1, 2
ROOT_FILES = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
"""What makes a folder pytest's root."""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "audit",
        help="hold the data mix against what was meant",
        description="Share of each source = rows x weight over the sum of rows x weight, of a recipe's mix: or of a "
        "corpus. Exit 0: the mix is as intended; 1: it is not; 2: it could not be audited.",
    )
    parser.add_argument(
        "path", metavar="RECIPE|CORPUS", type=Path, help="a recipe; a folder of data, a file of it, or a manifest"
    )
    parser.add_argument(
        "--recipe", type=Path, metavar="RECIPE", help="weigh the corpus by this recipe's mix: (without: weight 1 each)"
    )
    parser.add_argument(
        "--by",
        choices=("manifest", "rows", "shards"),
        help="what counts in a corpus; default: its manifest where it has one, else rows",
    )
    parser.add_argument(
        "--source-field", metavar="FIELD", help="the field of each row that names its source; default: files tell"
    )
    parser.add_argument(
        "--draw",
        type=_count,
        metavar="N",
        help="also ask the recipe's task for its first N micro-batches, and hold what it drew against the mix",
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="folder that the task is imported from; default: pytest's, above the recipe",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one object")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Audit and print; the exit code."""
    try:
        found = _audited(args)
    except (AuditError, CorpusError, ValueError) as error:  # a RecipeError is a ValueError that lists its faults
        show_error(str(args.path), str(error), args.format)
        return EXIT_ERROR
    show(found, args.format)
    return EXIT_INTENDED if found.as_intended else EXIT_NOT_INTENDED


def _audited(args: argparse.Namespace) -> Audited:
    is_recipe = args.path.suffix.lower() in (".yaml", ".yml")
    if is_recipe and args.recipe is not None:
        raise AuditError("--recipe weighs a corpus, and this is a recipe already; leave it out")
    if is_recipe and (args.by or args.source_field):
        raise AuditError(
            "--by and --source-field say how a corpus is counted; name the corpus, and the recipe with --recipe"
        )
    recipe = args.path if is_recipe else args.recipe
    if args.draw and recipe is None:
        raise AuditError("--draw asks a recipe's task; name the recipe with --recipe")
    root = (args.root or _root_above(recipe)).resolve() if recipe is not None else Path()
    case = _case(recipe, root) if recipe is not None else None
    mix = case.recipe.mix if case is not None else None
    if recipe is not None and mix is None and not (is_recipe and args.draw):
        raise AuditError(f"{recipe} has no mix: to audit; write one, or name a corpus without --recipe")

    corpus, notes = Corpus(counts={}, unit="rows"), []
    if not is_recipe:
        corpus = count(args.path, by=args.by, source_field=args.source_field)
    if mix is not None:
        from pytest_smoke.judge.checks.mix import corpus_of, stale_rows  # pydantic comes with it, and is here already

        corpus = corpus_of(mix) if is_recipe else corpus
        notes = stale_rows(mix, corpus)
    intent: Intent = mix or Mix(sources=dict.fromkeys(corpus.counts, Source()))
    found = audit(corpus.counts, intent, unit=corpus.unit) if corpus.counts else None
    draws = _drawn(case, root, args.draw) if case is not None and args.draw else None
    return Audited(
        path=str(args.path),
        corpus=corpus,
        mix=intent,
        audit=found,
        draws=draws,
        drawn=audit_draws(draws, found.shares if found else None, intent) if draws else None,
        notes=(*corpus.notes, *notes),
    )


def _case(recipe: Path, root: Path) -> Case:
    """The recipe's first smoke; its cells share the mix. Raises RecipeError."""
    from pytest_smoke.recipe.load import load_cases  # yaml and pydantic, for a recipe only

    return load_cases(recipe, root=root)[0]


def _drawn(case: Case, root: Path, micro_batches: int) -> Draws:
    """What the task draws. Raises AuditError with what it raised, and where."""
    from pytest_smoke.train.crash import crash_of
    from pytest_smoke.train.data import draw  # torch, because its task was asked for
    from pytest_smoke.train.plan import RunPlan

    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the task prints is no part of the table
            return draw(RunPlan.of(case, root=str(root), device="cpu"), micro_batches)
    except (Exception, SystemExit) as error:
        crash = crash_of(error, str(root))
        raise AuditError(
            f"the task could not be drawn from: {crash.text}{f' at {crash.place}' if crash.place else ''}"
        ) from None


def _root_above(recipe: Path) -> Path:
    above = recipe.resolve().parents
    return next((folder for folder in above if any((folder / name).is_file() for name in ROOT_FILES)), Path.cwd())
