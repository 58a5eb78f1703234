"""The verdict on one loss curve, in plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

CurveVerdictWord = Literal["promote", "unstable", "invalid", "inconclusive", "hold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveVerdict:
    """The verdict on one curve and the numbers behind it."""

    verdict: CurveVerdictWord
    reason: str
    """The kind of verdict.

    `promote`: empty, or `no-progress`. `unstable`: `rise`, `spike`, `divergence`, `swings`, `non-finite`. `hold`:
    `constant`. `invalid`: `masked`, `learning-rate-zero`. `inconclusive`: `too-short`, `too-noisy`, `ended-early`,
    `no-progress`, `warming-up`."""
    step: int | None
    """Step at which instability was detected; None for the other verdicts."""
    text: str
    """The sentence with the numbers that decided."""
    series: str
    """Series that decided: `loss`, `probe_loss`, `grad_norm` or the name of a loss term."""
    points: int
    """Number of points judged."""
    notes: tuple[str, ...]
    """Limitations of the log: no learning rate, skipped fp16 steps, gaps."""
    data: dict[str, Any]
    """Numbers for plots and tables; a key is present only where it applies.

    `planned_points`, `last_step`. A rise: `low_span` and `high_span` as [first step, last step, mean], `sigmas`; a
    spike: `high_span` as [first step, last step, lowest loss]. `last_good_step` is the newest step that is certainly
    before the instability. `smallest_rise` is the smallest lasting rise that would have been detected, as a share of
    the lowest level; `smallest_rise_loss` is the same in units of the loss, and `smallest_rise_of_limit` as a share of
    the rise from which the curve is `too-noisy`. `points_needed` is the number of points that would decide.
    `evidence_steps`, `evidence_end`, `evidence_needed` describe the steps near the peak learning rate.
    """
