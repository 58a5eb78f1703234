"""Evaluate an expression on the metrics of a run, and remember the values that it was made of."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from pytest_smoke.criteria.nodes import (
    BaselineRef,
    Binary,
    Call,
    Function,
    MetricRef,
    Negate,
    Node,
    Number,
    OverStage,
    OverSteps,
    bare_metrics,
    quoted,
)
from pytest_smoke.text import closest, count, listed, number, steps

MAX_NAMES_LISTED = 8
"""Known metrics that a message lists if none is close to the one that was asked for."""

Points = list[tuple[int, float]]
"""Steps and values, sorted by step, one value for each step."""
StepRange = tuple[float, float]
"""First and last step, both inclusive; infinite where there is no bound."""


class NotEvaluableError(Exception):
    """The run did not record what the criterion needs. `reason` is the finding's reason code."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """A value that entered the comparison."""

    name: str
    """The expression it is the value of, as the criterion spells it."""
    value: float
    step: int | None
    """Its optimizer step; None for a baseline's value, and for a mean or median."""

    def __str__(self) -> str:
        return f"{self.name} was {number(self.value)}" + (f" at step {self.step}" if self.step is not None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedMetrics:
    """What the run and its baseline recorded."""

    series: Mapping[str, Sequence[tuple[int, float]]]
    """(optimizer step, value) by metric, in the order of recording."""
    baseline: Mapping[str, float] | None
    """Final values of the baseline run; None if there is none."""
    stages: Mapping[str, tuple[int, int]]
    """First and last step by stage, both inclusive."""
    steps_run: int
    """Optimizer steps that the run made."""
    sorted_points: dict[str, Points] = field(default_factory=dict)
    """Cache of `points`."""

    def points(self, name: str) -> Points:
        """Return the metric's values by step; of two values at one step the newest counts."""
        if not self.series.get(name):
            recorded = [name for name, points in self.series.items() if points]
            raise NotEvaluableError(
                "missing-metric", f"metric {quoted(name)} was never recorded; {_suggestion(name, recorded)}"
            )
        if name not in self.sorted_points:
            self.sorted_points[name] = sorted((step, float(value)) for step, value in dict(self.series[name]).items())
        return self.sorted_points[name]

    def baseline_value(self, name: str) -> float:
        """Return the metric's final value in the baseline run."""
        if self.baseline is None:
            raise NotEvaluableError("missing-baseline", f"it needs baseline.{name}, but there is no baseline run")
        if name not in self.baseline:
            raise NotEvaluableError(
                "missing-metric", f"the baseline run has no metric {quoted(name)}; {_suggestion(name, self.baseline)}"
            )
        return float(self.baseline[name])

    def step_range(self, over: OverStage | OverSteps) -> StepRange:
        """Return the first and the last step of `over`."""
        if isinstance(over, OverStage):
            if over.name not in self.stages:
                raise NotEvaluableError(
                    "unknown-stage",
                    f"the run has no stage {quoted(over.name)}; {_suggestion(over.name, self.stages)}",
                )
            return self.stages[over.name]
        if over.last > self.steps_run:
            raise NotEvaluableError(
                "run-too-short", f"'{over}' needs step {over.last}, but the run ended at step {self.steps_run}"
            )
        return (over.first, over.last)


def fold(node: Node, step_range: StepRange, metrics: RecordedMetrics, operands: list[Operand]) -> Node:
    """Replace each function and baseline in `node` by its value, and append the outermost ones to `operands`."""
    match node:
        case BaselineRef():
            value = metrics.baseline_value(node.name)
            operands.append(Operand(name=str(node), value=value, step=None))
        case Call():
            own_range = metrics.step_range(node.over) if node.over else step_range
            step, value = _reduce(node.function, _pointwise(node.argument, own_range, metrics))
            operands.append(Operand(name=str(node), value=value, step=step))
        case Negate():
            return Negate(operand=fold(node.operand, step_range, metrics, operands), span=node.span)
        case Binary():
            left, right = (fold(side, step_range, metrics, operands) for side in (node.left, node.right))
            return Binary(sign=node.sign, left=left, right=right, span=node.span)
        case _:
            return node
    return Number(value=value, span=node.span)


def _pointwise(argument: Node, step_range: StepRange, metrics: RecordedMetrics) -> Points:
    folded = fold(argument, step_range, metrics, [])
    return [(step, evaluate(folded, values)) for step, values in aligned(bare_metrics(argument), step_range, metrics)]


def aligned(
    names: Sequence[str], step_range: StepRange, metrics: RecordedMetrics
) -> list[tuple[int, dict[str, float]]]:
    """Return the values of all the metrics at each step that has them all; raise if there is no such step."""
    columns = {name: dict(points_in(name, step_range, metrics)) for name in names}
    common = sorted(set.intersection(*(set(column) for column in columns.values())))
    if not common:
        together = listed(map(quoted, names), limit=len(names))
        raise NotEvaluableError("no-values", f"{together} were never recorded at the same step{_within(step_range)}")
    return [(step, {name: column[step] for name, column in columns.items()}) for step in common]


def points_in(name: str, step_range: StepRange, metrics: RecordedMetrics) -> Points:
    """Return the metric's values in the range of steps; raise if there is none."""
    points = metrics.points(name)
    inside = [(step, value) for step, value in points if step_range[0] <= step <= step_range[1]]
    if not inside:
        recorded = f"it has {count(len(points), 'value')}, at {steps(points[0][0], points[-1][0])}"
        raise NotEvaluableError("no-values", f"metric {quoted(name)} has no value{_within(step_range)}; {recorded}")
    return inside


def evaluate(node: Node, values: Mapping[str, float]) -> float:
    """Compute a folded node in floats. A division by zero is NaN."""
    match node:
        case Number():
            return node.value
        case MetricRef():
            return values[node.name]
        case Negate():
            return -evaluate(node.operand, values)
        case Binary():
            left, right = evaluate(node.left, values), evaluate(node.right, values)
            match node.sign:
                case "+":
                    return left + right
                case "-":
                    return left - right
                case "*":
                    return left * right
                case "/":
                    return left / right if right else math.nan
        case _:
            raise AssertionError(node)


def _reduce(function: Function, points: Points) -> tuple[int | None, float]:
    if function == "first":
        return points[0]
    if function == "last":
        return points[-1]
    for step, value in points:  # Python's max and min of a list with NaN depend on its order
        if math.isnan(value):
            return step, value
    if function in ("max", "min"):
        pick: Callable[..., tuple[int, float]] = max if function == "max" else min
        return pick(points, key=lambda point: point[1])
    values = [value for _, value in points]
    return None, _mean(values) if function == "mean" else median(values)


def _mean(values: Sequence[float]) -> float:
    if not all(map(math.isfinite, values)):
        return sum(values) / len(values)
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.fsum(value / len(values) for value in values)


def _within(step_range: StepRange) -> str:
    first, last = step_range
    if math.isinf(last):
        return "" if math.isinf(first) else f" from step {first:.0f} on"
    return f" up to step {last:.0f}" if math.isinf(first) else f" in {steps(int(first), int(last))}"


def _suggestion(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    if not known:
        return "known: none"
    containing = [other for other in known if name in _WORDS.split(other)]  # `f1` in `val/f1`, `crf` in `crf/ce`
    near = closest(name, known) or next(iter(containing), None) or closest(name, known, cutoff=0.5)
    if near:
        return f"did you mean {quoted(near)}?"
    hidden = len(known) - MAX_NAMES_LISTED
    return f"known: {', '.join(map(quoted, known[:MAX_NAMES_LISTED]))}" + (f" and {hidden} more" if hidden > 0 else "")


_WORDS = re.compile(r"[\W_]+")
