"""A criterion judged on the recorded metrics of a run."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from pytest_smoke.criteria.evaluation import (
    NotEvaluableError,
    Operand,
    RecordedMetrics,
    StepRange,
    aligned,
    evaluate,
    fold,
    points_in,
)
from pytest_smoke.criteria.grammar import condition_of
from pytest_smoke.criteria.nodes import (
    BaselineRef,
    Call,
    Condition,
    Deadline,
    MetricRef,
    Node,
    Number,
    Order,
    OverStage,
    OverSteps,
    bare_metrics,
    walk,
)
from pytest_smoke.criteria.tokens import name_of
from pytest_smoke.outcome import Finding, Status
from pytest_smoke.text import number

_HOLDS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_MIRRORED: dict[Order, Order] = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
"""The comparison with its sides swapped: `500 > x` is `x < 500`."""


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A comparison over named metrics. Criteria that mean the same are equal, however they are spaced or named."""

    text: str = field(compare=False)
    """The comparison as written, without the name."""
    name: str = field(default="", compare=False)
    """Its name in tables; may be empty."""
    condition: Condition
    """The parsed comparison."""

    def __str__(self) -> str:
        return str(self.condition)

    @property
    def id(self) -> str:
        """Id of its finding: `accept[...]` with the text as written, without its name, whitespace collapsed."""
        return f"accept[{' '.join(self.text.split())}]"

    @cached_property
    def metrics(self) -> frozenset[str]:
        """Names of the metrics that it reads from the judged run; those of the baseline are in `baselines`."""
        return frozenset(node.name for node in self._nodes if isinstance(node, MetricRef))

    @cached_property
    def baselines(self) -> frozenset[str]:
        """Names of the metrics that it reads from the baseline run."""
        return frozenset(node.name for node in self._nodes if isinstance(node, BaselineRef))

    @property
    def reads_baseline(self) -> bool:
        """Whether it needs a baseline run."""
        return bool(self.baselines)

    @cached_property
    def stages(self) -> frozenset[str]:
        """Names of the stages in its ranges of steps."""
        return frozenset(over.name for over in self._ranges if isinstance(over, OverStage))

    @cached_property
    def last_step(self) -> int | None:
        """The largest B of its `over steps A-B`; None if it has none."""
        return max((over.last for over in self._ranges if isinstance(over, OverSteps)), default=None)

    @property
    def counts_epochs(self) -> bool:
        """Whether its deadline is an epoch: `by epoch N`."""
        return isinstance(self.condition.moment, Deadline) and self.condition.moment.unit == "epoch"

    @property
    def _nodes(self) -> list[Node]:
        return [*walk(self.condition.left), *walk(self.condition.right)]

    @property
    def _ranges(self) -> list[OverStage | OverSteps | None]:
        return [*(node.over for node in self._nodes if isinstance(node, Call)), self.condition.over]

    def judge(
        self,
        series: Mapping[str, Sequence[tuple[int, float]]],
        *,
        baseline: Mapping[str, float] | None = None,
        steps_run: int,
        stages: Mapping[str, tuple[int, int]] | None = None,
        steps_per_epoch: int | None = None,
    ) -> Finding:
        """Return a finding that passes or fails, with the values that decided. Never raises for missing records.

        `series`: (optimizer step, value) by metric. `baseline`: final values of the run to compare with.
        `steps_run`: optimizer steps that the run made. `stages`: first and last step by stage, both inclusive.
        `steps_per_epoch`: optimizer steps in one epoch.
        """
        metrics = RecordedMetrics(series=series, baseline=baseline, stages=stages or {}, steps_run=steps_run)
        try:
            comparison = _compare(self.condition, metrics, _deadline(self.condition, steps_per_epoch))
        except NotEvaluableError as problem:
            text = f"cannot evaluate {self}: {problem}"
            return Finding(id=self.id, status="fail", reason=problem.reason, text=text, data=self.name_data)
        finding = comparison.finding(self.id, self.condition, steps_run)
        return replace(finding, data={**finding.data, **self.name_data})

    def not_judged(self, reason: str, text: str) -> Finding:
        """Return a finding `not-checked`, for a run that ended too early to be judged."""
        return Finding(id=self.id, status="not-checked", reason=reason, text=text, data=self.name_data)

    @property
    def name_data(self) -> dict[str, str]:
        """The entry `name` of its finding's `data`; empty without a name."""
        return {"name": self.name} if self.name else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """Both sides of the comparison at the step that decided."""

    left: float
    right: float
    left_operands: list[Operand]
    right_operands: list[Operand]
    step: int | None
    """The step that decided, of a criterion that must hold by a deadline; else None."""
    deadline: int | None

    def finding(self, id_: str, condition: Condition, steps_run: int) -> Finding:
        finite = math.isfinite(self.left) and math.isfinite(self.right)
        status: Status = "pass" if _holds(condition.order, self.left, self.right) else "fail"
        operands = [*self.left_operands, *self.right_operands]
        # `500 > max(grad_norm)` observes the gradient norm, and 500 is its bound.
        observed, bound = (self.left, self.right) if self.left_operands else (self.right, self.left)
        return Finding(
            id=id_,
            status=status,
            reason="" if status == "pass" else "criterion-failed" if finite else "non-finite",
            text=self.sentence(condition, steps_run, finite=finite),
            step=next((operand.step for operand in operands if operand.step is not None), None),
            observed=observed,
            bound=bound,
            data={"operands": [{"name": one.name, "value": one.value, "step": one.step} for one in operands]},
        )

    def sentence(self, condition: Condition, steps_run: int, *, finite: bool) -> str:
        left, right = number(self.left), number(self.right)
        if left == right and self.left != self.right:
            left, right = repr(self.left), repr(self.right)
        if self.left_operands:
            order = condition.order
            subject = _subject(condition.left, left, self.left_operands)
            bound = _bound(condition.right, right, self.right_operands)
        else:
            order = _MIRRORED[condition.order]
            subject = _subject(condition.right, right, self.right_operands)
            bound = _bound(condition.left, left, [])
        qualifiers = "".join(f" {part}" for part in (condition.over, condition.moment) if part is not None)
        text = f"{subject}, the recipe requires {order} {bound}{qualifiers}"
        if not finite:
            return text + "; NaN and infinity meet no criterion"
        if self.step is not None:
            holds = _holds(condition.order, self.left, self.right)
            text += " (first met at this step)" if holds else self.nearest(condition)
        if self.deadline is not None and steps_run < self.deadline:
            text += f"; the run ended at step {steps_run}"
        return text

    def nearest(self, condition: Condition) -> str:
        """Say what singles out the step of a criterion that did not hold by its deadline."""
        bound = condition.right if self.left_operands else condition.left
        return " (the closest step)" if bare_metrics(bound) else " (its best value)"


