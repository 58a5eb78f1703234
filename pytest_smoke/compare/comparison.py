"""What changed between two runs: figures of both at their ends, and at points that both have reached."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

from pytest_smoke.judge.metrics.main_metric import lower_is_better
from pytest_smoke.text import count, listed, signed_percent

NORM_PEAK = "gradient norm, peak"
"""Name of a row."""
Series = Sequence[tuple[int, float]]
"""Step and value, by rising step."""

FLOAT32_TOLERANCE = 1e-6
"""Relative difference that float32 rounding explains."""
MIN_SCALE_POINTS = 4
"""Common steps from which two curves can be the same one on another scale."""
SCALE_TOLERANCE = 0.005
"""Relative distance of such curves from a common factor at most, beside the rounding of what is printed ..."""
SCALE_SHARE = 0.1
"""... and it must be at most this share of the spread of the curve: two flat losses have a constant ratio, too."""
MIN_SCALE = 0.02
"""Relative distance of a scale from 1 at least."""
SAME_LOSS = 1e-4
"""Relative difference of two losses of the same samples and weights at most: one process and two average them in
another order, and logs print few digits."""
MAX_PERCENT_CHANGE = 10
"""Relative change from which it is printed as a factor."""
SETTING_FACTS = frozenset(
    {"recipe", "mode", "cell", "task", "planned_steps", "full_steps", "effective_batch_samples", "seed"}
    | {"device", "device_name", "torch", "parameters", "trainable_parameters"}
)
"""Facts that were set before the run, or say where it ran; all others are results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, from a report or a log."""

    name: str
    verdict: str
    """With its reason, as `hold (criterion-failed)`."""
    text: str
    """The sentence that decided the verdict."""
    steps: int
    """Optimizer steps of the run; for a log, up to its last point."""
    loss: Series
    grad_norm: Series = ()
    metrics: Mapping[str, Series] = field(default_factory=dict)
    batch: int | None = None
    """Effective batch in samples, if known."""
    seconds: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Facts of the outcome; empty for a log."""
    notes: tuple[str, ...] = ()

    @property
    def stages(self) -> dict[str, tuple[int, int]]:
        """First step and end (exclusive) by stage, in order; empty for a run without stages."""
        stages = self.facts.get("stages", [])
        return {stage["name"]: (stage["first_step"], stage["first_step"] + stage["steps"]) for stage in stages}

    @property
    def finished_stages(self) -> list[str]:
        """Names of the stages that ran all their steps."""
        return [stage["name"] for stage in self.facts.get("stages", []) if stage["steps"] == stage["planned_steps"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """One figure of both runs; None for a run that does not have it."""

    name: str
    old: str | float | None
    new: str | float | None
    old_step: int | None = None
    new_step: int | None = None
    better: str = ""
    """`higher`, `lower`, or empty if neither direction is better."""
    is_scaled: bool = False
    """Whether both runs have the same curve on another scale, so that neither value is better."""

    @property
    def change(self) -> str:
        """The change in words, as `+24 %, better`; empty for text, and if one run does not have the figure."""
        if isinstance(self.old, str) or isinstance(self.new, str) or self.old is None or self.new is None:
            return ""
        if self.old == self.new or math.isclose(self.old, self.new, rel_tol=FLOAT32_TOLERANCE):
            return "none"
        if not (math.isfinite(self.old) and math.isfinite(self.new)):
            return "not finite"
        size = f"from 0, {self.new - self.old:+.3g}" if not self.old else _relative_change(self.old, self.new)
        if self.is_scaled:
            return f"{size}, another scale"
        if not self.better:
            return size
        return f"{size}, {'better' if (self.new > self.old) == (self.better == 'higher') else 'worse'}"

    def to_dict(self) -> dict[str, Any]:
        """Return a tree of builtins; NaN and infinities stay floats."""
        tree = {**asdict(self), "change": self.change}
        del tree["is_scaled"]  # part of `change`
        return tree


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentPoint:
    """A point before their ends at which two runs are compared."""

    name: str
    """As in `val_f1 at step 160`: `at step 160`."""
    old: int
    """Last step of the old run that counts."""
    new: int
    """Last step of the new run that counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """The result of comparing two runs."""

    old: str
    new: str
    old_text: str
    """The sentence that decided the verdict of the old run."""
    new_text: str
    rows: tuple[ComparisonRow, ...]
    """The verdict comes first."""
    alignment: str
    """The sentence that says at which point the runs are compared, and why."""
    unchanged: dict[str, float]
    """Metrics without a row: they had this value at every evaluation of both runs."""
    settings: tuple[ComparisonRow, ...]
    """Settings that differ."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a tree of builtins; NaN and infinities stay floats."""
        return {
            **asdict(self),
            "rows": [row.to_dict() for row in self.rows],
            "settings": [{"name": row.name, "old": row.old, "new": row.new} for row in self.settings],
        }


def compare(old: Run, new: Run) -> RunComparison:
    """Compare two runs at their own ends and at points that both have reached.

    If both have the same stages, these points are the ends of the stages. Otherwise there is at most one: the largest
    number of samples that both have seen if the effective batches are known and differ, else the largest common step.
    """
    same_stages = bool(old.stages) and list(old.stages) == list(new.stages)
    points, alignment = _stage_ends(old, new) if same_stages else _common_point(old, new)
    ends_comparable = not same_stages or old.finished_stages == new.finished_stages
    unchanged = _unchanged_metrics(old, new)
    names = [name for name in dict.fromkeys([*old.metrics, *new.metrics]) if name not in unchanged]
    loss_scale, norm_scale = scale_of(old.loss, new.loss), scale_of(old.grad_norm, new.grad_norm)
    rows = [
        ComparisonRow(name="verdict", old=old.verdict, new=new.verdict),
        ComparisonRow(name="steps", old=old.steps, new=new.steps),
        ComparisonRow(name="samples seen", old=_samples(old), new=_samples(new)),
        *(_stage_rows(old, new) if same_stages else _loss_rows(old, new, points)),
        *(row for name in names for row in _metric_rows(name, old, new, points, with_ends=ends_comparable)),
    ]
    if ends_comparable:
        rows.append(_best(NORM_PEAK, old.grad_norm, new.grad_norm, better="lower", highest=True))
    rows.append(ComparisonRow(name="seconds", old=old.seconds, new=new.seconds, better="lower"))
    return RunComparison(
        old=old.name,
        new=new.name,
        old_text=old.text,
        new_text=new.text,
        rows=tuple(_scaled(row, loss_scale, norm_scale) for row in rows if row.old is not None or row.new is not None),
        alignment=alignment if same_stages else alignment + _stages_differ(old, new),
        unchanged=unchanged,
        settings=tuple(_settings(old, new)),
        notes=(
            *_scale_notes(loss_scale, norm_scale),
            *(() if loss_scale or norm_scale else _first_step_notes(old, new)),
            *(f"{run.name}: {note}" for run in (old, new) for note in run.notes),
        ),
    )


def scale_of(old: Series, new: Series) -> float | None:
    """Return the constant factor between two curves at their common steps; None if there is none."""
    new_by_step = dict(new)
    pairs = [(value, new_by_step[step]) for step, value in old if step in new_by_step]
    if len(pairs) < MIN_SCALE_POINTS or any(not (math.isfinite(a) and math.isfinite(b) and a and b) for a, b in pairs):
        return None
    factor = median(b / a for a, b in pairs)
    if factor <= 0 or abs(factor - 1) < MIN_SCALE:
        return None
    values = [a for a, _ in pairs]
    curve_spread = (max(values) - min(values)) / max(map(abs, values))
    if not curve_spread:
        return None
    tolerance = min(SCALE_TOLERANCE, SCALE_SHARE * curve_spread)
    rounding = (factor * _rounding(values) + _rounding([b for _, b in pairs])) if curve_spread > SCALE_SHARE else 0.0
    is_constant = all(abs(b - factor * a) <= tolerance * abs(b) + rounding for a, b in pairs)
    return factor if is_constant else None


def _rounding(values: Iterable[float]) -> float:
    """Return half a unit of the last printed digit of numbers with a fixed number of decimals."""
    decimals = max(len(repr(value).partition(".")[2]) if "e" not in repr(value) else 17 for value in values)
    return 0.5 * 10.0**-decimals


def _scaled(row: ComparisonRow, loss_scale: float | None, norm_scale: float | None) -> ComparisonRow:
    is_loss = row.name.startswith("loss")
    if (is_loss and loss_scale is not None) or (row.name == NORM_PEAK and norm_scale is not None):
        return replace(row, is_scaled=True)
    return row


def _scale_notes(loss_scale: float | None, norm_scale: float | None) -> Iterator[str]:
    """Say that a curve has only another scale, and what that comes from."""
    if loss_scale is None and norm_scale is None:
        return
    parts = [
        f"the {name} of NEW is {factor:.4g}x that of OLD"
        for name, factor in (("loss", loss_scale), ("gradient norm", norm_scale))
        if factor is not None
    ]
    yield (
        f"{' and '.join(parts)} at every common step: the same curve on another scale, not a regression; gradient "
        "accumulation that sums the loss over micro-batches instead of averaging it does this"
    )


def _first_step_notes(old: Run, new: Run) -> Iterator[str]:
    """Say that the gradient norms differ at the first common step although the losses do not."""
    series = [dict(one) for one in (old.loss, new.loss, old.grad_norm, new.grad_norm)]
    common = set.intersection(*map(set, series))
    if not common:
        return
    step = min(common)
    old_loss, new_loss, old_norm, new_norm = (one[step] for one in series)
    if not (
        math.isclose(old_loss, new_loss, rel_tol=SAME_LOSS) and 0 < old_norm < math.inf and 0 < new_norm < math.inf
    ):
        return
    if math.isclose(old_norm, new_norm, rel_tol=MIN_SCALE):
        return
    yield (
        f"at step {step} both runs have the same loss, {old_loss:.4g}, but the gradient norm of NEW is "
        f"{new_norm / old_norm:.4g}x that of OLD: does one of them add up the gradients of ranks or micro-batches "
        "instead of averaging them, or log the norm after clipping?"
    )


def _stage_ends(old: Run, new: Run) -> tuple[list[AlignmentPoint], str]:
    """Return the ends of stages that both runs finished, without the last one, which is the end of the run."""
    names = list(old.stages)
    points = [
        AlignmentPoint(name=f"at the end of stage {name}", old=old.stages[name][1] - 1, new=new.stages[name][1] - 1)
        for name in names
        if name in old.finished_stages and name in new.finished_stages and name != names[-1]
    ]
    text = f"both runs have the stages {listed(names, limit=len(names))}, and are compared at the end of each"
    for run, label in ((old, "OLD"), (new, "NEW")):
        unfinished = [name for name in names if name not in run.finished_stages]
        if unfinished and old.finished_stages != new.finished_stages:
            text += f"; {label} did not finish {listed(unfinished)}, so peaks and last values are left out"
    if old.batch != new.batch:
        text += f"; effective batches differ ({old.batch} and {new.batch})"
    return points, text


def _stages_differ(old: Run, new: Run) -> str:
    """Say that only one run has stages, or that they have different ones; empty if neither has any."""
    if not old.stages and not new.stages:
        return ""
    old_names, new_names = (listed(run.stages, limit=len(run.stages)) for run in (old, new))
    return f"; the stages differ (OLD: {old_names}; NEW: {new_names}), so whole runs are compared"


def _common_point(old: Run, new: Run) -> tuple[list[AlignmentPoint], str]:
    """Return the last point that both runs reached, unless it is the end of both, and the sentence about it."""
    if old.batch is not None and new.batch is not None and old.batch != new.batch:
        samples = min(old.steps * old.batch, new.steps * new.batch)
        point = AlignmentPoint(name=f"at {samples:,} samples", old=samples // old.batch, new=samples // new.batch)
        text = (
            f"effective batches differ ({old.batch} and {new.batch}), so the runs are compared at equal samples: "
            f"{samples:,} samples are step {point.old} of OLD and step {point.new} of NEW"
        )
        return [] if (point.old, point.new) == (old.steps, new.steps) else [point], text
    unknown = _unknown_batches(old, new)
    if old.steps == new.steps:
        text = f"the runs are compared at their ends, because both have {count(old.steps, 'step')}"
        return [], f"{text}; {unknown}" if unknown else f"{text} and an effective batch of {old.batch}"
    step = min(old.steps, new.steps)
    point = AlignmentPoint(name=f"at step {step}", old=step, new=step)
    reason = unknown or f"both have an effective batch of {old.batch}"
    return [point], f"the runs are compared at equal steps, up to step {step:,}, because {reason}"


def _unknown_batches(old: Run, new: Run) -> str:
    """Say which effective batches are unknown, and how to give them; empty if both are known."""
    if old.batch is None and new.batch is None:
        return "their effective batches are unknown; give them with --old-batch and --new-batch"
    for run, label in ((old, "OLD"), (new, "NEW")):
        if run.batch is None:
            return f"the effective batch of {label} is unknown; give it with --{label.lower()}-batch"
    return ""


def _samples(run: Run) -> int | None:
    return run.steps * run.batch if run.batch is not None else None


def _loss_rows(old: Run, new: Run, points: Sequence[AlignmentPoint]) -> Iterator[ComparisonRow]:
    """Compare the losses of whole runs, which have no stages in common."""
    for name, tenth in (("first", _first_tenth), ("last", _last_tenth)):
        yield ComparisonRow(name=f"loss, {name} tenth", old=tenth(old.loss), new=tenth(new.loss), better="lower")
    for point in points:
        old_loss, new_loss = _until(old.loss, point.old), _until(new.loss, point.new)
        yield ComparisonRow(
            name=f"loss {point.name}", old=_last_tenth(old_loss), new=_last_tenth(new_loss), better="lower"
        )
    yield _best("loss, lowest", old.loss, new.loss, better="lower")


def _stage_rows(old: Run, new: Run) -> Iterator[ComparisonRow]:
    """Compare lengths and losses stage by stage, because the stages of a run may sum different loss terms."""
    for name, (first, end) in old.stages.items():
        new_first, new_end = new.stages[name]
        yield ComparisonRow(name=f"steps, stage {name}", old=end - first, new=new_end - new_first)
        old_loss = [point for point in old.loss if first <= point[0] < end]
        new_loss = [point for point in new.loss if new_first <= point[0] < new_end]
        yield ComparisonRow(
            name=f"loss, stage {name}, last tenth",
            old=_last_tenth(old_loss),
            new=_last_tenth(new_loss),
            better="lower",
        )


def _metric_rows(
    name: str, old: Run, new: Run, points: Sequence[AlignmentPoint], *, with_ends: bool
) -> Iterator[ComparisonRow]:
    """Compare a metric's best and last value (only `with_ends`), then its values at the alignment points."""
    old_values, new_values = old.metrics.get(name, ()), new.metrics.get(name, ())
    declared = {**old.facts.get("better", {}), **new.facts.get("better", {})}
    better = declared.get(name) or ("lower" if lower_is_better(name) else "higher")
    if with_ends:
        yield _best(f"{name}, {'lowest' if better == 'lower' else 'peak'}", old_values, new_values, better=better)
        yield _last(f"{name}, final", old_values, new_values, better)
    for point in points:
        yield _last(f"{name} {point.name}", _until(old_values, point.old), _until(new_values, point.new), better)


def _unchanged_metrics(old: Run, new: Run) -> dict[str, float]:
    """Return metrics with one value at all evaluations of both runs, two or more each (of a frozen model, say)."""
    unchanged = {}
    for name, points in old.metrics.items():
        values = [[value for _, value in series] for series in (points, new.metrics.get(name, ()))]
        if min(map(len, values)) > 1 and len({*values[0], *values[1]}) == 1:
            unchanged[name] = values[0][0]
    return unchanged


def _best(name: str, old: Series, new: Series, *, better: str, highest: bool | None = None) -> ComparisonRow:
    """Compare the best finite values (the highest ones if `highest`), each with the first step that has it."""
    pick = max if (better == "higher" if highest is None else highest) else min
    ends = []
    for series in (old, new):
        finite = [(value, step) for step, value in series if math.isfinite(value)]
        top = pick(value for value, _ in finite) if finite else None
        ends.append((top, next((step for value, step in finite if value == top), None)))
    (old_best, old_step), (new_best, new_step) = ends
    return ComparisonRow(name=name, old=old_best, new=new_best, old_step=old_step, new_step=new_step, better=better)


def _last(name: str, old: Series, new: Series, better: str) -> ComparisonRow:
    (old_step, old_value), (new_step, new_value) = (series[-1] if series else (None, None) for series in (old, new))
    return ComparisonRow(name=name, old=old_value, new=new_value, old_step=old_step, new_step=new_step, better=better)


def _until(series: Series, step: int) -> Series:
    return [point for point in series if point[0] <= step]


def _first_tenth(series: Series) -> float | None:
    return _mean([value for _, value in series[: max(1, len(series) // 10)]])


def _last_tenth(series: Series) -> float | None:
    return _mean([value for _, value in series[-max(1, len(series) // 10) :]])


def _mean(values: Sequence[float]) -> float | None:
    # Not fsum, which raises where infinities of both signs meet.
    return sum(values) / len(values) if values else None


def _relative_change(old: float, new: float) -> str:
    change = (new - old) / abs(old)
    if abs(change) < MAX_PERCENT_CHANGE:
        return signed_percent(change)
    return f"{new / old:.3g}x" if new / old > 0 else f"{new - old:+.3g}"


def _settings(old: Run, new: Run) -> Iterator[ComparisonRow]:
    if not old.facts or not new.facts:
        return
    old_settings, new_settings = dict(_flat(old.facts)), dict(_flat(new.facts))
    for name in dict.fromkeys([*old_settings, *new_settings]):
        if old_settings.get(name) != new_settings.get(name):
            yield ComparisonRow(name=name, old=_setting(old_settings, name), new=_setting(new_settings, name))


def _flat(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    settings = facts.get("settings", {})
    for name, value in facts.items():
        if name == "settings":
            yield from value.items()
        elif name == "args":
            yield from ((f"args.{key}", part) for key, part in value.items())
        elif name == "stages":
            yield from (
                (f"stages[{stage['name']}].{key}", part)
                for stage in value
                for key, part in stage.get("settings", {}).items()
            )
        elif name in SETTING_FACTS and name not in settings:
            yield name, value


def _setting(settings: Mapping[str, Any], name: str) -> str:
    return str(settings[name]) if name in settings else "not set"
