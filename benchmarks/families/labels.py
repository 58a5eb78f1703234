"""Label a window of a training run from its slice losses: the loss of a fixed, held-aside set of samples.

No part of the judge is used here, and the probe batch of the log is not read: the label comes from the slice, which is
larger, drawn separately and scored at least 100 times per window.

With `s` the median of three neighbouring slice losses, `low` its running minimum and

    gate = max(2 % of |low|, 1 % of (first s - low))

the excess is (s - low) / gate at each score. An excursion is a stretch of scores with an excess above 1.

Labels:

healthy
    No excess above 1.
grey
    An excess between 1 and 3 (`wander`); bursts, excursions of at most 2 % of the window (`burst`); an excursion that
    began so late that it may still be a burst (`late`); one that is not clear for another reason (`bump`).
unstable-visible
    A non-finite loss, or a clear excursion that the training losses show as well: by their means (`oracle_z`), or by
    consecutive losses above all of those before (`spike_in`). An excursion is clear if it exceeds 3 gates, exceeds 30
    gates or the slice's own wobble 5 times, and lasts more than 2 % of the window or recurs (`swings`).
unstable-hidden
    An excursion that the training losses do not show, and whose scores exceed 3 gates and the slice's own wobble
    3 times for 7.5 % of the window: three scores of a probe batch.
dead
    Trained from scratch, and the slice never left its first level.
shift
    The data is ordered: the slice rises and falls within each pass, and its mean over a pass does not rise
    (`forgetting`); or a hidden rise ends as the content changes (`content`).

A run on ordered data whose training losses rise while the slice does not is healthy, `why` = `content`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LEVEL_SHARE, PROGRESS_SHARE = 0.02, 0.01
CLEAR_GATES = 3.0
BURST_SHARE = 0.02
"""Longest excursion that counts as a burst, as a share of the window."""
SWING_SHARE = 0.05
"""Bursts that together cover more than this share of the window are an instability of their own."""
VISIBLE_Z = 4.0
HIDDEN_SHARE = 0.075
"""A hidden rise lasts longer than this share of the window: three of the 40 scores of a probe batch."""
WOBBLES = 5.0
"""The peak of a visible rise is this many times the standard deviation with which the slice wobbles."""
HELD_WOBBLES = 3.0
"""The same for the level that a hidden rise holds for `HIDDEN_SHARE` of the window."""
HUGE_GATES = 30.0
"""Above this the wobble is part of the instability."""
ONSET_SHARE = 0.2
"""An onset is where the excess was last below this share of the height at which the training losses show it."""
ORACLE_LENGTHS = (5, 10, 20, 40, 80, 160, 320)
"""Lengths in points of the windows that the oracle compares."""
DEAD_PROGRESS = 0.02
"""A run that fell by less than this share of its first slice loss has not left its first level."""
DECADES_RATIO = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The label of a window; `onset` is the step at which a clear excursion began."""

    label: str
    why: str = ""
    onset: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a run recorded. `losses` holds one value per step, and ends with the first that is not finite."""

    losses: Sequence[float]
    score_steps: Sequence[int]
    scores: Sequence[float]
    """Slice loss before the update of each step of `score_steps`."""
    from_scratch: bool = True
    ordered: bool = False
    """Whether the content of the batches depends on the position in the data."""
    pass_steps: int | None = None
    """Steps of one pass over ordered data that repeats."""


@dataclass(frozen=True, slots=True)
class Excursion:
    """Scores `first` to `last` (inclusive) with an excess above 1 gate."""

    first: int
    last: int
    height: float


def median_of_three(values: Sequence[float]) -> list[float]:
    """Replace each value by the median of itself and its neighbours; the two ends stay."""
    inner = [statistics.median(values[i - 1 : i + 2]) for i in range(1, len(values) - 1)]
    return [*values[:1], *inner, *values[-1:]] if len(values) > 1 else list(values)


def excess_in_gates(smooth: Sequence[float]) -> list[float]:
    """Return (s - low) / gate for each score; see the module's docstring."""
    low, found = smooth[0], []
    for value in smooth:
        low = min(low, value)
        gate = max(LEVEL_SHARE * abs(low), PROGRESS_SHARE * (smooth[0] - low), 1e-300)
        found.append((value - low) / gate)
    return found


