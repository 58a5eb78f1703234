"""The figures of two runs, a row each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_smoke.judge.metrics.direction import lower_is_better

Series = Sequence[tuple[int, float]]

ROUNDING = 1e-6
"""Relative difference that float32 explains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, from a report or a log."""

    name: str
    verdict: str
    """With its reason, as `hold (ratio)`."""
    text: str
    """The sentence that decided."""
    steps: int
    """Optimizer steps it ran; of a log, those up to its last point."""
    loss: Series
    grad_norm: Series = ()
    metrics: Mapping[str, Series] = field(default_factory=dict)
    batch: int | None = None
    """Effective batch in samples, where known."""
    seconds: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Of a report; a log has none."""
    notes: tuple[str, ...] = ()

    @property
    def stages(self) -> dict[str, tuple[int, int]]:
        """First step and the one after the last, by stage, in order; empty for a run without stages."""
        found = self.facts.get("stages", [])
        return {one["name"]: (one["first_step"], one["first_step"] + one["steps"]) for one in found}

    @property
    def whole_stages(self) -> list[str]:
        """Those that reached their end."""
        return [one["name"] for one in self.facts.get("stages", []) if one["steps"] == one["planned_steps"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of both runs; None where a run has none."""

    name: str
    old: str | float | None
    new: str | float | None
    old_step: int | None = None
    new_step: int | None = None
    better: str = ""
    """`higher`, `lower`, or empty where a change is neither."""

    @property
    def change(self) -> str:
        """`+24 %, better`; empty for words and where a run has no figure."""
        if isinstance(self.old, str) or isinstance(self.new, str) or self.old is None or self.new is None:
            return ""
        if self.old == self.new or math.isclose(self.old, self.new, rel_tol=ROUNDING):
            return "none"
        if not (math.isfinite(self.old) and math.isfinite(self.new)):
            return "not finite"
        size = f"from 0, {self.new - self.old:+.3g}" if not self.old else _percent(self.old, self.new)
        if not self.better:
            return size
        return f"{size}, {'better' if (self.new > self.old) == (self.better == 'higher') else 'worse'}"

    def to_dict(self) -> dict[str, Any]:
        """A tree of builtins."""
        return {**asdict(self), "change": self.change}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point, beside its end, at which two runs are compared."""

    name: str
    old: int
    """The last step of each that counts."""
    new: int


def loss_rows(old: Run, new: Run, marks: Sequence[Mark]) -> Iterator[Row]:
    """Of whole runs, as they have no stages in common."""
    for name, tenth in (("first", _first_tenth), ("last", _last_tenth)):
        yield Row(name=f"loss, {name} tenth", old=tenth(old.loss), new=tenth(new.loss), better="lower")
    for mark in marks:
        cut = _until(old.loss, mark.old), _until(new.loss, mark.new)
        yield Row(name=f"loss {mark.name}", old=_last_tenth(cut[0]), new=_last_tenth(cut[1]), better="lower")
    yield best("loss, lowest", old.loss, new.loss, better="lower")


def stage_rows(old: Run, new: Run) -> Iterator[Row]:
    """Lengths and losses of each stage: between two of them, and between two phases, a loss is not the same sum."""
    for name, (first, end) in old.stages.items():
        other_first, other_end = new.stages[name]
        yield Row(name=f"steps, stage {name}", old=end - first, new=other_end - other_first)
        own = [point for point in old.loss if first <= point[0] < end]
        other = [point for point in new.loss if other_first <= point[0] < other_end]
        yield Row(name=f"loss, stage {name}, last tenth", old=_last_tenth(own), new=_last_tenth(other), better="lower")


def metric_rows(name: str, old: Run, new: Run, marks: Sequence[Mark], *, ends: bool) -> Iterator[Row]:
    """What it was at the marks; its best and its last value before, where the runs' `ends` can be compared."""
    one, other = old.metrics.get(name, ()), new.metrics.get(name, ())
    declared = {**old.facts.get("better", {}), **new.facts.get("better", {})}
    better = declared.get(name) or ("lower" if lower_is_better(name) else "higher")
    if ends:
        yield best(f"{name}, {'lowest' if better == 'lower' else 'peak'}", one, other, better=better)
        yield _end(f"{name}, final", one, other, better)
    for mark in marks:
        yield _end(f"{name} {mark.name}", _until(one, mark.old), _until(other, mark.new), better)


def unmoved(old: Run, new: Run) -> dict[str, float]:
    """Metrics that had one value at every evaluation of both, two or more in each: a frozen model's, say."""
    found = {}
    for name, points in old.metrics.items():
        values = [[value for _, value in series] for series in (points, new.metrics.get(name, ()))]
        if min(map(len, values)) > 1 and len({*values[0], *values[1]}) == 1:
            found[name] = values[0][0]
    return found


def best(name: str, old: Series, new: Series, *, better: str, highest: bool | None = None) -> Row:
    """The best value of each, or the `highest`, and its first step."""
    pick = max if (better == "higher" if highest is None else highest) else min
    ends = []
    for series in (old, new):
        finite = [(value, step) for step, value in series if math.isfinite(value)]
        top = pick(value for value, _ in finite) if finite else None
        ends.append((top, next((step for value, step in finite if value == top), None)))
    (one, one_step), (other, other_step) = ends
    return Row(name=name, old=one, new=other, old_step=one_step, new_step=other_step, better=better)


def _end(name: str, old: Series, new: Series, better: str) -> Row:
    (one_step, one), (other_step, other) = (series[-1] if series else (None, None) for series in (old, new))
    return Row(name=name, old=one, new=other, old_step=one_step, new_step=other_step, better=better)


def _until(series: Series, step: int) -> Series:
    return [point for point in series if point[0] <= step]


def _first_tenth(series: Series) -> float | None:
    return _mean([value for _, value in series[: max(1, len(series) // 10)]])


def _last_tenth(series: Series) -> float | None:
    return _mean([value for _, value in series[-max(1, len(series) // 10) :]])


def _mean(values: Sequence[float]) -> float | None:
    # Not fsum, which raises where infinities of both signs meet.
    return sum(values) / len(values) if values else None


def _percent(old: float, new: float) -> str:
    share = 100 * (new - old) / abs(old)
    if abs(share) >= 1000:
        return f"{new / old:.3g} times" if new / old > 0 else f"{new - old:+.3g}"
    return f"{share:+.0f} %" if abs(share) >= 10 else f"{share:+.2g} %"
