"""`exposure-bias`: whether the model scores reference answers well but generates none of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import sqrt

from pytest_smoke.judge.metrics.above_chance import better_than
from pytest_smoke.judge.metrics.distributions import t_survival
from pytest_smoke.judge.metrics.history import History
from pytest_smoke.outcome import Finding
from pytest_smoke.text import listed, relative

ALPHA = 0.01
"""Probability that noise alone counts as an improvement of a teacher-forced metric."""
HINT = (
    "training never conditions the model on its own output: mix its predictions into the prefix (scheduled sampling), "
    "or train on free-running generation; longer training alone may not close the gap"
)


def exposure_bias(histories: Iterable[History], recorded: Mapping[str, History]) -> Iterator[Finding]:
    """`exposure-bias[metric]` for each free-running metric of a condition that also has teacher-forced ones.

    `warn`: a teacher-forced metric improved, or is better than its `against` metric, but the free-running one was never
    better than chance (its `chance`, else 0). The term is that of Bengio et al. 2015 and Ranzato et al. 2016.
    """
    evaluated = [history for history in histories if history.values]
    forced = [history for history in evaluated if history.spec.kind == "teacher-forced"]
    for history in evaluated:
        partners = [partner for partner in forced if partner.spec.condition == history.spec.condition]
        if history.spec.kind == "free-running" and partners:
            yield _compare(history, partners, recorded)


def _compare(free: History, forced: list[History], recorded: Mapping[str, History]) -> Finding:
    id_ = f"exposure-bias[{free.name}]"
    chance = free.spec.chance or 0.0
    above = better_than(free, chance)
    if above is None and set(free.values) == {chance}:
        above = [False] * len(free.values)  # every value is the chance level itself, so no estimate of noise is needed
    if above is None:
        return Finding(id=id_, status="pass", reason="too-few-evaluations", text=free.too_few())
    end = f"{free.name} is {free.show(free.values[-1])} at step {free.steps[-1]}"
    level = f"better than chance ({free.show(chance)})"
    if any(above):
        text = f"{end} and was {level}: the model generates correct answers{free.remark()}"
        return Finding(id=id_, status="pass", text=text)
    never = f"{end} and was never {level}{_upper_limit(free)}"
    progress = [better for history in forced if (better := _progress(history, recorded)) is not None]
    data = {"teacher_forced": [history.name for history in forced], "condition": free.spec.condition}
    if not progress:
        names = listed(history.name for history in forced)
        text = f"{never}. No sign of exposure bias: {names} did not improve beyond noise either{free.remark()}"
        return Finding(id=id_, status="pass", reason="no-improvement", text=text, data=data)
    meaning = "generates none of them" if not chance else "generates them no better than chance"
    text = f"{'; '.join(progress)}; {never}. The model scores reference answers well but {meaning} (exposure bias)"
    return Finding(
        id=id_,
        status="warn",
        reason="exposure-bias",
        text=text + free.remark(),
        step=free.steps[-1],
        hint=HINT,
        data=data,
    )


def _progress(forced: History, recorded: Mapping[str, History]) -> str | None:
    """How a teacher-forced metric is better than its `against` metric or its own start; None if it is not."""
    last = forced.values[-1]
    end = f"{forced.name} is {forced.show(last)} at step {forced.steps[-1]}"
    reference = recorded.get(forced.spec.against or "")
    if reference is not None and reference.values and forced.sign * (last - reference.values[-1]) > 0:
        level = reference.values[-1]
        return f"{end}, better than {reference.name} at {reference.show(level)}{relative(last - level, level)}"
    first = forced.values[0]
    gain, noise = forced.sign * (last - first), forced.noise(first, last)
    if noise is None or gain <= 0:
        return None
    if noise.deviation and t_survival(gain / (sqrt(2) * noise.deviation), noise.freedom) > ALPHA:
        return None
    return f"{end}, better than {forced.show(first)} at step {forced.steps[0]}{relative(last - first, first)}"


def _upper_limit(free: History) -> str:
    """Give the upper 95 % limit of a rate without any hit: 1 - 0.05^(1/n) (Clopper & Pearson 1934)."""
    if free.items is None or free.sign < 0 or free.values[-1] > 0:
        return ""
    return f": 0 of {free.items:,} items, at most {free.show(1 - 0.05 ** (1 / free.items))} with 95 % confidence"
