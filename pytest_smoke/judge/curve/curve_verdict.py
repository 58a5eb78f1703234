"""What a curve says: one value, of builtins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["promote", "unstable", "invalid", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveVerdict:
    """The verdict on one curve and what it rests on."""

    verdict: Verdict
    reason: str
    """Promoted: empty, or `no-progress`. Unstable: `rise`, `spike`, `divergence`, `non-finite`. Invalid: `masked`.
    Inconclusive: `too-short`, `too-noisy`, `cut`, `no-progress`."""
    step: int | None
    """Unstable: the step at which the alarm was raised."""
    text: str
    """One sentence with the numbers that decided."""
    series: str
    """`loss`, `probe_loss`, or the column that was not finite."""
    points: int
    """Points judged."""
    notes: tuple[str, ...]
    """What the reader should know beside it: a missing column, skipped steps, gaps."""
    data: dict[str, Any]
    """For plots and other code; a key is there only where it applies.

    `planned_points`, `last_step`; `trough` and `offence` as [first step, last step, mean], `sigmas`, `last_good_step`
    (the newest step that certainly precedes the trouble); `smallest_rise` (share of the level: the smallest lasting
    rise that would have been seen), `points_needed`; `evidence_steps`, `evidence_end`, `evidence_needed`.
    """
