"""`probe RECIPE`: the gradient of each loss term, on a checkpoint or at initialization."""

from __future__ import annotations

import argparse
import contextlib
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_smoke.cli.arguments import (
    Subparsers,
    add_format,
    device,
    fail,
    positive_int,
    print_json,
    print_text,
    require_task,
)
from pytest_smoke.devices import DEVICE_HELP
from pytest_smoke.errors import RecipeError, SmokeError
from pytest_smoke.roots import task_root
from pytest_smoke.text import count, number, table

if TYPE_CHECKING:
    from pytest_smoke.judge.gradient_probe import PairReading, ProbeReading, Spread, TermReading
    from pytest_smoke.recipe.case import Case
    from pytest_smoke.train.gradient_probe import ProbeResult

EXIT_WITHIN, EXIT_OUTSIDE = 0, 1
PAIRS_SHOWN = 6
"""Pairs of terms in the text form; of more, those with the widest ratio."""
TEXT_WIDTH = 100
"""Columns of the sentences in the text form."""

_TERM_HEADER = ("term", "weight", "raw norm", "range", "weighted", "range")
_PAIR_HEADER = ("ratio", "raw", "range", "weighted", "range", "cosine", "range")


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "probe",
        help="measure the gradient of each loss term",
        description="Compute the gradient norm of each loss term of a recipe, and the ratios and cosines between "
        "them, on a checkpoint or on the initial model.",
        epilog="Exit status: 0 if the gradients are within bounds; 1 if a ratio is outside its bounds "
        "(checks.grad_ratio; without it, a weighted norm more than 8x another one) or a gradient is not finite; 2 if "
        "the probe failed.",
    )
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="recipe file (*.smoke.yaml)")
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        type=Path,
        help="checkpoint folder of a smoke run, .safetensors file, or state_dict saved by torch.save (default: the "
        "initial model)",
    )
    parser.add_argument(
        "--batches", type=positive_int, metavar="N", default=8, help="number of effective batches (default: 8)"
    )
    parser.add_argument("--cell", metavar="NAME", help="ablation cell (default: the recipe without ablation)")
    parser.add_argument("--device", type=device, default="auto", metavar="DEVICE", help=DEVICE_HELP)
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="folder that tasks are imported from (default: pytest's rootdir above the recipe)",
    )
    add_format(parser, json_help="one object")


def run(args: argparse.Namespace) -> int:
    """Probe, print, and return the exit code."""
    root = (args.root or task_root(args.recipe)).absolute()
    try:
        case = _case(args.recipe, root, args.cell)
    except RecipeError as error:
        return fail("probe", *map(str, error.faults))
    except (SmokeError, OSError) as error:
        return fail("probe", str(error))
    from pytest_smoke.train.crash import crash_of  # imports torch
    from pytest_smoke.train.gradient_probe import probe

    try:
        with contextlib.redirect_stdout(sys.stderr):  # a task that prints must not break the output
            probed = probe(_plan(case, root, args.device), args.checkpoint, batches=args.batches)
    except (Exception, SystemExit) as error:
        crash = crash_of(error, str(root))
        place = f" at {crash.place}" if crash.place and crash.traceback else ""
        return fail("probe", "\n".join(filter(None, [f"{crash.text}{place}", crash.traceback])))
    return _report(args, case, probed)


def _case(path: Path, root: Path, cell: str | None) -> Case:
    from pytest_smoke.recipe.load import load_cases  # imports pydantic and yaml

    cases = load_cases(path, root=root)
    chosen = next((case for case in cases if case.cell == cell), None)
    if chosen is None:
        known = ", ".join(dict.fromkeys(case.cell for case in cases if case.cell)) or "none"
        raise SmokeError(f"--cell {cell}: {path} has no such ablation cell; its cells: {known}")
    require_task(chosen)
    return chosen


