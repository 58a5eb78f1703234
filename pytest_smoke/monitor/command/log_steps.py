"""From the points of a command's log to the steps of a smoke run: where it starts, how often it logs, where it ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import fmean

from pytest_smoke import schedules
from pytest_smoke.events import LearningRateDiffers, LogSpacing, Step
from pytest_smoke.logs.log import Point
from pytest_smoke.recipe.stages import Stage

POINTS_TO_TELL = 3
"""Points that tell the distance between two: trainers that log every 10 steps often log step 1 as well."""
RATE_TOLERANCE = 0.01
"""Share of the peak by which a logged learning rate may differ from the schedule: a trainer's own formula of a warmup
counts from 0 or from 1."""
WARMUP_SHARE = 0.75
"""Share of the warmup before which a logged rate may not be at its peak. Concave forms are below it there: a quarter of
a sine is at 92 %, a square root at 87 %. A scheduler that each of 2 processes steps is there after half the warmup."""
COARSE_WARMUP_SHARE = 0.5
"""The same in a log whose rates have one digit: these forms are at 71 % of the peak then, which no digit rounds up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """The points of a log as steps of a run of `run_steps`."""

    spacing: LogSpacing
    steps: tuple[Step, ...]
    """One per point, as the log numbers them, without those after the last planned step."""
    probe_losses: tuple[tuple[int, float], ...]
    """Step and loss on fixed samples, where the log has one."""
    made_steps: int
    """Optimizer steps that the log shows; all if its next point would come after the last one."""
    beyond: int | None
    """First step in the log after the last planned one; None if there is none."""


def logged_run(
    points: Sequence[Point], run_steps: int, *, micro_batches: int = 1, is_complete: bool = False
) -> LoggedRun | None:
    """Turn points into steps; None if there are too few to tell how often the log has one.

    `micro_batches`: steps of the log in one optimizer step; their losses are averaged. The newest optimizer step is
    left out as long as the log is not complete: it may get more.
    """
    if not points:
        return None
    first_step = 0 if points[0].step == 0 else 1
    if micro_batches > 1:
        points = _by_optimizer_step(points, first_step, micro_batches, is_complete=is_complete)
    if not points or (len(points) < POINTS_TO_TELL and not is_complete):
        return None
    steps = [point.step for point in points]
    last = run_steps - 1 + first_step
    every = _spacing(steps)
    planned = 1 + (0 if len(steps) == 1 or steps[1] > last else 1 + (last - steps[1]) // every)
    kept = [point for point in points if point.step <= last]
    made = min(run_steps, kept[-1].step - first_step + 1) if kept else 0
    at_end = bool(kept) and kept[-1].step + every > last and (len(steps) > 1 or run_steps == 1)
    return LoggedRun(
        spacing=LogSpacing(first_step=first_step, every_steps=every, planned_points=planned),
        steps=tuple(Step(point.step, point.loss, dict(point.terms) or {}, point.grad_norm, point.lr) for point in kept),
        probe_losses=tuple((point.step, point.probe_loss) for point in kept if point.probe_loss is not None),
        made_steps=run_steps if at_end else made,
        beyond=next((step for step in steps if step > last), None),
    )


def _spacing(steps: Sequence[int]) -> int:
    """Return the smallest distance between two logged steps. The first one is used only if there is no other."""
    distances = [after - before for before, after in pairwise(steps) if after > before]
    return min(distances[1:] or distances, default=1)


def _by_optimizer_step(
    points: Sequence[Point], first_step: int, micro_batches: int, *, is_complete: bool
) -> list[Point]:
    """Average the points of each optimizer step."""
    found = []
    for number, group in groupby(points, key=lambda point: (point.step - first_step) // micro_batches):
        members = list(group)
        found.append(_mean_of(members, number + first_step))
    return found if is_complete else found[:-1]


def _mean_of(members: Sequence[Point], step: int) -> Point:
    """Return the newest of some points with the mean of their losses."""
    return members[-1]._replace(step=step, loss=fmean(point.loss for point in members))


def rate_difference(rates: Sequence[tuple[int, float]], stage: Stage, first_step: int) -> LearningRateDiffers | None:
    """Return the first of a log's `(step, learning rate)` pairs that is not the scheduled one; None if all are.

    During the warmup any rate up to the peak is allowed, because a trainer's warmup may have another form; only in its
    first WARMUP_SHARE the peak itself is not. After it, the rate must be the scheduled one, and for a cosine between
    that and the peak, because a trainer's cosine may end above 0. The rate of a log is rounded, and may be that of the
    step before or after.
    """
    curve = schedules.named(stage.lr_schedule, stage.warmup_steps, stage.max_steps)
    peak, digits, decimals = stage.learning_rate, *_precision(rate for _, rate in rates)
    early = (WARMUP_SHARE if digits > 1 else COARSE_WARMUP_SHARE) * stage.warmup_steps
    for step, used in rates:
        number = step - first_step
        before, scheduled, after = (peak * curve(max(0, at)) for at in (number - 1, number, number + 1))
        low, high = min(before, scheduled, after), max(before, scheduled, after)
        if number + 1 < early and used >= (1 - RATE_TOLERANCE) * peak:
            low = 0.0
        elif number <= stage.warmup_steps + 1:
            low, high = 0.0, peak
        elif stage.lr_schedule != "constant":
            high = peak
        low, high = low - RATE_TOLERANCE * peak, high + RATE_TOLERANCE * peak
        low = min(low, round(low, decimals), float(f"{low:.{digits - 1}e}"))
        high = max(high, round(high, decimals), float(f"{high:.{digits - 1}e}"))
        if not low <= used <= high:
            return LearningRateDiffers(step=step, group=0, scheduled=scheduled, used=used, groups=1, planned_groups=1)
    return None


def _precision(values: Iterable[float]) -> tuple[int, int]:
    """Return the significant digits and the decimals of the longest of some numbers, each at least 1."""
    digits, decimals = 1, 1
    for value in values:
        mantissa, _, exponent = f"{value!r}".lower().partition("e")
        whole, _, fraction = mantissa.partition(".")
        fraction = fraction.rstrip("0")
        digits = max(digits, len((whole + fraction).lstrip("-0")))
        decimals = max(decimals, len(fraction) - int(exponent or 0))
    return digits, decimals
