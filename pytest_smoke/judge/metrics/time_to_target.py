"""`time-to-target`: whether a metric will reach its target within the full run."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, fsum, inf, log, sqrt

from pytest_smoke.judge.metrics.distributions import t_quantile
from pytest_smoke.judge.metrics.history import MIN_EVALUATIONS, History
from pytest_smoke.outcome import Finding, Status
from pytest_smoke.text import count

TAIL = 0.05
"""Probability outside each end of the 90 % intervals."""
POWERS = (1.0, 0.5, 0.0, -0.5, -1.0)
"""Shapes of a trend: linear in steps^p / p (Box & Cox 1964), or in log steps for p = 0. With p < 0 it saturates."""
WORSE = 2.0
"""Shapes whose residual deviation is more than this many times the smallest are discarded.

The 5 % point of a ratio of two variances with six degrees of freedom each is 4.3, about 2 squared."""
HINT = "change the model, the loss or the data: longer training alone is unlikely to reach the target"


def time_to_target(history: History, target: float, full_steps: int) -> Finding:
    """`time-to-target[metric]`: whether the metric will reach `target` in a run of `full_steps` steps.

    Fits a line to the newer half of the evaluations (at least five) in each shape of `POWERS`. The step that reaches
    the target has Fieller's interval (1954, JRSS B 16, 175-185), taken from the earliest to the latest of all shapes.
    """
    id_ = f"time-to-target[{history.name}]"
    name, show = history.name, history.show
    sign, steps, values = history.sign, history.steps, history.values
    if not values:
        return Finding(id=id_, status="pass", reason="too-few-evaluations", text=history.too_few())
    if sign * (values[-1] - target) >= 0:
        text = f"{name} is {show(values[-1])} at step {steps[-1]} and has reached its target of {show(target)}"
        return Finding(id=id_, status="pass", text=text + history.remark(), step=steps[-1])
    if len(values) < MIN_EVALUATIONS:
        return Finding(id=id_, status="pass", reason="too-few-evaluations", text=history.too_few())
    window = max(MIN_EVALUATIONS, len(values) // 2)
    noise = history.noise(values[-1])
    recent = _Points(steps[-window:], history.goods[-window:], _known(noise.deviation, noise.freedom) if noise else 0.0)
    line = recent.line(1.0)
    slope, error = sign * line.slope / recent.end, line.error / recent.end
    data: dict[str, float | None] = {
        "target": target,
        "slope_per_step": slope,
        "slope_error_per_step": error,
    }
    status: Status
    status, reason, forecast = _trend(recent, line, sign * target, full_steps)
    if reason == "improving":
        earliest, latest = recent.reach(sign * target)
        data |= {"earliest_step": earliest, "latest_step": latest if latest < inf else None}
        status, reason, forecast = _arrival(earliest, latest, steps[-1], full_steps)
    text = (
        f"{name} is {show(values[-1])} at step {steps[-1]}, target {show(target)}; slope {1000 * slope:+.2g} "
        f"± {1000 * error:.2g} per 1,000 steps over the last {window} evaluations. {forecast}{history.remark()}"
    )
    return Finding(
        id=id_,
        status=status,
        reason=reason,
        text=text,
        step=steps[-1],
        observed=values[-1],
        bound=target,
        hint=HINT if reason in ("flat-below-target", "worsening") else "",
        data=data,
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """A least-squares line over transformed steps; steps are in units of the last evaluated step."""

    level: float
    at: float
    slope: float
    error: float
    """Standard error of the slope."""
    deviation: float
    t: float
    """Quantile of Student's t for the 90 % interval."""
    spread: float
    """Sum of squares of the transformed steps around their mean."""


class _Points:
    """Evaluations (higher is better) that a trend is fitted to."""

    def __init__(self, steps: tuple[int, ...], goods: list[float], least: float) -> None:
        self._steps, self._goods, self._least = steps, goods, least

    @property
    def end(self) -> int:
        """The last evaluated step."""
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
        """Return the earliest and the latest step (may be infinite) at which a fitting shape reaches `target`."""
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
        if square <= 0:  # the interval of the slope contains 0: no latest step
            low = (gap**2 - noise / len(self._steps)) / (half + root) if half + root > 0 else inf
            return self.end * _ratio(line.at + max(0.0, low), power), inf
        ends = (line.at + (half + sign * root) / square for sign in (-1, 1))
        early, late = (self.end * _ratio(shaped, power) for shaped in ends)
        return early, late


def _trend(recent: _Points, line: _Line, target: float, full_steps: int) -> tuple[Status, str, str]:
    """Status, reason and message of the trend; an `improving` one gets its message from `_arrival`."""
    if not line.error and not line.slope:
        return "pass", "unclear", "It did not change at all, so there is no trend to extrapolate"
    if line.slope - line.t * line.error > 0:
        return "pass", "improving", ""
    if line.slope + line.t * line.error < 0:
        return "warn", "worsening", "It moves away from the target by more than its noise"
    steepest = line.slope + line.t * line.error
    remaining = max(0, full_steps - recent.end)
    if line.level + steepest * (full_steps / recent.end - line.at) < target:
        return (
            "warn",
            "flat-below-target",
            f"Flat: even the steepest slope within its noise does not reach the target in the "
            f"{count(remaining, 'step')} left of the full run",
        )
    return (
        "pass",
        "unclear",
        "Too noisy to tell a slow improvement from none: evaluate on more items, or more often",
    )


def _arrival(earliest: float, latest: float, now: int, full_steps: int) -> tuple[Status, str, str]:
    """Status, reason and message of an improving trend that reaches the target between two steps."""
    low = max(float(now), earliest)
    if low > full_steps:
        return (
            "warn",
            "too-slow",
            f"At this slope it reaches the target at step {_rounded(low)} at the earliest (extrapolated at the peak "
            f"learning rate), but the full run has {count(full_steps, 'step')}"
            if low < inf
            else "It improves, but levels off before the target (extrapolated at the peak learning rate)",
        )
    span = f"between step {_rounded(low)} and {_rounded(latest)}"
    if latest == inf:
        span = f"at step {_rounded(low)} at the earliest, or never"
    return (
        "pass",
        "still-improving",
        f"At this trend it reaches the target {span} (90 % interval, extrapolated with linear and saturating trends); "
        f"the full run has {count(full_steps, 'step')}",
    )


def _known(deviation: float, freedom: float) -> float:
    """Lower bound of the residual deviation: the sampling noise of the items; an estimated one comes from the fit."""
    return deviation if freedom == inf else 0.0


def _shape(ratio: float, power: float) -> float:
    return log(ratio) if power == 0 else ratio**power / power


def _ratio(shaped: float, power: float) -> float:
    """Invert `_shape`; infinite beyond the limit of a saturating shape."""
    if power == 0:
        exponent = shaped
    elif shaped * power > 0:
        exponent = log(shaped * power) / power
    else:
        return inf if power < 0 else 0.0
    return exp(exponent) if exponent < 700 else inf


def _rounded(steps: float) -> str:
    """Format with two significant digits, all that an extrapolation can give."""
    return f"{float(f'{steps:.2g}'):,.0f}" if steps < 1e15 else "infinity"
