"""`audit RECIPE|CORPUS`: compare the data mix with the intended one."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_smoke.cli.arguments import (
    EXIT_ERROR,
    Subparsers,
    add_format,
    fail,
    positive_int,
    print_json,
    print_text,
    require_task,
)
from pytest_smoke.errors import AuditError, SmokeError
from pytest_smoke.mix.audit import MixAudit, MixFault, MixIntent, PlainMix, PlainSource, audit, share_text
from pytest_smoke.mix.corpus import Corpus, count_corpus
from pytest_smoke.mix.samples import SampleCounter, SampledMixAudit, audit_samples
from pytest_smoke.roots import task_root
from pytest_smoke.text import table

if TYPE_CHECKING:
    from pytest_smoke.recipe.case import Case

EXIT_AS_INTENDED, EXIT_NOT_AS_INTENDED = 0, 1
SHARES = ("estimated", "intended", "sampled")
"""Columns that hold shares."""
NUMBERS = ("rows", "shards", "weight", *SHARES)
"""Columns that are flush right."""
OK = "ok"
"""Verdict on a source without faults in the JSON form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """Everything that was found about one recipe or corpus."""

    path: str
    corpus: Corpus
    mix: MixIntent
    audit: MixAudit | None
    """None if nothing is known but the samples."""
    samples: SampleCounter | None
    sampled: SampledMixAudit | None
    notes: tuple[str, ...]

    @property
    def faults(self) -> tuple[MixFault, ...]:
        """Differences from the intended mix."""
        return (*(self.audit.faults if self.audit else ()), *(self.sampled.faults if self.sampled else ()))

    @property
    def all_notes(self) -> tuple[str, ...]:
        """Warnings about the samples, then notes."""
        return (*(warning.text for warning in (self.sampled.warnings if self.sampled else ())), *self.notes)

    @property
    def as_intended(self) -> bool:
        """Whether there are no faults."""
        return not self.faults

    def sources(self) -> Iterator[dict[str, Any]]:
        """Yield one table row per source, largest estimated share first; None for figures that are not known."""
        shares = self.audit.shares if self.audit else {}
        sampled = self.sampled.shares if self.sampled else {}
        for name in dict.fromkeys([*shares, *self.corpus.counts, *sampled]):
            source = self.mix.sources.get(name)
            reasons = dict.fromkeys(fault.reason for fault in self.faults if fault.source == name)
            yield {
                "source": name,
                self.corpus.unit: self.corpus.counts.get(name, 0) if self.audit else None,
                "weight": source.weight if source else None,
                "estimated": shares.get(name),
                "intended": source.share if source else None,
                "sampled": sampled.get(name, 0.0) if self.sampled else None,
                "verdict": ", ".join(reasons) or OK,
            }

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "audited": self.path,
            "verdict": "as-intended" if self.as_intended else "not-as-intended",
            "sources": list(self.sources()),
            "samples": self.samples.samples if self.samples else None,
            "faults": [{"reason": f.reason, "source": f.source, "text": f.text} for f in self.faults],
            "notes": list(self.all_notes),
        }

    def lines(self) -> list[str]:
        """Return the text form: a table of sources, the result, then one line per fault and note."""
        sources = list(self.sources())
        columns = [name for name in sources[0] if any(source[name] is not None for source in sources)]
        header = ["problem" if name == "verdict" else name for name in columns]
        rows = [header, *([_cell(name, source[name]) for name in columns] for source in sources)]
        return [
            *table(rows, right=[at for at, name in enumerate(columns) if name in NUMBERS]),
            "",
            f"{self.path}: the mix is {'as intended' if self.as_intended else 'not as intended'}",
            *(f"  {fault.reason}: {fault.text}" for fault in self.faults),
            *(f"  note: {note}" for note in self.all_notes),
        ]


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "audit",
        help="check the data mix of a recipe or a corpus",
        description="Compare a data mix with the intended one. The estimated share of a source is its rows x weight, "
        "divided by the sum over all sources.",
        epilog="Exit status: 0 if the mix is as intended, 1 if it is not, 2 if it could not be audited.",
    )
    parser.add_argument(
        "path", metavar="RECIPE|CORPUS", type=Path, help="recipe, folder of data files, single data file, or manifest"
    )
    parser.add_argument(
        "--recipe",
        type=Path,
        metavar="RECIPE",
        help="with CORPUS: recipe with the weights and intended shares, in its `mix` section (default: weight 1 each)",
    )
    parser.add_argument(
        "--by",
        choices=("manifest", "rows", "shards"),
        help="with CORPUS: what to count (default: what the manifest states, if there is one, else rows)",
    )
    parser.add_argument(
        "--source-field",
        metavar="FIELD",
        help="with CORPUS: field of each row that names its source (default: sources are told apart by file names)",
    )
    parser.add_argument(
        "--draw",
        type=positive_int,
        metavar="N",
        help="also sample N micro-batches from the recipe's task and compare the sampled mix",
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="folder that the task is imported from (default: pytest's rootdir above the recipe)",
    )
    add_format(parser, json_help="one object")


