"""Is a metric on its way to its target: too short a smoke, or too hard a task?"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, fsum, inf, log, sqrt

from pytest_smoke.judge.metrics.distributions import t_quantile
from pytest_smoke.judge.metrics.history import MIN_EVALUATIONS, History
from pytest_smoke.outcome import Finding

TAIL = 0.05
"""Outside each end of the 90 % intervals."""
POWERS = (1.0, 0.5, 0.0, -0.5, -1.0)
"""Shapes of a trend: straight in steps^p / p (Box & Cox 1964), at 0 in log steps. Below 0 it saturates."""
WORSE = 2.0
"""A shape that fits so many times worse than the best is no candidate: the 5 % point of a ratio of two variances with
six degrees each is 4.3, twice squared."""
NO_PROMISE = "an extrapolation, no promise"


def pace(history: History, target: float, full_steps: int) -> Finding:
    """`pace[metric]`: how its evaluations stand to `target`, which a run of `full_steps` must reach.

    The newer half of the evaluations, at least five, is fitted by a straight line in each of `POWERS`; the steps to the
    target are those of Fieller's interval (1954, JRSS B 16, 175-185), from the earliest of all shapes to the latest.
    """
    id_ = f"pace[{history.name}]"
    name, show = history.name, history.show
    sign, steps, values = history.sign, history.steps, history.values
    if not values:
        return Finding(id=id_, status="pass", reason="too-few", text=history.too_few())
    if sign * (values[-1] - target) >= 0:
        text = f"{name} is {show(values[-1])} at step {steps[-1]}: the target {show(target)} is reached already"
        return Finding(id=id_, status="pass", text=text + history.remark(), step=steps[-1])
    if len(values) < MIN_EVALUATIONS:
        return Finding(id=id_, status="pass", reason="too-few", text=history.too_few())
    window = max(MIN_EVALUATIONS, len(values) // 2)
    noise = history.noise(values[-1])
    recent = _Points(steps[-window:], history.goods[-window:], _known(noise.deviation, noise.freedom) if noise else 0.0)
    line = recent.line(1.0)
    moves, error = sign * line.slope / recent.end, line.error / recent.end
    said = (
        f"{name} is {show(values[-1])} at step {steps[-1]}, target {show(target)}; "
        f"over the last {window} evaluations it moves by "
        f"{1000 * moves:+.2g} per 1000 steps (standard error {1000 * error:.2g})"
    )
    data: dict[str, float | None] = {
        "target": target,
        "slope_per_step": moves,
        "slope_error_per_step": error,
    }
    verdict, text = _verdict(recent, line, sign * target, full_steps)
    if verdict == "improving":
        earliest, latest = recent.reach(sign * target)
        data |= {"earliest_step": earliest, "latest_step": latest if latest < inf else None}
        verdict, text = _when(earliest, latest, steps[-1], full_steps)
    status = "warn" if verdict in ("too-hard", "too-slow", "worsening") else "pass"
    return Finding(
        id=id_,
        status=status,  # type: ignore[arg-type]  # both are values of Status
        reason=verdict,
        text=f"{said}: {text}{history.remark()}",
        step=steps[-1],
        observed=values[-1],
        bound=target,
        data=data,
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """A least-squares line in one shape of the steps, which are counted in those of the last evaluation."""

    level: float
    at: float
    slope: float
    error: float
    """Standard error of the slope."""
    deviation: float
    t: float
    """Quantile for the 90 % interval."""
    spread: float
    """Sum of squares of the shaped steps around their mean."""


class _Points:
    """Evaluations, higher better, that a trend is fitted to."""

    def __init__(self, steps: tuple[int, ...], goods: list[float], least: float) -> None:
        self._steps, self._goods, self._least = steps, goods, least

    @property
    def end(self) -> int:
        """The last step that was evaluated."""
        return max(self._steps[-1], 1)

    def line(self, power: float) -> _Line:
        shaped = [_shape(max(step, 1) / self.end, power) for step in self._steps]
        count = len(shaped)
        at, level = fsum(shaped) / count, fsum(self._goods) / count
        spread = fsum((x - at) ** 2 for x in shaped)
        slope = fsum((x - at) * (y - level) for x, y in zip(shaped, self._goods, strict=True)) / spread
        left = fsum((y - level - slope * (x - at)) ** 2 for x, y in zip(shaped, self._goods, strict=True))
        deviation = max(sqrt(left / (count - 2)), self._least)
        t = t_quantile(TAIL, float(count - 2))
        return _Line(level, at, slope, deviation / sqrt(spread), deviation, t, spread)

    def reach(self, target: float) -> tuple[float, float]:
        """Earliest and latest step at which a shape that fits meets `target`; the latest may be infinite."""
        lines = {power: self.line(power) for power in POWERS}
        closest = min(line.deviation for line in lines.values())
        ends = [
            self._fieller(line, power, target) for power, line in lines.items() if line.deviation <= WORSE * closest
        ]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def _fieller(self, line: _Line, power: float, target: float) -> tuple[float, float]:
        gap, noise = target - line.level, (line.t * line.deviation) ** 2
        square = line.slope**2 - noise / line.spread
        half = gap * line.slope
        inner = half**2 - square * (gap**2 - noise / len(self._steps))
        root = sqrt(max(0.0, inner))
        if square <= 0:  # the slope could be none: no latest step
            low = (gap**2 - noise / len(self._steps)) / (half + root) if half + root > 0 else inf
            return self.end * _ratio(line.at + max(0.0, low), power), inf
        ends = (line.at + (half + sign * root) / square for sign in (-1, 1))
        early, late = (self.end * _ratio(shaped, power) for shaped in ends)
        return early, late


def _verdict(recent: _Points, line: _Line, target: float, full_steps: int) -> tuple[str, str]:
    """The word, and what it says; `improving` is worded by `_when`."""
    if not line.error and not line.slope:
        return "unclear", "it has not moved at all, so it has no pace to be read from"
    if line.slope - line.t * line.error > 0:
        return "improving", ""
    if line.slope + line.t * line.error < 0:
        return "worsening", "it moves away from its target, beyond its noise; longer alone will not help"
    steepest = line.slope + line.t * line.error
    ahead = max(0, full_steps - recent.end)
    if line.level + steepest * (full_steps / recent.end - line.at) < target:
        return "too-hard", (
            f"flat below its target. Even the steepest slope that its noise leaves open would not reach it in the "
            f"{ahead} steps left of the full run: too hard, or another design is needed, rather than too short"
        )
    return "unclear", "too noisy to tell a slow rise from none; evaluate on more items, or more often"


def _when(earliest: float, latest: float, now: int, full_steps: int) -> tuple[str, str]:
    low = max(float(now), earliest)
    if low > full_steps:
        return "too-slow", (
            f"still improving, but at the peak rate not before step {_count(low)}, and the full run has {full_steps} "
            f"({NO_PROMISE})"
        )
    span = f"between step {_count(low)} and {_count(latest)}"
    if latest == inf:
        span = f"at step {_count(low)} or later, or never"
    return "too-short", (
        f"still improving: too short a run to reach it, rather than too hard. At this pace {span} "
        f"(90 % interval over straight and saturating trends; {NO_PROMISE}); the full run has {full_steps} steps"
    )


def _known(deviation: float, freedom: float) -> float:
    """A deviation that is known from the items is the least there is; an estimate is made from the fit itself."""
    return deviation if freedom == inf else 0.0


def _shape(ratio: float, power: float) -> float:
    return log(ratio) if power == 0 else ratio**power / power


def _ratio(shaped: float, power: float) -> float:
    """The inverse of `_shape`; infinite beyond the level that a saturating shape never leaves."""
    if power == 0:
        exponent = shaped
    elif shaped * power > 0:
        exponent = log(shaped * power) / power
    else:
        return inf if power < 0 else 0.0
    return exp(exponent) if exponent < 700 else inf


def _count(steps: float) -> str:
    """Two digits: more would promise too much."""
    return f"{float(f'{steps:.2g}'):,.0f}" if steps < 1e15 else "infinity"
