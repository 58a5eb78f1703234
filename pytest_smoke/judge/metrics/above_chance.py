"""`above-chance`: when a metric became better than the level of a model that has learned nothing."""

from __future__ import annotations

from itertools import takewhile

from pytest_smoke.judge.metrics.distributions import binomial_survival, hits_of, t_survival
from pytest_smoke.judge.metrics.history import History
from pytest_smoke.outcome import Finding
from pytest_smoke.text import count

ALPHA = 0.05
"""Probability, over all evaluations of a run, that noise alone makes one of them significantly better than chance."""
IN_A_ROW = 2
"""Significant evaluations in a row that are needed: noise rarely produces two."""
HINT = "run more steps, or evaluate on more items, to tell slow learning from none"


def above_chance(history: History, chance: float) -> Finding:
    """`above-chance[metric]`: the first step from which the metric is better than `chance`; `warn` if there is none."""
    id_ = f"above-chance[{history.name}]"
    name, show, steps, values = history.name, history.show, history.steps, history.values
    above = better_than(history, chance)
    if above is None:
        return Finding(id=id_, status="pass", reason="too-few-evaluations", text=history.too_few())
    level = f"better than chance ({show(chance)})"
    end = f"{show(values[-1])} at step {steps[-1]}"
    better = [at for at, significant in enumerate(above) if significant]
    starts = [at for at in better if len(above[at : at + IN_A_ROW]) == IN_A_ROW and all(above[at : at + IN_A_ROW])]
    data = {"chance": chance, "above": [steps[at] for at in better]}
    if starts:
        first = starts[0]
        length = sum(1 for _ in takewhile(bool, above[first:]))
        start = f"step {steps[first]} ({show(values[first])})"
        if first + length == len(above):
            text = f"{name} has been {level} since {start}, in all {length} evaluations"
        else:
            ending = " and again at the end" if above[-1] else ", but no longer at the end"
            text = f"{name} was {level} from {start} for {count(length, 'evaluation')}{ending}: {end}"
        return Finding(id=id_, status="pass", text=text + history.remark(), step=steps[first], data=data)
    if better == [len(above) - 1]:
        text = f"{name} was {level} at its last evaluation only: {end}"
        return Finding(
            id=id_, status="pass", reason="only-at-the-end", text=text + history.remark(), step=steps[-1], data=data
        )
    text = f"{name} was never {level}: {end}"
    if better:
        best = max(better, key=history.goods.__getitem__)
        text = (
            f"{name} was {level} in {len(better)} of {count(len(above), 'evaluation')}, but never {IN_A_ROW} in a row: "
            f"{show(values[best])} at step {steps[best]}, {show(values[-1])} at the end"
        )
    return Finding(
        id=id_,
        status="warn",
        reason="at-chance",
        text=text + history.remark(),
        step=steps[-1],
        hint=HINT,
        data=data,
    )


def better_than(history: History, chance: float) -> list[bool] | None:
    """Test each evaluation for being better than `chance` beyond noise; None if there are too few to tell.

    With a number of items each is an exact binomial test, otherwise a test against the scatter of the evaluations.
    The error of all of them together is at most `ALPHA` (Bonferroni).
    """
    total = len(history.values)
    if not total:
        return None
    single = ALPHA / total
    items = history.items
    if items is not None:
        rates = [(value, chance) if history.sign > 0 else (1 - value, 1 - chance) for value in history.values]
        return [binomial_survival(hits_of(value, items), items, rate) < single for value, rate in rates]
    noise = history.noise()
    if noise is None:
        return None
    leads = [good - history.sign * chance for good in history.goods]
    if not noise.deviation:
        return [lead > 0 for lead in leads]
    return [lead > 0 and t_survival(lead / noise.deviation, noise.freedom) < single for lead in leads]
