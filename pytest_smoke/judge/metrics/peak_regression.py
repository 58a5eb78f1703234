"""Did a metric peak early and fall back, beyond its noise?"""

from __future__ import annotations

from pytest_smoke.judge.metrics.distributions import best_of_survival
from pytest_smoke.judge.metrics.history import History
from pytest_smoke.outcome import Finding

ALPHA = 0.01
"""Share of runs with a flat or rising metric that are told of a fall, at most; measured in docs/readings.md."""
OUTLIERS_FROM = 12
"""Evaluations from which the best must have been held: one outlier of lognormal noise made a peak of 13 % of flat runs
with 40 evaluations; under the median of three neighbours it makes none, and gaussian noise is wrong less often too."""
HINT = (
    "a smoke is not the layer that decides this: the full run's decaying learning rate, or early stopping, may keep "
    "the peak; promote, and let the full run be the verdict"
)


def peaked(history: History) -> Finding:
    """`peaked[metric]`: `warn` for a fall beyond the noise, else `pass`. Never fails: seldom is it the recipe's end.

    The last evaluation is held against the best of all before it, a maximum, which stands above its own mean.
    """
    id_ = f"peaked[{history.name}]"
    if len(history.values) < 2:
        return Finding(id=id_, status="pass", reason="too-few", text=history.too_few())
    goods = history.goods
    best = max(range(len(goods)), key=goods.__getitem__)
    top, last = history.values[best], history.values[-1]
    step, end, show = history.steps[best], history.steps[-1], history.show
    data = {"peak": top, "peak_step": step, "final": last, "final_step": end}
    if goods[-1] >= goods[best]:
        text = f"{history.name} is at its best at the end: {show(last)} at step {end}{history.remark()}"
        return Finding(id=id_, status="pass", text=text, observed=0.0, data=data)
    text = f"{history.name} {show(top)} at step {step}, {show(last)} at the end (step {end})"
    noise = history.noise(top, last)
    fall, others = goods[best] - goods[-1], len(goods) - 1
    held = _held(goods[:-1]) - goods[-1]
    if noise is None:
        text = f"{text}: {len(goods)} evaluations are too few to tell a fall from noise{history.remark()}"
        return Finding(id=id_, status="pass", reason="too-few", text=text, observed=fall, data=data)
    luck = best_of_survival(held / noise.deviation, others, noise.freedom) if noise.deviation else float(held <= 0)
    data |= {"noise": noise.deviation, "luck": luck}
    lead = f"the best of {others} earlier evaluations" if others > 1 else "one earlier evaluation"
    lead += " of a metric that stands still"
    if luck > ALPHA:
        text += f": within the noise of {noise.source} ({lead} leads this far in {_share(luck)})"
        return Finding(id=id_, status="pass", text=text + history.remark(), observed=fall, data=data)
    text += f": a fall beyond the noise of {noise.source} ({lead} leads this far in {_share(luck)})"
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


def _held(earlier: list[float]) -> float:
    """The best level of the evaluations before the last: of many, the best median of three neighbours."""
    if len(earlier) + 1 < OUTLIERS_FROM:
        return max(earlier)
    return max(sorted(earlier[at - 1 : at + 2])[1] for at in range(1, len(earlier) - 1))


def _share(luck: float) -> str:
    return f"{100 * luck:.2g} % of runs" if luck >= 1e-4 else "less than 0.01 % of runs"
