"""The sentences of a judgement. Each gives the numbers that decided."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log

from pytest_smoke.judge.curve.divergence import Divergence
from pytest_smoke.judge.curve.early_divergence import EarlyDivergence
from pytest_smoke.judge.curve.evidence import Evidence
from pytest_smoke.judge.curve.rise_confirmation import RejectedRise
from pytest_smoke.judge.curve.spike import Spike
from pytest_smoke.judge.curve.trend import Bound, Rise

CHANCE_CLASSES = (*range(2, 13), 20, 100, 256, 1000, 32000, 50257)
"""K for which a loss near ln K is worth a hint; between larger K the levels lie too close to tell apart."""


def number(value: float) -> str:
    """Four significant digits, as a loss is read."""
    return f"{value:.4g}"


def relative(change: float, level: float) -> str:
    """` (+8 %)`; empty where the level is zero or the share says nothing."""
    if not level or not abs(change / level) < 100:
        return ""
    share = 100 * change / abs(level)
    return f" ({share:+.0f} %)" if abs(share) >= 1 else f" ({share:+.1f} %)"


def steps(first: int, last: int) -> str:
    """`steps 756-818`, or `step 756`."""
    return f"steps {first}-{last}" if last != first else f"step {first}"


def rise(series: str, seen: Rise) -> str:
    """`loss rose from its trough 2.608 (steps 756-818) to 2.804 (steps 945-1007): +0.196 (+8 %), 6.3 sigma ...`."""
    low, high = seen.low_span, seen.high_span
    change = high.value - low.value
    sigmas = f"{seen.sigmas:.1f} sigma of block noise" if seen.sigmas < inf else "on a series without noise"
    return (
        f"{series} rose from its trough {number(low.value)} ({steps(low.first, low.last)}) to {number(high.value)} "
        f"({steps(high.first, high.last)}): {change:+.3g}{relative(change, low.value)}, {sigmas}"
    )


def spike(series: str, seen: Spike) -> str:
    """The streak against its reference."""
    level, lowest = seen.level(), min(seen.streak)
    return (
        f"{series} spiked: {len(seen.streak)} points in a row ({steps(seen.first, seen.last)}) are {number(lowest)} or "
        f"more, above each of the {seen.reference_points} before them, whose median is {number(level)}: "
        f"{lowest - level:+.3g}{relative(lowest - level, level)}"
    )


def divergence(series: str, seen: Divergence, step: int, value: float) -> str:
    """The newest losses against the first."""
    change = relative(seen.threshold - seen.level, seen.level)
    return (
        f"{series} diverged: at step {step} it is {number(value)}, and {seen.exceeding} of the last {seen.points} "
        f"points exceed {number(seen.threshold)}, against a median of {number(seen.level)} at the start{change}"
    )


def onset(series: str, seen: EarlyDivergence, step: int) -> str:
    """All of the newest losses against the very first."""
    change = relative(seen.lowest - seen.level, seen.level)
    return (
        f"{series} blew up at once: from {number(seen.level)} at step {seen.first_step} to {number(seen.lowest)} or "
        f"more in each of the {seen.streak} points up to step {step}{change}"
    )


def chance(level: float) -> str:
    """` (ln 10: chance among 10 classes)` where the level says so."""
    for classes in CHANCE_CLASSES:
        if abs(level - log(classes)) < 0.005 * log(classes) and level > 0:
            return f" (ln {classes} = {log(classes):.4g}: chance among {classes} classes)"
    return ""


def smallest(bound: Bound) -> str:
    """`of 0.2 (8 % of the level)`, against the larger of level and progress."""
    size, name = max((bound.level, "level"), (bound.progress, "progress"))
    return f"of {bound.rise:.2g} ({100 * bound.rise / size:.2g} % of the {name})" if size else "from zero"


def cut(step: int, points: int, planned: int) -> str:
    """The run ended early."""
    return f"cut at step {step}, after {points} of {planned} planned points: no rise until then, and no promotion"


def masked(evidence: Evidence) -> str:
    """The learning rate left its peak before the evidence was complete."""
    counted = "none counts" if evidence.end is None else f"the last that counts is step {evidence.end}"
    peak = "" if evidence.peak is None else f" ({evidence.peak:.3g})"
    return (
        f"masked by its own schedule: {evidence.steps} steps at 80 % or more of the peak learning rate{peak}, "
        f"{evidence.needed} needed; {counted}, and calm below the peak proves nothing"
    )


def too_short(points: int, needed: int) -> str:
    """Too few blocks."""
    more = max(0, needed - points)
    return f"too short: {points} points, and {more} more are needed to tell a rise from noise"


def too_noisy(points: int, needed: int | None, bound: Bound) -> str:
    """A rise could hide; what would decide."""
    text = f"too noisy: a lasting rise {smallest(bound)} could hide in the noise of {points} points"
    if needed is None:
        return text
    return f"{text}; about {needed - points} more points, or a batch {needed / points:.1f} times as large, would decide"


def sideways(level: float) -> str:
    """Promoted with a warning."""
    return f"loss never left its first level {number(level)}{chance(level)}: any fall is within its noise"


def promoted(points: int, first: float, low: float, bound: Bound) -> str:
    """What was seen, and what would have been."""
    text = f"no rise in {points} points: loss fell from {number(first)} to {number(low)}"
    return f"{text}; a lasting rise {smallest(bound)} would have been seen"


def rejected(points: int, rejected_rises: Sequence[RejectedRise], bound: Bound) -> str:
    """Promoted although the minibatch loss rose."""
    first, more = rejected_rises[0], len(rejected_rises) - 1
    others = f", and {more} more time{'s' * (more > 1)}" if more else ""
    return (
        f"no rise that the fixed probe batch shares in {points} points: the loss itself rose at step {first.step} "
        f"(probe batch {number(first.before)} -> {number(first.after)}){others}, so the data got harder, not the model "
        f"worse (are they shuffled?); a lasting rise {smallest(bound)} would have been seen"
    )
