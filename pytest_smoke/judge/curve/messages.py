"""The sentences of a curve's verdict, each with the numbers that decided."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log

from pytest_smoke.judge.curve.detectors import Divergence, EarlyDivergenceDetector, SpikeDetector
from pytest_smoke.judge.curve.evidence import Evidence
from pytest_smoke.judge.curve.probe_batch import RejectedRise
from pytest_smoke.judge.curve.trend import DetectionLimit, Rise
from pytest_smoke.text import count, number, percent, relative, signed, steps

CHANCE_CLASSES = (*range(2, 13), 20, 100, 256, 1000, 32000, 50257)
"""Numbers of classes K for which a loss near ln K is pointed out; for larger ones in between, ln K is too dense."""
INCOMPLETE = "an incomplete run cannot be promoted"
SERIES_NAMES = {"loss": "loss", "probe_loss": "loss on the probe batch"}


def rise(series: str, seen: Rise) -> str:
    """Describe a rise from its lowest span to the newest one."""
    low, high = seen.low_span, seen.high_span
    change = high.mean - low.mean
    sigmas = f"{seen.sigmas:.1f} standard deviations of the noise" if seen.sigmas < inf else "in a series without noise"
    return (
        f"{SERIES_NAMES[series]} rose from its lowest level, {number(low.mean)} "
        f"({steps(low.first_step, low.last_step)}), to {number(high.mean)} ({steps(high.first_step, high.last_step)}): "
        f"{signed(change)}{relative(change, low.mean)}, {sigmas}"
    )


def spike(seen: SpikeDetector) -> str:
    """Describe a streak of losses above all before them."""
    level, lowest = seen.level, min(seen.streak)
    return (
        f"loss spiked from {number(level)} (median of the {seen.reference_points} points before) to at least "
        f"{number(lowest)} for {len(seen.streak)} points in a row ({steps(seen.first_step, seen.last_step)}): "
        f"{signed(lowest - level)}{relative(lowest - level, level)}, above all {seen.reference_points}"
    )


def divergence(seen: Divergence, step: int, loss: float) -> str:
    """Describe the newest losses against the first ones."""
    return (
        f"loss diverged from {number(seen.level)} (median of {steps(seen.first_step, seen.last_step)}) to "
        f"{number(loss)} at step {step}: {seen.exceeding} of the last {seen.points} points exceed "
        f"{number(seen.threshold)}{relative(seen.threshold - seen.level, seen.level)}"
    )


def early_divergence(seen: EarlyDivergenceDetector, step: int) -> str:
    """Describe a streak of losses far above the very first one."""
    return (
        f"loss diverged from {number(seen.level)} (step {seen.first_step}) to at least {number(seen.lowest)} in each "
        f"of the {seen.streak_points} points up to step {step}{relative(seen.lowest - seen.level, seen.level)}"
    )


def ended_early(step: int, points: int, planned_points: int) -> str:
    """Say where an incomplete run ended."""
    planned = count(planned_points, "planned point")
    if not points:
        return f"ended before the first of {planned}: {INCOMPLETE}"
    return f"ended at step {step}, after {points:,} of {planned}: no rise so far, but {INCOMPLETE}"


def masked(evidence: Evidence) -> str:
    """Say that too few steps ran near the peak learning rate."""
    ran = f"only {count(evidence.steps, 'step')}" if evidence.steps else "no step"
    peak = "" if evidence.peak is None else f" ({number(evidence.peak, 3)})"
    last = "" if evidence.end is None else f", the last at step {evidence.end}"
    needed = max(1, evidence.needed)
    return (
        f"{ran} ran at 80 % or more of the peak learning rate{peak}{last}; {needed:,} {'is' if needed == 1 else 'are'} "
        "needed, because a stable loss at a low learning rate proves nothing"
    )


def too_short(points: int, points_needed: int) -> str:
    """Say how many points a verdict needs."""
    return f"{count(points, 'point')}, at least {points_needed:,} needed to tell a rise from noise"


def too_noisy(points: int, points_needed: int | None, limit: DetectionLimit) -> str:
    """Say how large a rise could go undetected, and what would decide."""
    text = f"the noise of {count(points, 'point')} could hide a {_lasting_rise(limit)}"
    if points_needed is None:
        return text
    more = count(points_needed - points, "more point")
    return f"{text}; about {more}, or a batch {points_needed / points:.1f} times as large, would decide"


def no_progress(level: float) -> str:
    """Say that the loss did not improve, and whether it is at chance level."""
    return (
        f"loss did not improve on its initial level {number(level)}{_chance(level)}: any decrease is within its noise"
    )


def promoted(points: int, first: float, lowest: float, limit: DetectionLimit) -> str:
    """Say what the loss did, and how large a rise would have been detected."""
    start, end = number(first), number(lowest)
    fall = f"loss fell from {start} to {end}" if start != end else f"loss stayed at {start}"
    return f"no rise in {count(points, 'point')}: {fall}; a {_lasting_rise(limit)} would have been detected"


def rejected(rises: Sequence[RejectedRise], limit: DetectionLimit) -> str:
    """Say that the training loss rose only because the data got harder."""
    first = rises[0]
    where = f"at step {first.step}" if len(rises) == 1 else f"{len(rises)} times, first at step {first.step}"
    return (
        f"training loss rose {where}, but the fixed probe batch did not ({number(first.before)} before, "
        f"{number(first.after)} after): the data got harder (is it shuffled?), the model did not get worse; "
        f"a {_lasting_rise(limit)} would have been detected"
    )


def _lasting_rise(limit: DetectionLimit) -> str:
    """Name the smallest detectable rise, relative to the larger of level and progress."""
    size, name = max((limit.level, "the lowest level"), (limit.progress, "the total fall"))
    if not size:
        return "lasting rise"
    share = limit.rise / size
    return f"lasting rise of {number(limit.rise, 2)}" + (f" ({percent(share)} of {name})" if share < 100 else "")


def _chance(level: float) -> str:
    for classes in CHANCE_CLASSES:
        if abs(level - log(classes)) < 0.005 * log(classes) and level > 0:
            return f" (ln {classes} = {number(log(classes))}, chance level for {classes} classes)"
    return ""