def excursions(excess: Sequence[float]) -> list[Excursion]:
    """Return the stretches of scores whose excess is above 1 gate."""
    found: list[Excursion] = []
    first: int | None = None
    for i, value in enumerate([*excess, 0.0]):
        if value > 1 and first is None:
            first = i
        elif value <= 1 and first is not None:
            found.append(Excursion(first, i - 1, max(excess[first:i])))
            first = None
    return found


def long_run_sd(values: Sequence[float]) -> float:
    """Return the sd of the values around a running median of 11, times sqrt((1 + r) / (1 - r)), r at lag 1.

    The autocorrelation is that around a straight line. The sd is the robust one or that of the values clipped at 5
    robust sd, whichever is larger: heavy tails count.
    """
    if len(values) < 4:
        return statistics.pstdev(values) if len(values) > 1 else 0.0
    left = [v - statistics.median(values[max(0, i - 5) : i + 6]) for i, v in enumerate(values)]
    robust = 1.4826 * statistics.median(abs(v) for v in left)
    sd = max(robust, statistics.pstdev([min(max(v, -5 * robust), 5 * robust) for v in left])) or statistics.pstdev(left)
    slope, intercept = statistics.linear_regression(range(len(values)), values)
    plain = [min(max(v - intercept - slope * i, -5 * sd), 5 * sd) for i, v in enumerate(values)]
    power = sum(v * v for v in plain)
    r = min(max(sum(a * b for a, b in pairwise(plain)) / power if power > 0 else 0.0, 0.0), 0.9)
    return sd * math.sqrt((1 + r) / (1 - r))


def _level(losses: Sequence[float], first: int, last: int, low: int, high: int) -> tuple[float, float, int]:
    """Return location, its error and count of losses[first:last]; the noise is that of 50 points to both sides.

    The location is the median for fewer than 20 points and else the mean of values clipped at 5 sd. `low` and `high`
    bound the points from which the noise is taken.
    """
    part = losses[first:last]
    sd = min(long_run_sd(losses[max(low, first - 50) : min(high, last + 50)]), 1e300)
    middle = statistics.median(part)
    if len(part) < 20:
        return middle, 1.2533 * sd / math.sqrt(len(part)), len(part)
    mean = statistics.fmean(min(max(v, middle - 5 * sd), middle + 5 * sd) for v in part)
    return mean, sd / math.sqrt(len(part)), len(part)


def oracle_z(losses: Sequence[float], trough: int, onset: int, peak: int, end: int) -> float:
    """Return the largest z with which the training losses show a rise whose place is known.

    Windows of 5 to 320 points at the trough and right before the onset are compared with windows of the same length
    right after the onset, at the peak and at the end of the excursion.
    """
    count = len(losses)
    onset = max(1, min(onset, count - 1))
    end = min(max(end, onset), count - 1)
    best = -math.inf
    for length in ORACLE_LENGTHS:
        if length > max(5, end - onset + 1):
            break
        half = length // 2
        middle = min(max(trough, half), max(half, onset - half))
        before = {(max(0, middle - half), min(onset, middle + half + 1)), (max(0, onset - length), onset)}
        after = {
            (onset, onset + length),
            (max(onset, peak - half), peak + half + 1),
            (max(onset, end - length + 1), end + 1),
        }
        lows = [_level(losses, first, last, 0, onset) for first, last in before if last > first]
        for first, last in after:
            if min(last, count) - first < min(5, end - onset + 1):
                continue
            high = _level(losses, first, min(last, count), onset, end + 1)
            for low in lows:
                error, rise = math.hypot(low[1], high[1]), high[0] - low[0]
                best = max(best, rise / error if error > 0 else math.inf if rise > 0 else -math.inf)
    return best


