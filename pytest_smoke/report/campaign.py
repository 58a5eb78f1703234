"""A recipe's cells side by side: what each changes, how it ended, and where its main metric went."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_smoke.judge.metrics.final_slope import drift
from pytest_smoke.outcome import Outcome
from pytest_smoke.text import table


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """One recipe in one mode, of which more than one cell was run."""

    recipe: str
    mode: str
    metric: str | None
    """Name of the main metric; None where no cell was evaluated."""
    better: str
    """`higher` or `lower`."""
    outcomes: tuple[Outcome, ...]
    """The baseline first, then by id."""


def campaigns(outcomes: Iterable[Outcome]) -> list[Campaign]:
    """The campaigns of a session, from its outcomes alone; a recipe of which nothing was trained is none."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.recipe, outcome.mode].append(outcome)
    return [
        _campaign(recipe, mode, sorted(group, key=lambda one: (one.cell is not None, one.id)))
        for (recipe, mode), group in sorted(groups.items())
        if len({one.cell for one in group}) > 1 and any(one.facts.get("steps") for one in group)
    ]


def campaign_table(campaign: Campaign) -> list[tuple[str, str]]:
    """Title, header and a row a cell, each with the verdict it speaks of (empty for the first two)."""
    header = ["cell", "verdict", "step"]
    if campaign.metric is not None:
        word = "highest" if campaign.better == "higher" else "lowest"
        header += [f"{word} {campaign.metric}", "drift at the end"]
    rows = [[*header, "loss", "changes"], *(_row(outcome, campaign) for outcome in campaign.outcomes)]
    title = f"campaign {campaign.recipe} {campaign.mode}"
    return list(zip([title, *table(rows)], ["", "", *(outcome.verdict for outcome in campaign.outcomes)], strict=True))


def _campaign(recipe: str, mode: str, outcomes: Sequence[Outcome]) -> Campaign:
    named = next((one.facts for one in outcomes if one.facts.get("main_metric")), {})
    return Campaign(
        recipe=recipe,
        mode=mode,
        metric=named.get("main_metric"),
        better=named.get("main_metric_better", "higher"),
        outcomes=tuple(outcomes),
    )


def _row(outcome: Outcome, campaign: Campaign) -> list[str]:
    # `verdicts.json` has no number for NaN and infinities: there they are texts, which `float` reads.
    points = [(step, float(value)) for step, value in outcome.metrics.get(campaign.metric or "", [])]
    metric = [] if campaign.metric is None else [_best(points, campaign.better), _drift(points)]
    last = outcome.facts.get("loss_last")
    return [
        outcome.cell or "baseline",
        f"{outcome.verdict} ({outcome.reason})" if outcome.reason else outcome.verdict,
        "-" if outcome.step is None else str(outcome.step),
        *metric,
        "-" if last is None else f"{float(last):.4g}",
        ", ".join(f"{key}: {_shown(value)}" for key, value in outcome.facts.get("cell_changes", {}).items()) or "-",
    ]


def _best(points: Sequence[tuple[int, float]], better: str) -> str:
    finite = [(value, step) for step, value in points if math.isfinite(value)]
    if not finite:
        return "-"
    sign = 1 if better == "higher" else -1
    value, step = max(finite, key=lambda one: (sign * one[0], -one[1]))
    return f"{value:.4g} at {step}"


def _drift(points: Sequence[tuple[int, float]]) -> str:
    found = drift(points)
    if found is None:
        return "-"
    noise = "" if found.noise is None else f" ± {found.noise:.2g}"
    return f"{found.change:+.2g}{noise} over {found.evaluations}"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
