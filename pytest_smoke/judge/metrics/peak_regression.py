"""`peak-regression`: whether a metric peaked early and fell by more than its noise."""

from __future__ import annotations

from math import inf

from pytest_smoke.judge.metrics.distributions import best_of_survival
from pytest_smoke.judge.metrics.history import History
from pytest_smoke.outcome import Finding
from pytest_smoke.text import count

ALPHA = 0.01
"""Share of runs with a constant or rising metric that get a false warning, at most.

Measured in docs/explanation/metric-advisories.md."""
OUTLIERS_FROM = 12
"""Number of evaluations from which the best value is a running median of three, which no single outlier can raise.

Without the median, outliers of lognormal noise made a false peak in 13 % of constant runs with 40 evaluations."""
HINT = (
    "the full run's learning rate decay, or early stopping, may keep the peak: "
    "compare the full run's checkpoints before changing the recipe"
)


def peak_regression(history: History) -> Finding:
    """`peak-regression[metric]`: `warn` for a fall beyond noise, else `pass`.

    Compares the last evaluation with the best of all earlier ones, and corrects for the bias of a maximum (Dunnett
    1955, see `best_of_survival`).
    """
    id_ = f"peak-regression[{history.name}]"
    if len(history.values) < 2:
        return Finding(id=id_, status="pass", reason="too-few-evaluations", text=history.too_few())
    goods = history.goods
    best = max(range(len(goods)), key=goods.__getitem__)
    top, last = history.values[best], history.values[-1]
    step, end, show = history.steps[best], history.steps[-1], history.show
    data = {"peak": top, "peak_step": step, "final": last, "final_step": end}
    if goods[-1] >= goods[best]:
        text = f"{history.name} is at its best at the end: {show(last)} at step {end}{history.remark()}"
        return Finding(id=id_, status="pass", text=text, observed=0.0, data=data)
    verb = "fell" if last < top else "rose"
    text = f"{history.name} {verb} from {show(top)} (step {step}) to {show(last)} (step {end})"
    noise = history.noise(top, last)
    fall, others = goods[best] - goods[-1], len(goods) - 1
    lead = _best_level(goods[:-1]) - goods[-1]
    if noise is None:
        text = f"{text}; {len(goods)} evaluations are too few to tell that from noise{history.remark()}"
        return Finding(id=id_, status="pass", reason="too-few-evaluations", text=text, observed=fall, data=data)
    p_value = best_of_survival(lead / noise.deviation, others, noise.freedom) if noise.deviation else float(lead <= 0)
    data |= {"noise": noise.deviation, "p_value": p_value}
    items = f"{noise.source}, " if noise.freedom == inf else ""  # the other source is the evaluations themselves
    figures = f"{_p_value(p_value)}, {items}{count(others, 'earlier evaluation')}"
    if p_value > ALPHA:
        text += f", no more than noise explains ({figures})"
        return Finding(id=id_, status="pass", text=text + history.remark(), observed=fall, data=data)
    text += f", more than noise explains ({figures})"
    return Finding(
        id=id_,
        status="warn",
        reason="regressed",
        text=text + history.remark(),
        step=step,
        observed=fall,
        hint=HINT,
        data=data,
    )


def _best_level(earlier: list[float]) -> float:
    """Return the best of the evaluations before the last; of many, the best median of three neighbours."""
    if len(earlier) + 1 < OUTLIERS_FROM:
        return max(earlier)
    return max(sorted(earlier[at - 1 : at + 2])[1] for at in range(1, len(earlier) - 1))


def _p_value(p_value: float) -> str:
    return f"p = {p_value:.2g}" if p_value >= 1e-4 else "p < 0.0001"
