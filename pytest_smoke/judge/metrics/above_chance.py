"""When a metric left the level that a model which has learnt nothing would have."""

from __future__ import annotations

from pytest_smoke.judge.metrics.distributions import binomial_survival, hits_of, t_survival
from pytest_smoke.judge.metrics.history import History
from pytest_smoke.outcome import Finding

ALPHA = 0.05
"""Chance, over all evaluations of a run, that luck alone counts one as above the floor."""
STAY = 2
"""Evaluations in a row that must lie above the floor: luck alone seldom repeats itself."""


def began(history: History, chance: float) -> Finding:
    """`began[metric]`: the first step from which the metric stays above `chance`; `warn` where there is none."""
    id_ = f"began[{history.name}]"
    floor = f"chance ({history.show(chance)})"
    above = above_floor(history, chance)
    if above is None:
        return Finding(id=id_, status="pass", reason="too-few", text=history.too_few())
    runs = [at for at in range(len(above)) if all(above[at : at + STAY]) and at + STAY <= len(above)]
    data = {"chance": chance, "above": [step for step, one in zip(history.steps, above, strict=True) if one]}
    name, show, steps, values = history.name, history.show, history.steps, history.values
    if runs:
        at = runs[0]
        text = f"{name} left {floor} at step {steps[at]} ({show(values[at])}) and stayed for {_run(above, at)}"
        if not above[-1]:
            text += f", but is back at it by the end ({show(values[-1])} at step {steps[-1]})"
        return Finding(id=id_, status="pass", text=text + history.remark(), step=steps[at], data=data)
    if above[-1] and sum(above) == 1:
        text = (
            f"{name} is above {floor} for the first time at its last evaluation: {show(values[-1])} at step {steps[-1]}"
        )
        return Finding(
            id=id_, status="pass", reason="at-the-end", text=text + history.remark(), step=steps[-1], data=data
        )
    touched = [at for at, one in enumerate(above) if one]
    best = max(touched, key=history.goods.__getitem__, default=0)
    text = f"{name} has not left {floor} by the end: {show(values[-1])} at step {steps[-1]}"
    if touched:
        text = (
            f"{name} has not left {floor} for good: {len(touched)} of {len(above)} evaluations lie above it, never "
            f"{STAY} in a row; {show(values[best])} at step {steps[best]}, {show(values[-1])} at the end"
        )
    return Finding(id=id_, status="warn", reason="at-chance", text=text + history.remark(), step=steps[-1], data=data)


def above_floor(history: History, chance: float) -> list[bool] | None:
    """Which evaluations lie above `chance` beyond their noise; None where they are too few to tell.

    With items each is one exact binomial test, else one against the scatter of the evaluations; the error of all of
    them together is at most `ALPHA` (Bonferroni).
    """
    count = len(history.values)
    if not count:
        return None
    single = ALPHA / count
    items = history.items
    if items is not None:
        turned = [(value, chance) if history.sign > 0 else (1 - value, 1 - chance) for value in history.values]
        return [binomial_survival(hits_of(value, items), items, rate) < single for value, rate in turned]
    noise = history.noise()
    if noise is None:
        return None
    leads = [good - history.sign * chance for good in history.goods]
    if not noise.deviation:
        return [lead > 0 for lead in leads]
    return [lead > 0 and t_survival(lead / noise.deviation, noise.freedom) < single for lead in leads]


def _run(above: list[bool], at: int) -> str:
    length = above[at:].index(False) if False in above[at:] else len(above) - at
    return f"all {length} evaluations since" if at + length == len(above) else f"{length} evaluations"