def _holds(order: Order, left: float, right: float) -> bool:
    return math.isfinite(left) and math.isfinite(right) and bool(_HOLDS[order](left, right))


def _deadline(condition: Condition, steps_per_epoch: int | None) -> int | None:
    if not isinstance(condition.moment, Deadline):
        return None
    if condition.moment.unit == "step":
        return condition.moment.count
    if steps_per_epoch is None:
        raise NotEvaluableError(
            "unknown-epoch-length",
            f"'{condition.moment}' needs the number of steps in an epoch; add steps_per_epoch to the recipe",
        )
    return condition.moment.count * steps_per_epoch


def _compare(condition: Condition, metrics: RecordedMetrics, deadline: int | None) -> _Comparison:
    for name in dict.fromkeys(
        node.name for side in (condition.left, condition.right) for node in walk(side) if isinstance(node, MetricRef)
    ):
        metrics.points(name)  # a metric that is missing anywhere comes before every other problem
    first, last = metrics.step_range(condition.over) if condition.over else (-math.inf, math.inf)
    step_range: StepRange = (first, min(last, deadline if deadline is not None else math.inf))
    left_operands: list[Operand] = []
    right_operands: list[Operand] = []
    left = fold(condition.left, step_range, metrics, left_operands)
    right = fold(condition.right, step_range, metrics, right_operands)
    names = list(dict.fromkeys(bare_metrics(left) + bare_metrics(right)))
    step = None
    if deadline is not None and names:
        step, values = _deciding_row(condition.order, left, right, aligned(names, step_range, metrics))
        step_of = dict.fromkeys(names, step)
    else:
        ends = {name: points_in(name, step_range, metrics)[-1] for name in names}
        values = {name: value for name, (_, value) in ends.items()}
        step_of = {name: step for name, (step, _) in ends.items()}
    return _Comparison(
        left=evaluate(left, values),
        right=evaluate(right, values),
        left_operands=[Operand(name=n, value=values[n], step=step_of[n]) for n in bare_metrics(left)] + left_operands,
        right_operands=[Operand(name=n, value=values[n], step=step_of[n]) for n in bare_metrics(right)]
        + right_operands,
        step=step,
        deadline=deadline,
    )


def _deciding_row(
    order: Order, left: Node, right: Node, rows: list[tuple[int, dict[str, float]]]
) -> tuple[int, dict[str, float]]:
    """Return the first step at which the comparison holds, else the one at which it came closest, else the first."""
    best, smallest_gap = rows[0], math.inf
    for row in rows:
        left_value, right_value = evaluate(left, row[1]), evaluate(right, row[1])
        if _holds(order, left_value, right_value):
            return row
        if abs(left_value - right_value) < smallest_gap:
            best, smallest_gap = row, abs(left_value - right_value)
    return best


def _subject(node: Node, value: str, operands: list[Operand]) -> str:
    """`val_f1 was 0.41 at step 800`; `a - b was 0.5 (a was 2.3 at step 400, b was 1.8 at step 400)`."""
    return f"{node} was {value}{_origin(node, operands)}"


def _bound(node: Node, value: str, operands: list[Operand]) -> str:
    """`0.6`; `text_nll (1.8 at step 400)`; `1.1 * text_nll = 1.98 (text_nll was 1.8 at step 400)`."""
    if isinstance(node, Number):
        return value
    step = _single_step(node, operands)
    return f"{node} = {value}{_origin(node, operands)}" if step is None else f"{node} ({value} at step {step})"


def _origin(node: Node, operands: list[Operand]) -> str:
    """Name the step of a single metric or function, or the values that a longer expression was computed from."""
    step = _single_step(node, operands)
    if step is not None:
        return f" at step {step}"
    return f" ({', '.join(map(str, operands))})" if operands and not _is_single(node, operands) else ""


def _single_step(node: Node, operands: list[Operand]) -> int | None:
    return operands[0].step if _is_single(node, operands) else None


def _is_single(node: Node, operands: list[Operand]) -> bool:
    return len(operands) == 1 and operands[0].name.strip("`") == str(node).strip("`")


@lru_cache(maxsize=1024)  # the few criteria of a recipe are parsed again by every module that reads them
def parse(text: str) -> Criterion:
    """Parse a criterion, `comparison` or `name: comparison`.

    Raises `CriterionError`, which points at the offending characters.
    """
    name, start = name_of(text)
    return Criterion(text=text[start:], name=name, condition=condition_of(text))