def wobble(smooth: Sequence[float]) -> float:
    """Return the robust sd of the slice's differences over a twentieth of the window, around their median."""
    lag = max(3, len(smooth) // 20)
    steps = [b - a for a, b in zip(smooth, smooth[lag:], strict=False)]
    middle = statistics.median(steps) if steps else 0.0
    return 1.4826 * statistics.median(abs(s - middle) for s in steps) / math.sqrt(2) if steps else 0.0


def seen_from(
    losses: Sequence[float], steps: Sequence[int], smooth: Sequence[float], excess: Sequence[float], found: Excursion
) -> int | None:
    """Return the step at which the rise began that the training losses show first; None if they show none.

    The excursion is tried from its start to ever later ends.
    """
    trough = steps[min(range(found.first + 1), key=lambda i: smooth[i])]
    length = 1
    while True:
        last = min(found.first + length - 1, found.last)
        peak = max(range(found.first, last + 1), key=lambda i: smooth[i])
        end = steps[last + 1] - 1 if last + 1 < len(steps) else len(losses) - 1
        for first in {found.first, _onset(excess, found.first, peak)}:
            low = trough if first == found.first else steps[min(range(found.first, first + 1), key=lambda i: smooth[i])]
            if excess[peak] > CLEAR_GATES and (
                oracle_z(losses, low, steps[first], steps[peak], end) > VISIBLE_Z
                or spike_in(losses, steps[first], end, (smooth[peak] - min(smooth[: first + 1])) / excess[peak])
            ):
                return steps[_onset(excess, found.first, peak)]
        if last == found.last:
            return None
        length = max(length + 1, int(1.4 * length))


def _height(smooth: Sequence[float], found: Excursion) -> float:
    return max(smooth[found.first : found.last + 1]) - min(smooth[: found.first + 1])


def _onset(excess: Sequence[float], first: int, peak: int) -> int:
    below = [i for i in range(first, peak + 1) if excess[i] <= ONSET_SHARE * excess[peak]]
    return below[-1] if below else first


def spike_in(losses: Sequence[float], onset: int, end: int, gate: float) -> bool:
    """Tell whether four consecutive losses of an excursion exceed all of the 50 before it by more than 3 gates."""
    before = losses[max(0, onset - 50) : onset + 1]
    top = max(before) + CLEAR_GATES * gate
    return any(min(losses[i : i + 4]) > top for i in range(onset, min(end + 1, len(losses) - 3)))


def training_burst(losses: Sequence[float], gate: float) -> bool:
    """Tell whether three consecutive losses stand out by 10 robust sd of the 50 before them and by 10 gates."""
    for i in range(10, len(losses) - 2):
        least = min(losses[i : i + 3])
        before = losses[max(0, i - 50) : i]
        if least - max(before) > 10 * gate:
            middle = statistics.median(before)
            if least - middle > 10 * 1.4826 * statistics.median(abs(v - middle) for v in before):
                return True
    return False


def rises_in_blocks(losses: Sequence[float], gate: float) -> bool:
    """Tell whether the means of 40 blocks of the training losses rise by more than 3 gates."""
    size = max(1, len(losses) // 40)
    means = [statistics.fmean(losses[i : i + size]) for i in range(0, len(losses) - size + 1, size)]
    low = means[0]
    for mean in means:
        low = min(low, mean)
        if mean - low > CLEAR_GATES * gate:
            return True
    return False


def label_window(run: Recorded, window: int) -> Label:
    """Label the first `window` steps of a run."""
    losses = list(run.losses[:window])
    broken = next((i for i, v in enumerate(losses) if not math.isfinite(v)), None)
    pairs = [(s, v) for s, v in zip(run.score_steps, run.scores, strict=True) if s < window]
    while pairs and not math.isfinite(pairs[-1][1]):
        bad_step, _ = pairs.pop()
        broken = bad_step if broken is None else min(broken, bad_step)
    steps, scores = [s for s, _ in pairs], [v for _, v in pairs]
    if len(scores) < 2 or not all(map(math.isfinite, scores)):
        return Label(label="unstable-visible", why="non-finite", onset=broken if broken is not None else 0)
    smooth = median_of_three(scores)
    excess = excess_in_gates(smooth)
    low = min(smooth)
    gate = max(LEVEL_SHARE * abs(low), PROGRESS_SHARE * (smooth[0] - low), 1e-300)
    short = BURST_SHARE * window
    found = excursions(excess)

    def lasts(excursion: Excursion) -> int:
        return steps[min(excursion.last + 1, len(steps) - 1)] - steps[excursion.first]

    open_end = found[-1] if found and found[-1].last == len(steps) - 1 else None
    clear = [e for e in found if e.height > CLEAR_GATES and lasts(e) > short]
    bursts = [e for e in found if e.height > CLEAR_GATES and lasts(e) <= short and e is not open_end]
    why = "rise"
    if not clear and len(bursts) >= 3 and sum(map(lasts, bursts)) > SWING_SHARE * window:
        clear, why = bursts[:1], "swings"

    if broken is not None:
        onset = steps[clear[0].first] if clear else broken
        return Label(label="unstable-visible", why="non-finite", onset=min(onset, broken))

    span = abs(smooth[0]) * DEAD_PROGRESS
    if run.from_scratch and smooth[0] - low < span and abs(smooth[-1] - smooth[0]) < 2.5 * span:
        return Label(label="dead", why="overshoot" if clear else "chance", onset=0)

    if clear and run.pass_steps is not None:
        ends = [i for i, s in enumerate(steps) if s >= run.pass_steps]
        per_pass = [statistics.fmean(v for s, v in pairs if steps[i] - run.pass_steps < s <= steps[i]) for i in ends]
        if per_pass and max(excess_in_gates([smooth[0], *per_pass])) <= 1:
            return Label(label="shift", why="forgetting")
    if clear:
        if why == "rise":
            why = "diverged" if smooth[-1] > smooth[0] + 0.3 * abs(smooth[0]) else why
            why = "spike" if why == "rise" and excess[-1] <= CLEAR_GATES else why
        least = WOBBLES * wobble(smooth)
        tall = [e for e in clear if e.height > HUGE_GATES or _height(smooth, e) > least]
        for excursion in tall:
            onset = seen_from(losses, steps, smooth, excess, excursion)
            if onset is not None:
                return Label(label="unstable-visible", why=why, onset=onset)
        held = sum(s < HIDDEN_SHARE * window for s in steps)
        for excursion in clear:
            inside = slice(excursion.first, excursion.last + 1)
            if excursion.last - excursion.first >= held and sorted(excess[inside])[-held] > CLEAR_GATES:
                trough_level = min(smooth[: excursion.first + 1])
                if sorted(smooth[inside])[-held] - trough_level > HELD_WOBBLES * wobble(smooth):
                    if run.ordered and why == "spike":
                        return Label(label="shift", why="content")
                    return Label(label="unstable-hidden", why=why, onset=steps[excursion.first])

    if open_end is not None and open_end.height > CLEAR_GATES:
        return Label(label="grey", why="late")
    if clear:
        return Label(label="grey", why="bump")
    raw = excess_in_gates(scores)
    if bursts or max(raw) > CLEAR_GATES:
        return Label(label="grey", why="burst")
    if found:
        return Label(label="grey", why="wander")
    if not run.ordered and training_burst(losses, gate):
        return Label(label="grey", why="burst")
    if run.ordered and rises_in_blocks(losses, gate):
        return Label(label="healthy", why="content")
    return Label(
        label="healthy", why="decades" if low > 0 and max(smooth[smooth.index(low) :]) > DECADES_RATIO * low else ""
    )
