"""`probe RECIPE --checkpoint FILE`: which loss term pulls how hard, and against which."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_smoke.recipe.case import Case
    from pytest_smoke.train.gradient_probe import Probed

EXIT_WITHIN, EXIT_LEFT, EXIT_ERROR = 0, 1, 2
ROOT_MARKS = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
"""Files that make a folder pytest's root."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "probe",
        help="differentiate a recipe's loss terms one by one on a checkpoint",
        description="Differentiate a recipe's loss terms one by one on a checkpoint. Exit 0: within bounds; 1: a "
        "declared bound (checks.grad_ratio) is left or, where none is, one term's weighted gradient is more than 8 "
        "times another's, or a gradient is not finite; 2: could not be probed.",
    )
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="a *.smoke.yaml")
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        type=Path,
        help="a smoke's checkpoint folder, a .safetensors file or a torch.save'd state_dict; absent: the initial model",
    )
    parser.add_argument("--batches", type=_count, metavar="N", default=8, help="effective batches to draw (default 8)")
    parser.add_argument("--cell", metavar="NAME", help="the ablation cell to probe; absent: the baseline")
    parser.add_argument("--device", default="auto", metavar="D", help="auto (default), cpu, mps, cuda or cuda:N")
    parser.add_argument("--root", type=Path, metavar="DIR", help="where tasks are imported from; absent: pytest's root")
    parser.add_argument("--format", choices=("text", "json"), default="text")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Probe and print; the exit code."""
    kind, _, index = args.device.partition(":")
    if kind not in ("auto", "cpu", "mps", "cuda") or (":" in args.device and not (kind == "cuda" and index.isdigit())):
        return _failed(f"--device {args.device!r}: must be auto, cpu, mps, cuda or cuda:N")
    root = (args.root or _root_of(args.recipe)).absolute()
    try:
        case = _case(args.recipe, root, args.cell)
    except (ValueError, OSError) as error:  # RecipeError is one
        return _failed(str(error))
    from pytest_smoke.train.crash import crash_of  # torch: only now
    from pytest_smoke.train.gradient_probe import probe

    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a task prints is no part of the answer
            found = probe(_plan(case, root, args.device), args.checkpoint, batches=args.batches)
    except (Exception, SystemExit) as error:
        crash = crash_of(error, str(root))
        at = f" at {crash.place}" if crash.place and crash.traceback else ""
        return _failed("\n".join(filter(None, [f"{crash.text}{at}", crash.traceback])))
    return _show(args, case, found)


def _case(path: Path, root: Path, cell: str | None) -> Case:
    from pytest_smoke.recipe.load import load_cases  # pydantic and yaml come with the room

    cases = load_cases(path, root=root)
    meant = next((case for case in cases if case.cell == cell), None)
    if meant is None:
        known = ", ".join(dict.fromkeys(case.cell for case in cases if case.cell)) or "none"
        raise ValueError(f"--cell {cell}: {path} has no such ablation cell; it has: {known}")
    return meant


def _plan(case: Case, root: Path, device: str) -> Any:
    """The smoke's plan; where its effective batch is not the full run's, with the full run's geometry."""
    from pytest_smoke.train.plan import RunPlan

    plan, full = RunPlan.of(case, root=str(root), device=device), case.full
    if case.settings.effective_batch == full.effective_batch:
        return plan
    return replace(plan, batch_size=full.batch_size, micro_batches=full.grad_accum_steps, world_size=full.world_size)


def _show(args: argparse.Namespace, case: Case, found: Probed) -> int:
    from pytest_smoke.cli.probe_table import json_tree, lines
    from pytest_smoke.judge.checks.grad_ratio import TermNorms
    from pytest_smoke.judge.gradient_probe import read_probe

    terms = list(found.weights)
    norms = [TermNorms(step=b.step, raw=b.raw, weighted=b.weighted, cosines=b.cosines) for b in found.batches]
    reading = read_probe(norms, found.weights, case.recipe.checks.grad_ratio)
    code = EXIT_WITHIN if reading.within else EXIT_LEFT
    cell = f"[{case.cell}]" if case.cell else ""
    if args.format == "json":
        about = {
            "recipe": case.path,
            "cell": case.cell,
            "checkpoint": str(args.checkpoint) if args.checkpoint else None,
            "step": found.step,
            "device": found.device,
            "batches": len(found.batches),
            "effective_batch_samples": case.full.effective_batch,
        }
        print(json.dumps({**about, **json_tree(reading)}, allow_nan=False))
        return code
    step = f" ({found.kind}, before step {found.step})" if found.step is not None else ""
    where = f"{args.checkpoint}{step}" if args.checkpoint else "the initial model (no --checkpoint was given)"
    print(f"{case.path}{cell}: {len(terms)} loss terms on {where}")
    print(f"{len(found.batches)} effective batches of {case.full.effective_batch} samples, on {found.device}")
    print()
    for line in lines(reading):
        print(line)
    return code


def _root_of(recipe: Path) -> Path:
    """The nearest folder above the recipe that pytest would call its root; else the current one."""
    folders = recipe.absolute().parents
    return next((folder for folder in folders if any((folder / mark).exists() for mark in ROOT_MARKS)), Path.cwd())


def _failed(text: str) -> int:
    print(f"probe: {text}", file=sys.stderr)
    return EXIT_ERROR
