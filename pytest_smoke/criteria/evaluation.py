"""The value of an expression over the records of a run, and where each number in it was seen."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from statistics import median

from pytest_smoke.criteria.nodes import (
    Baseline,
    Binary,
    Call,
    Function,
    Metric,
    Negate,
    Node,
    Number,
    Stage,
    Steps,
    bare_metrics,
    quoted,
)

Points = list[tuple[int, float]]
"""Step and value, by rising step, one value a step."""
Window = tuple[float, float]
"""First and last step, both inclusive."""


class Unjudgeable(Exception):
    """The records cannot answer; `reason` is one word for scripts."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A number that entered the comparison."""

    name: str
    """What it is, in the criterion's words."""
    value: float
    step: int | None
    """Where it was seen; None for a baseline and for a mean or median of numbers."""

    def __str__(self) -> str:
        return f"{self.name} = {number(self.value)}" + (f" at step {self.step}" if self.step is not None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What the run and its baseline have recorded."""

    series: Mapping[str, Sequence[tuple[int, float]]]
    baseline: Mapping[str, float] | None
    stages: Mapping[str, tuple[int, int]]
    steps_run: int
    sorted_points: dict[str, Points] = field(default_factory=dict)
    """Points by metric, filled on first use."""

    def points(self, name: str) -> Points:
        """The metric's points; a step recorded twice counts with its newest value."""
        if not self.series.get(name):
            raise Unjudgeable(
                "missing-metric", f"metric {quoted(name)} was never recorded; {_nearest(name, self.known)}"
            )
        if name not in self.sorted_points:
            self.sorted_points[name] = sorted((step, float(value)) for step, value in dict(self.series[name]).items())
        return self.sorted_points[name]

    @property
    def known(self) -> list[str]:
        """Metrics with at least one point."""
        return [name for name, points in self.series.items() if points]

    def of_baseline(self, name: str) -> float:
        """The metric's value in the baseline run."""
        if self.baseline is None:
            raise Unjudgeable("missing-baseline", f"baseline.{name} is asked for, but no baseline run is given")
        if name not in self.baseline:
            raise Unjudgeable(
                "missing-metric", f"the baseline run has no metric {quoted(name)}; {_nearest(name, self.baseline)}"
            )
        return float(self.baseline[name])

    def window(self, over: Stage | Steps) -> Window:
        """The steps that `over` names."""
        if isinstance(over, Stage):
            if over.name not in self.stages:
                raise Unjudgeable(
                    "unknown-stage", f"the run had no stage {quoted(over.name)}; {_nearest(over.name, self.stages)}"
                )
            return self.stages[over.name]
        if over.last > self.steps_run:
            raise Unjudgeable("too-short", f"'{over}' asks for steps the run never made: it ended at {self.steps_run}")
        return (over.first, over.last)


def fold(node: Node, window: Window, records: Records, seen: list[Seen]) -> Node:
    """`node` with each function and baseline replaced by its number; `seen` takes the outermost ones."""
    match node:
        case Baseline():
            value = records.of_baseline(node.name)
            seen.append(Seen(name=str(node), value=value, step=None))
        case Call():
            inside = records.window(node.over) if node.over else window
            step, value = _reduce(node.function, _pointwise(node.argument, inside, records))
            seen.append(Seen(name=str(node), value=value, step=step))
        case Negate():
            return Negate(operand=fold(node.operand, window, records, seen), span=node.span)
        case Binary():
            left, right = (fold(side, window, records, seen) for side in (node.left, node.right))
            return Binary(sign=node.sign, left=left, right=right, span=node.span)
        case _:
            return node
    return Number(value=value, span=node.span)


def _pointwise(argument: Node, window: Window, records: Records) -> Points:
    folded = fold(argument, window, records, [])
    return [(step, evaluate(folded, values)) for step, values in aligned(bare_metrics(argument), window, records)]


def aligned(names: Sequence[str], window: Window, records: Records) -> list[tuple[int, dict[str, float]]]:
    """The values of all the metrics at each step of the window that has them all; at least one step."""
    columns = {name: dict(inside(name, window, records)) for name in names}
    common = sorted(set.intersection(*(set(column) for column in columns.values())))
    if not common:
        raise Unjudgeable("no-points", f"{_listed(names)} share no step {_within(window)}")
    return [(step, {name: column[step] for name, column in columns.items()}) for step in common]


def inside(name: str, window: Window, records: Records) -> Points:
    """The metric's points in the window; at least one."""
    points = records.points(name)
    found = [(step, value) for step, value in points if window[0] <= step <= window[1]]
    if not found:
        seen = f"its {len(points)} points lie at steps {points[0][0]}-{points[-1][0]}"
        raise Unjudgeable("no-points", f"metric {quoted(name)} has no point {_within(window)}; {seen}")
    return found


def evaluate(node: Node, values: Mapping[str, float]) -> float:
    """Arithmetic in floats, for a folded node. A division by zero is NaN."""
    match node:
        case Number():
            return node.value
        case Metric():
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
    for step, value in points:  # max and min of a list with NaN depend on its order
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


def number(value: float) -> str:
    """Six digits, as people write them."""
    return "NaN" if math.isnan(value) else f"{value:.6g}"


def _within(window: Window) -> str:
    first, last = window
    if math.isinf(last):
        return "in this run" if math.isinf(first) else f"from step {first:.0f} on"
    return f"up to step {last:.0f}" if math.isinf(first) else f"in steps {first:.0f}-{last:.0f}"


def _listed(names: Iterable[str]) -> str:
    return " and ".join(map(quoted, names))


def _nearest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    if not known:
        return "nothing was"
    part = [other for other in known if name in _WORDS.split(other)]  # `f1` of `val/f1`, `crf` of `crf/ce`
    close = get_close_matches(name, known, n=1) or part[:1] or get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {quoted(close[0])}?"
    shown = ", ".join(map(quoted, known[:8])) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
    return f"known: {shown}"


_WORDS = re.compile(r"[\W_]+")
