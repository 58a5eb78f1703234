"""The sentences of a curve's verdict, each with the numbers that decided."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log

from pytest_smoke.judge.curve.confirmation import Burst, RejectedRise
from pytest_smoke.judge.curve.detectors import (
    SWING_MULTIPLE,
    AboveStart,
    DivergenceDetector,
    EarlyDivergenceDetector,
    SpikeDetector,
    SwingDetector,
    WorseThanUntrainedDetector,
)
from pytest_smoke.judge.curve.evidence import Evidence
from pytest_smoke.judge.curve.trend import DetectionLimit, Rise
from pytest_smoke.text import count, number, percent, relative, signed, steps

CHANCE_CLASSES = (*range(2, 13), 20, 100, 256, 1000, 32000, 50257)
"""Numbers of classes K for which a loss near ln K is pointed out; for larger ones in between, ln K is too dense."""
CHANCE_TOLERANCE = 0.01
"""Share of ln K by which a loss at chance level may differ from it; half of it where K is only guessed."""
MENTIONED_FALL = 0.005
"""A fall by a smaller share of the level is not worth a number."""
WEAK_SHARE = 0.10
"""A promotion is weak if a lasting rise by this share of the loss level could hide in the noise."""
MENTIONED_LEVEL = 0.01
"""Below this share of the total fall, the loss level is no measure of a rise."""
MENTIONED_RISE = 10.0
"""A rise by a larger multiple is given in units of the loss."""
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


def shared_rise(seen: Rise, before: float, after: float) -> str:
    """Describe a weak rise that the probe batch shows as well."""
    return f"{rise('loss', seen)}, and the loss on the probe batch rose too, from {number(before)} to {number(after)}"


def spike(seen: SpikeDetector) -> str:
    """Describe a streak of losses above all before them."""
    level, height = seen.level, seen.height
    return (
        f"loss spiked from {number(level)} (median of the {seen.reference_points} points before) to {number(height)} "
        f"(median of {len(seen.streak)} points in a row, {steps(seen.first_step, seen.last_step)}, each above all "
        f"{seen.reference_points}): {signed(height - level)}{relative(height - level, level)}"
    )


def divergence(seen: DivergenceDetector, step: int) -> str:
    """Describe a streak of losses far above every loss before."""
    lowest, points = min(seen.streak), len(seen.streak)
    before = f"the highest of the {count(seen.points_before, 'point')} before"
    if points == 1:
        return f"loss diverged to {number(lowest)} at its last step {step}, {lowest / seen.highest:.3g} times {before}"
    return (
        f"loss diverged to at least {number(lowest)} in each of the {points} points up to step {step}, "
        f"{lowest / seen.highest:.3g} times {before} ({number(seen.highest)})"
    )


def swings(seen: SwingDetector, step: int) -> str:
    """Describe a loss that swings by decades."""
    return (
        f"loss rose more than {SWING_MULTIPLE:g}-fold {count(seen.swings, 'time')}, the last time from "
        f"{number(seen.low)} (step {seen.low_step}) to {number(seen.high)} (step {step})"
    )


def above_start(seen: AboveStart, step: int, loss: float) -> str:
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


def worse_than_untrained(seen: WorseThanUntrainedDetector, step: int, score: float) -> str:
    """Describe a model that is worse than before its first update."""
    change = score - seen.first_score
    return (
        f"loss on the probe batch rose from {number(seen.first_score)} (step {seen.first_step}) to {number(score)} at "
        f"step {step}: {signed(change)}{relative(change, seen.first_score)}, and {seen.points_above} of "
        f"{count(seen.points, 'loss', 'losses')} since are above the first"
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


def learning_rate_zero(points: int) -> str:
    """Say that no step could change anything."""
    return f"the learning rate is 0 at all {count(points, 'point')}: nothing is trained"


def warming_up(evidence: Evidence) -> str:
    """Say that the run ended before its peak learning rate."""
    return (
        f"the learning rate was still rising at the end ({number(evidence.peak or 0.0, 3)}): the warm-up is not over, "
        f"and {evidence.needed:,} steps near the peak are needed"
    )


def no_progress(initial: float, lowest: float, classes: int | None) -> str:
    """Say that the loss did not improve, and whether it is at chance level."""
    chance = _chance(lowest, classes) or _chance(initial, classes)
    text = f"loss did not improve on its initial level {number(initial)}"
    if (fallen := initial - lowest) > MENTIONED_FALL * abs(initial):
        return f"{text} by more than {percent(fallen / initial)}: it ends at {number(lowest)}{chance}"
    return f"{text}{chance}: any decrease is within its noise"


def no_progress_on_probe_batch(first: float, last: float, classes: int | None) -> str:
    """Say that the loss on the probe batch did not improve."""
    return (
        f"loss on the probe batch did not improve: it began at {number(first)} and ended at {number(last)}"
        f"{_chance(last, classes)}"
    )


def promoted(points: int, first: float, lowest: float, limit: DetectionLimit) -> str:
    """Say what the loss did, and how large a rise would have been detected."""
    start, end = number(first), number(lowest)
    fall = f"loss fell from {start} to {end}" if start != end else f"loss stayed at {start}"
    return f"no rise in {count(points, 'point')}: {fall}; {_would_have_been_detected(limit)}"


def rejected(rises: Sequence[RejectedRise], limit: DetectionLimit) -> str:
    """Say that the training loss rose only because the data got harder."""
    first = rises[0]
    where = f"at step {first.step}" if len(rises) == 1 else f"{len(rises)} times, first at step {first.step}"
    return (
        f"training loss rose {where}, but the fixed probe batch did not ({number(first.before)} before, "
        f"{number(first.after)} after): the data got harder (is it shuffled?), the model did not get worse; "
        f"{_would_have_been_detected(limit)}"
    )


def recovered(bursts: Sequence[Burst], limit: DetectionLimit) -> str:
    """Say that the loss rose for a moment and came back."""
    worst = max(bursts, key=lambda burst: burst.rise)
    times = "" if len(bursts) == 1 else f" {len(bursts)} times, most"
    return (
        f"loss rose{times} at step {worst.first_step}, from {number(worst.level)} to {number(worst.height)}, and "
        f"recovered within {count(worst.points, 'point')}: no lasting rise; {_would_have_been_detected(limit)}"
    )


def _would_have_been_detected(limit: DetectionLimit) -> str:
    """Say how small a rise would not have gone undetected; a weak promotion is called one."""
    is_weak = limit.rise > WEAK_SHARE * limit.level
    if not is_weak or limit.level <= MENTIONED_LEVEL * limit.progress:
        return f"a {_lasting_rise(limit)} would have been detected"
    return f"only a {_lasting_rise(limit)} or more would have been detected, a smaller one could hide in the noise"


def _lasting_rise(limit: DetectionLimit) -> str:
    """Name the smallest detectable rise in per cent of the loss level; of the total fall where the level is near 0."""
    if not limit.level and not limit.progress:
        return "lasting rise"
    if limit.rise > MENTIONED_RISE * max(limit.level, limit.progress):
        return f"lasting rise by {number(limit.rise, 2)}"
    if limit.level > MENTIONED_LEVEL * limit.progress:
        return f"lasting rise by {percent(limit.rise / limit.level)} of the loss level"
    return f"lasting rise by {percent(limit.rise / limit.progress)} of the total fall"


def is_chance_level(level: float, classes: int) -> bool:
    """Return whether `level` is ln K, the loss of a model that gives each of K classes the same probability."""
    return classes > 1 and abs(level - log(classes)) < CHANCE_TOLERANCE * log(classes)


def _chance(level: float, classes: int | None) -> str:
    for known in CHANCE_CLASSES if classes is None else (classes,):
        tolerance = CHANCE_TOLERANCE if classes else CHANCE_TOLERANCE / 2
        if level > 0 and abs(level - log(known)) < tolerance * log(known):
            return f" (ln {known} = {number(log(known))}, chance level for {known:,} classes)"
    return ""
