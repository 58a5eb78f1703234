"""The ablation table of a recipe: what each cell changes, its verdict, and its main metric."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_smoke.judge.metrics.main_metric import final_slope
from pytest_smoke.outcome import Outcome
from pytest_smoke.report.layout import WIDTH, fitted_table
from pytest_smoke.report.terminal import label, style
from pytest_smoke.text import number

CHANGE = "change at the end"
"""Column of the main metric's change over its last evaluations."""
DROPPED = ("step", CHANGE, "loss")
"""Columns that are left out of a table too wide for the terminal, the first one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablations:
    """The cells of one recipe and mode, side by side."""

    title: str
    """What the table is about."""
    header: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """One row per cell, the baseline first."""
    outcomes: tuple[Outcome, ...]
    """The outcome of each row."""


def ablations(outcomes: Iterable[Outcome]) -> list[Ablations]:
    """Compare the cells of each recipe and mode with more than one, unless none of their runs made a step."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.recipe, outcome.mode].append(outcome)
    return [
        _compared(recipe, mode, sorted(group, key=lambda outcome: (outcome.cell is not None, outcome.id)))
        for (recipe, mode), group in sorted(groups.items())
        if len({outcome.cell for outcome in group}) > 1 and any(outcome.facts.steps for outcome in group)
    ]


def ablation_tables(outcomes: Iterable[Outcome], *, width: int = WIDTH) -> list[list[tuple[str, str]]]:
    """Render the tables of `ablations` for a terminal.

    A table's first line is its title, its second the header; each line comes with what colours it.
    """
    return [_table(one, width) for one in ablations(outcomes)]


def _compared(recipe: str, mode: str, outcomes: Sequence[Outcome]) -> Ablations:
    facts = next((outcome.facts for outcome in outcomes if outcome.facts.main_metric), None)
    metric = facts.main_metric if facts else None
    better = (facts.main_metric_better if facts else None) or "higher"
    best = [] if metric is None else [f"{'highest' if better == 'higher' else 'lowest'} {metric}", CHANGE]
    return Ablations(
        title=f"ablations of {recipe}, mode {mode}",
        header=("cell", "verdict", "step", *best, "loss", "changes"),
        rows=tuple(tuple(_row(outcome, metric, better)) for outcome in outcomes),
        outcomes=tuple(outcomes),
    )


def _table(found: Ablations, width: int) -> list[tuple[str, str]]:
    rows = fitted_table(found.header, found.rows, width, wrapped=("changes",), dropped=DROPPED)
    styles = ["", *map(style, found.outcomes)]
    title = (found.title, "")
    return [title, *((line, style) for lines, style in zip(rows, styles, strict=True) for line in lines)]


def _row(outcome: Outcome, metric: str | None, better: str) -> list[str]:
    # `verdicts.json` has no number for NaN and infinities: there they are texts, which `float` reads.
    points = [(step, float(value)) for step, value in outcome.metrics.get(metric or "", [])]
    cells = [] if metric is None else [_best(points, better), _change(points)]
    last = outcome.facts.loss_last
    return [
        outcome.cell or "baseline",
        label(outcome),
        "-" if outcome.step is None else str(outcome.step),
        *cells,
        "-" if last is None else number(float(last)),
        ", ".join(f"{key}: {_setting(value)}" for key, value in (outcome.facts.cell_changes or {}).items()) or "-",
    ]


def _best(points: Sequence[tuple[int, float]], better: str) -> str:
    finite = [(value, step) for step, value in points if math.isfinite(value)]
    if not finite:
        return "-"
    sign = 1 if better == "higher" else -1
    value, step = max(finite, key=lambda point: (sign * point[0], -point[1]))
    return f"{number(value)} (step {step})"


def _change(points: Sequence[tuple[int, float]]) -> str:
    slope = final_slope(points)
    if slope is None:
        return "-"
    error = "" if slope.standard_error is None else f" ± {slope.standard_error:.2g}"
    return f"{slope.change:+.2g}{error} ({slope.evaluations} evals)"


def _setting(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
