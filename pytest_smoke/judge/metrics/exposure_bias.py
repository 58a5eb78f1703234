"""Does the model score gold answers, and fail to generate any?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import sqrt

from pytest_smoke.judge.curve.messages import relative
from pytest_smoke.judge.metrics.above_chance import above_floor
from pytest_smoke.judge.metrics.distributions import t_survival
from pytest_smoke.judge.metrics.history import History
from pytest_smoke.outcome import Finding

ALPHA = 0.01
"""Chance that noise alone is taken for an improvement of a teacher-forced metric."""
HINT = (
    "training never makes the model go on from its own output: mix its predictions into the prefix (scheduled "
    "sampling), or add steps of free-running generation; longer training alone may not close the gap"
)


def exposure(histories: Iterable[History], recorded: Mapping[str, History]) -> Iterator[Finding]:
    """`exposure[metric]` for each free-running metric of a condition that has teacher-forced ones.

    `warn`: a teacher-forced metric improved, or beats the one it is declared against, while the free-running one never
    left its floor (its `chance`, else 0). The term is that of Bengio et al. 2015 and Ranzato et al. 2016.
    """
    known = [history for history in histories if history.values]
    forced = [history for history in known if history.spec.kind == "teacher-forced"]
    for history in known:
        partners = [one for one in forced if one.spec.condition == history.spec.condition]
        if history.spec.kind == "free-running" and partners:
            yield _read(history, partners, recorded)


def _read(free: History, forced: list[History], recorded: Mapping[str, History]) -> Finding:
    id_ = f"exposure[{free.name}]"
    chance = free.spec.chance or 0.0
    above = above_floor(free, chance)
    if above is None and set(free.values) == {chance}:
        above = [False] * len(free.values)  # exactly nothing, every time: no noise to ask about
    end = f"{free.name} is {free.show(free.values[-1])} at step {free.steps[-1]}"
    if above is None:
        return Finding(id=id_, status="pass", reason="too-few", text=free.too_few())
    if any(above):
        text = f"{end}, and has been above its floor ({free.show(chance)}): the model generates{free.remark()}"
        return Finding(id=id_, status="pass", text=text)
    floor = f"{end}, never above its floor ({free.show(chance)}){_at_most(free)}"
    praised = [said for one in forced if (said := _praise(one, recorded)) is not None]
    data = {"teacher_forced": [one.name for one in forced], "condition": free.spec.condition}
    if not praised:
        text = f"{floor}, and {_names(forced)} shows no improvement beyond noise either: no sign of exposure bias"
        return Finding(id=id_, status="pass", reason="nothing-learnt", text=text + free.remark(), data=data)
    text = f"{'; '.join(praised)}; {floor}: it scores gold answers and does not generate them, as under exposure bias"
    return Finding(
        id=id_, status="warn", reason="exposure", text=text + free.remark(), step=free.steps[-1], hint=HINT, data=data
    )


def _praise(forced: History, recorded: Mapping[str, History]) -> str | None:
    """What a teacher-forced metric has to its credit; None where there is nothing beyond noise."""
    last = forced.values[-1]
    said = f"{forced.name} is {forced.show(last)} at step {forced.steps[-1]}"
    other = recorded.get(forced.spec.against or "")
    if other is not None and other.values and forced.sign * (last - other.values[-1]) > 0:
        level = other.values[-1]
        return f"{said}, better than {other.name} {other.show(level)}{relative(last - level, level)}"
    first = forced.values[0]
    gain, noise = forced.sign * (last - first), forced.noise(first, last)
    if noise is None or gain <= 0:
        return None
    if noise.deviation and t_survival(gain / (sqrt(2) * noise.deviation), noise.freedom) > ALPHA:
        return None
    return f"{said}, better than {forced.show(first)} at step {forced.steps[0]}{relative(last - first, first)}"


def _at_most(free: History) -> str:
    """The upper 95 % limit of a rate of which no item was seen: 1 - 0.05^(1/n) (Clopper & Pearson 1934)."""
    if free.items is None or free.sign < 0 or free.values[-1] > 0:
        return ""
    return f", of {free.items} items (so at most {free.show(1 - 0.05 ** (1 / free.items))}, with 95 % confidence)"


def _names(forced: list[History]) -> str:
    return " and ".join(one.name for one in forced)
