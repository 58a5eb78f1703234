"""Two runs side by side: what each reached, and what changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_smoke.judge.direction import lower_is_better

Series = Sequence[tuple[int, float]]

SET = frozenset(
    {"recipe", "mode", "cell", "task", "planned_steps", "full_steps", "effective_batch_samples", "seed"}
    | {"device", "device_name", "torch", "parameters", "trainable_parameters"}
)
"""Facts that were set, or say where it ran; the others are what a run shows."""


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
        if self.old == self.new:
            return "none"
        if not (math.isfinite(self.old) and math.isfinite(self.new)):
            return "not finite"
        size = f"from 0, {self.new - self.old:+.3g}" if not self.old else _percent(self.old, self.new)
        if not self.better:
            return size
        return f"{size}, {'better' if (self.new > self.old) == (self.better == 'higher') else 'worse'}"

    def to_wire(self) -> dict[str, Any]:
        """A tree of builtins."""
        return {**asdict(self), "change": self.change}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What `compare` found."""

    old: str
    new: str
    old_text: str
    """The sentence that decided the verdict."""
    new_text: str
    rows: tuple[Row, ...]
    """The verdict first."""
    alignment: str
    """The sentence that says at which point the two are compared."""
    settings: tuple[Row, ...]
    """Settings that differ."""
    notes: tuple[str, ...]

    def to_wire(self) -> dict[str, Any]:
        """A tree of builtins; NaN and infinities stay floats."""
        return {
            **asdict(self),
            "rows": [row.to_wire() for row in self.rows],
            "settings": [{"name": row.name, "old": row.old, "new": row.new} for row in self.settings],
        }


def compare(old: Run, new: Run) -> Comparison:
    """Figures of both, each at its own end and at the last point that both have reached.

    Where the effective batches are known and differ, that point is the largest number of samples both have seen, else
    the largest number of steps.
    """
    marks, mark, alignment = _aligned(old, new)
    rows = [
        Row(name="verdict", old=old.verdict, new=new.verdict),
        Row(name="steps", old=old.steps, new=new.steps),
        Row(name="samples seen", old=_samples(old), new=_samples(new)),
        *_loss_rows(old, new, marks, mark),
        *(row for name in _names(old, new) for row in _metric_rows(name, old, new, marks, mark)),
        _best("gradient norm, peak", old.grad_norm, new.grad_norm, better="lower", highest=True),
        Row(name="seconds", old=old.seconds, new=new.seconds, better="lower"),
    ]
    return Comparison(
        old=old.name,
        new=new.name,
        old_text=old.text,
        new_text=new.text,
        rows=tuple(row for row in rows if row.old is not None or row.new is not None),
        alignment=alignment,
        settings=tuple(_settings(old, new)),
        notes=tuple(f"{run.name}: {note}" for run in (old, new) for note in run.notes),
    )


def _aligned(old: Run, new: Run) -> tuple[tuple[int, int] | None, str, str]:
    """The last step of each that counts (None: both ends do), a name for that point, and the sentence."""
    if old.batch is not None and new.batch is not None and old.batch != new.batch:
        common = min(old.steps * old.batch, new.steps * new.batch)
        marks = (common // old.batch, common // new.batch)
        text = (
            f"effective batches differ ({old.batch} and {new.batch}), so they are compared at equal samples: "
            f"{common:,} of them are step {marks[0]} of OLD and step {marks[1]} of NEW"
        )
        return None if marks == (old.steps, new.steps) else marks, f"at {common:,} samples", text
    known = f"both have an effective batch of {old.batch}" if old.batch and new.batch else "not both batches are known"
    if old.steps == new.steps:
        return None, "", f"{known}, and both ran {old.steps} steps: their ends are compared"
    common = min(old.steps, new.steps)
    return (common, common), f"at step {common}", f"{known}: they are compared at equal steps, up to step {common}"


def _loss_rows(old: Run, new: Run, marks: tuple[int, int] | None, mark: str) -> Iterator[Row]:
    for name, tenth in (("first", _first_tenth), ("last", _last_tenth)):
        yield Row(name=f"loss, {name} tenth", old=tenth(old.loss), new=tenth(new.loss), better="lower")
    if marks:
        cut = [_until(run.loss, mark) for run, mark in zip((old, new), marks, strict=True)]
        yield Row(name=f"loss {mark}", old=_last_tenth(cut[0]), new=_last_tenth(cut[1]), better="lower")
    yield _best("loss, lowest", old.loss, new.loss, better="lower")


def _metric_rows(name: str, old: Run, new: Run, marks: tuple[int, int] | None, mark: str) -> Iterator[Row]:
    one, other = old.metrics.get(name, ()), new.metrics.get(name, ())
    declared = {**old.facts.get("better", {}), **new.facts.get("better", {})}
    better = declared.get(name) or ("lower" if lower_is_better(name) else "higher")
    yield _best(f"{name}, {'lowest' if better == 'lower' else 'peak'}", one, other, better=better)
    yield _end(f"{name}, final", one, other, better)
    if marks:
        yield _end(f"{name} {mark}", _until(one, marks[0]), _until(other, marks[1]), better)


def _names(old: Run, new: Run) -> list[str]:
    return list(dict.fromkeys([*old.metrics, *new.metrics]))


def _best(name: str, old: Series, new: Series, *, better: str, highest: bool | None = None) -> Row:
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


def _samples(run: Run) -> int | None:
    return run.steps * run.batch if run.batch is not None else None


def _percent(old: float, new: float) -> str:
    share = 100 * (new - old) / abs(old)
    if abs(share) >= 1000:
        return f"{new / old:.3g} times" if new / old > 0 else f"{new - old:+.3g}"
    return f"{share:+.0f} %" if abs(share) >= 10 else f"{share:+.2g} %"


def _settings(old: Run, new: Run) -> Iterator[Row]:
    if not old.facts or not new.facts:
        return
    one, other = dict(_flat(old.facts)), dict(_flat(new.facts))
    for name in dict.fromkeys([*one, *other]):
        if one.get(name) != other.get(name):
            yield Row(name=name, old=_word(one, name), new=_word(other, name))


def _flat(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    settings = facts.get("settings", {})
    for name, value in facts.items():
        if name == "settings":
            yield from value.items()
        elif name == "args":
            yield from ((f"args.{key}", part) for key, part in value.items())
        elif name in SET and name not in settings:
            yield name, value


def _word(facts: Mapping[str, Any], name: str) -> str:
    return str(facts[name]) if name in facts else "not set"