def _plan(case: Case, root: Path, device: str) -> Any:
    """Return the smoke run's plan, but with the full run's batch geometry if their effective batches differ."""
    from pytest_smoke.train.plan import RunPlan

    plan, full = RunPlan.of(case, root=str(root), device=device), case.full
    if case.settings.effective_batch == full.effective_batch:
        return plan
    return replace(plan, batch_size=full.batch_size, micro_batches=full.grad_accum_steps, world_size=full.world_size)


def _report(args: argparse.Namespace, case: Case, probed: ProbeResult) -> int:
    from pytest_smoke.events import Gradients
    from pytest_smoke.judge.gradient_probe import read_probe

    norms = [Gradients(step=b.step, raw=b.raw, weighted=b.weighted, cosines=b.cosines) for b in probed.batches]
    reading = read_probe(norms, probed.weights, case.recipe.checks.grad_ratio)
    if args.format == "json":
        print_json(
            {
                "recipe": case.path,
                "cell": case.cell,
                "checkpoint": str(args.checkpoint) if args.checkpoint else None,
                "step": probed.step,
                "device": probed.device,
                "batches": len(probed.batches),
                "effective_batch_samples": case.full.effective_batch,
                **asdict(reading),
            }
        )
    else:
        print_text("\n".join(_text(args, case, probed, reading)))
    return EXIT_WITHIN if reading.within else EXIT_OUTSIDE


def _text(args: argparse.Namespace, case: Case, probed: ProbeResult, reading: ProbeReading) -> Iterator[str]:
    """Yield what was probed, norms by term, ratios and cosines by pair, and what the figures mean."""
    cell = f"[{case.cell}]" if case.cell else ""
    step = f" ({probed.kind}, before step {probed.step})" if probed.step is not None else ""
    where = f"{args.checkpoint}{step}" if args.checkpoint else "the initial model (no --checkpoint given)"
    yield f"{case.path}{cell}: {count(len(probed.weights), 'loss term')} on {where}"
    batches = count(len(probed.batches), "effective batch", "effective batches")
    yield f"{batches} of {count(case.full.effective_batch, 'sample')}, on {probed.device}"
    yield ""
    yield from _table(_TERM_HEADER, [_term_row(at, term) for at, term in enumerate(reading.terms, start=1)])
    yield ""
    yield from _table(_PAIR_HEADER, [_pair_row(pair) for pair in reading.pairs[:PAIRS_SHOWN]])
    if len(reading.pairs) > PAIRS_SHOWN:
        yield f"... and {count(len(reading.pairs) - PAIRS_SHOWN, 'pair')} with smaller ratios (--format json has all)"
    if len(reading.terms) > 2:
        yield ""
        yield from _cosine_matrix(reading)
    yield ""
    for sentence in reading.sentences:
        yield from textwrap.wrap(sentence, TEXT_WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _term_row(at: int, term: TermReading) -> Sequence[str]:
    raw, weighted = _median_and_range(term.raw), _median_and_range(term.weighted)
    return (f"{at} {term.name}", f"{term.weight:g}", *raw, *weighted)


def _pair_row(pair: PairReading) -> Sequence[str]:
    figures = (cell for spread in (pair.raw, pair.weighted, pair.cosine) for cell in _median_and_range(spread))
    return (f"{pair.stronger}/{pair.weaker}", *figures)


def _cosine_matrix(reading: ProbeReading) -> list[str]:
    by_pair = {frozenset((pair.stronger, pair.weaker)): pair.cosine.median for pair in reading.pairs}
    names = [term.name for term in reading.terms]
    rows = [
        (
            f"{at} {name}",
            *("1" if other == name else _cosine(by_pair[frozenset((name, other))]) for other in names),
        )
        for at, name in enumerate(names, start=1)
    ]
    return _table(("cosines", *(str(at) for at in range(1, len(names) + 1))), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return table([header, *rows], right=range(1, len(header)))


def _cosine(value: float) -> str:
    return f"{value:.2f}" if isfinite(value) else number(value)


def _median_and_range(spread: Spread) -> tuple[str, str]:
    return number(spread.median, 3), f"{number(spread.low, 3)} to {number(spread.high, 3)}"
