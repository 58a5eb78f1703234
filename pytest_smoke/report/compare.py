"""Two runs side by side: what each reached, and what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pytest_smoke.report.compare_rows import Mark, Row, Run, best, loss_rows, metric_rows, stage_rows, unmoved

SET = frozenset(
    {"recipe", "mode", "cell", "task", "planned_steps", "full_steps", "effective_batch_samples", "seed"}
    | {"device", "device_name", "torch", "parameters", "trainable_parameters"}
)
"""Facts that were set, or say where it ran; the others are what a run shows."""


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
    unmoved: dict[str, float]
    """Metrics that have no row: they had this value at every evaluation of both."""
    settings: tuple[Row, ...]
    """Settings that differ."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """A tree of builtins; NaN and infinities stay floats."""
        return {
            **asdict(self),
            "rows": [row.to_dict() for row in self.rows],
            "settings": [{"name": row.name, "old": row.old, "new": row.new} for row in self.settings],
        }


def compare(old: Run, new: Run) -> Comparison:
    """Figures of both, each at its own end and at points that both have reached.

    Where both have the same stages these are the ends of the stages. Else it is the largest number of samples that both
    have seen, where the effective batches are known and differ, or the largest number of steps.
    """
    staged = bool(old.stages) and list(old.stages) == list(new.stages)
    marks, alignment = _stage_ends(old, new) if staged else _aligned(old, new)
    ends = not staged or old.whole_stages == new.whole_stages
    same = unmoved(old, new)
    names = [name for name in dict.fromkeys([*old.metrics, *new.metrics]) if name not in same]
    rows = [
        Row(name="verdict", old=old.verdict, new=new.verdict),
        Row(name="steps", old=old.steps, new=new.steps),
        Row(name="samples seen", old=_samples(old), new=_samples(new)),
        *(stage_rows(old, new) if staged else loss_rows(old, new, marks)),
        *(row for name in names for row in metric_rows(name, old, new, marks, ends=ends)),
        *([best("gradient norm, peak", old.grad_norm, new.grad_norm, better="lower", highest=True)] if ends else []),
        Row(name="seconds", old=old.seconds, new=new.seconds, better="lower"),
    ]
    return Comparison(
        old=old.name,
        new=new.name,
        old_text=old.text,
        new_text=new.text,
        rows=tuple(row for row in rows if row.old is not None or row.new is not None),
        alignment=alignment if staged else alignment + _stages_apart(old, new),
        unmoved=same,
        settings=tuple(_settings(old, new)),
        notes=tuple(f"{run.name}: {note}" for run in (old, new) for note in run.notes),
    )


def _stage_ends(old: Run, new: Run) -> tuple[list[Mark], str]:
    """The ends of the stages that both have ended, but of the last one, whose end is the run's; and the sentence."""
    names = list(old.stages)
    marks = [
        Mark(name=f"at the end of stage {name}", old=old.stages[name][1] - 1, new=new.stages[name][1] - 1)
        for name in names
        if name in old.whole_stages and name in new.whole_stages and name != names[-1]
    ]
    text = f"both have the stages {', '.join(names)}, and are compared at the end of each"
    for run, word in ((old, "OLD"), (new, "NEW")):
        open_ = [name for name in names if name not in run.whole_stages]
        if open_ and old.whole_stages != new.whole_stages:
            text += f"; {word} did not end {', '.join(open_)}, so peaks and last values are left out"
    if old.batch != new.batch:
        text += f"; effective batches differ ({old.batch} and {new.batch})"
    return marks, text


def _stages_apart(old: Run, new: Run) -> str:
    """What is said where one has stages and the other has none, or others."""
    if not old.stages and not new.stages:
        return ""
    one, other = (", ".join(run.stages) or "none" for run in (old, new))
    return f"; their stages are not the same ({one} and {other}), so whole runs are compared"


def _aligned(old: Run, new: Run) -> tuple[list[Mark], str]:
    """The common point, unless it is the end of both, and the sentence."""
    if old.batch is not None and new.batch is not None and old.batch != new.batch:
        common = min(old.steps * old.batch, new.steps * new.batch)
        mark = Mark(name=f"at {common:,} samples", old=common // old.batch, new=common // new.batch)
        text = (
            f"effective batches differ ({old.batch} and {new.batch}), so they are compared at equal samples: "
            f"{common:,} of them are step {mark.old} of OLD and step {mark.new} of NEW"
        )
        return [] if (mark.old, mark.new) == (old.steps, new.steps) else [mark], text
    known = f"both have an effective batch of {old.batch}" if old.batch and new.batch else "not both batches are known"
    if old.steps == new.steps:
        return [], f"{known}, and both ran {old.steps} steps: their ends are compared"
    common = min(old.steps, new.steps)
    mark = Mark(name=f"at step {common}", old=common, new=common)
    return [mark], f"{known}: they are compared at equal steps, up to step {common}"


def _samples(run: Run) -> int | None:
    return run.steps * run.batch if run.batch is not None else None


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
        elif name == "stages":
            yield from (
                (f"stages[{one['name']}].{key}", part) for one in value for key, part in one.get("settings", {}).items()
            )
        elif name in SET and name not in settings:
            yield name, value


def _word(facts: Mapping[str, Any], name: str) -> str:
    return str(facts[name]) if name in facts else "not set"