def run(args: argparse.Namespace) -> int:
    """Audit, print, and return the exit code."""
    try:
        result = _audit(args)
    except SmokeError as error:
        if args.format == "json":
            print_json({"audited": str(args.path), "verdict": "error", "text": str(error)})
            return EXIT_ERROR
        return fail("audit", *str(error).splitlines())
    if args.format == "json":
        print_json(result.to_dict())
    else:
        print_text("\n".join(result.lines()))
    return EXIT_AS_INTENDED if result.as_intended else EXIT_NOT_AS_INTENDED


def _audit(args: argparse.Namespace) -> AuditResult:
    is_recipe = args.path.suffix.lower() in (".yaml", ".yml")
    if is_recipe and args.recipe is not None:
        raise AuditError(f"--recipe needs a corpus, but {args.path} is a recipe; use: audit CORPUS --recipe RECIPE")
    if is_recipe and (args.by or args.source_field):
        raise AuditError(
            f"--by and --source-field need a corpus, but {args.path} is a recipe; "
            f"use: audit CORPUS --recipe {args.path}"
        )
    recipe = args.path if is_recipe else args.recipe
    if args.draw and recipe is None:
        raise AuditError("--draw needs a recipe, whose task it samples from; add --recipe RECIPE")
    root = (args.root or task_root(recipe)).resolve() if recipe is not None else Path()
    case = _case(recipe, root) if recipe is not None else None
    mix = case.recipe.mix if case is not None else None
    if recipe is not None and mix is None and not (is_recipe and args.draw):
        raise AuditError(f"{recipe} has no `mix` section; add one, or audit a corpus without --recipe")

    corpus, notes = Corpus(counts={}, unit="rows"), []
    if not is_recipe:
        corpus = count_corpus(args.path, by=args.by, source_field=args.source_field)
    if mix is not None:
        from pytest_smoke.judge.checks.mix import corpus_of, stale_rows  # imports pydantic, as the recipe did already

        corpus = corpus_of(mix) if is_recipe else corpus
        notes = stale_rows(mix, corpus)
    intent: MixIntent = mix or PlainMix(sources=dict.fromkeys(corpus.counts, PlainSource()))
    estimated = audit(corpus.counts, intent, unit=corpus.unit) if corpus.counts else None
    samples = _sample(case, root, args.draw) if case is not None and args.draw else None
    return AuditResult(
        path=str(args.path),
        corpus=corpus,
        mix=intent,
        audit=estimated,
        samples=samples,
        sampled=audit_samples(samples, estimated.shares if estimated else None, intent) if samples else None,
        notes=(*corpus.notes, *notes),
    )


def _case(recipe: Path, root: Path) -> Case:
    """Return the recipe's first smoke run; all its cells share the mix. Raises RecipeError."""
    from pytest_smoke.recipe.load import load_cases  # imports yaml and pydantic

    return load_cases(recipe, root=root)[0]


def _sample(case: Case, root: Path, micro_batches: int) -> SampleCounter:
    """Count the samples of the task's first micro-batches. Raises AuditError with the exception of the task."""
    from pytest_smoke.train.crash import crash_of
    from pytest_smoke.train.data import count_sources  # imports torch
    from pytest_smoke.train.plan import RunPlan

    require_task(case)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a task that prints must not break the output
            return count_sources(RunPlan.of(case, root=str(root), device="cpu"), micro_batches)
    except (Exception, SystemExit) as error:
        crash = crash_of(error, str(root))
        place = f" at {crash.place}" if crash.place else ""
        raise AuditError(f"sampling from the task failed: {crash.text}{place}") from None


def _cell(column: str, value: Any) -> str:
    if value is None or (column == "verdict" and value == OK):
        return "-"
    if column in SHARES:
        return share_text(value)
    if isinstance(value, str):
        return value if value.isprintable() else repr(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
