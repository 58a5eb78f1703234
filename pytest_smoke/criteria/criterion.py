"""A criterion judged on the records of a run."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from pytest_smoke.criteria.evaluation import (
    Records,
    Seen,
    Unjudgeable,
    Window,
    aligned,
    evaluate,
    fold,
    inside,
    number,
)
from pytest_smoke.criteria.grammar import condition_of
from pytest_smoke.criteria.nodes import (
    Baseline,
    By,
    Call,
    Condition,
    Metric,
    Node,
    Number,
    Order,
    Stage,
    Steps,
    bare_metrics,
    walk,
)
from pytest_smoke.criteria.tokens import name_of
from pytest_smoke.outcome import Finding, Status

_HOLDS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A comparison over named metrics. Equal criteria have equal meaning, however they are spaced."""

    text: str = field(compare=False)
    """As written, without its name."""
    name: str = field(default="", compare=False)
    """What it is called in tables; may be empty."""
    condition: Condition
    """As understood."""

    def __str__(self) -> str:
        return str(self.condition)

    @property
    def id(self) -> str:
        """`accept[...]` with the text as written, spaces normalised, without its name."""
        return f"accept[{' '.join(self.text.split())}]"

    @property
    def metrics(self) -> frozenset[str]:
        """Names of the run's own metrics it reads; a baseline's are not among them."""
        sides = (self.condition.left, self.condition.right)
        return frozenset(node.name for side in sides for node in walk(side) if isinstance(node, Metric))

    @property
    def stages(self) -> frozenset[str]:
        """Names of the stages in its windows."""
        return frozenset(over.name for over in self._windows if isinstance(over, Stage))

    @property
    def last_step(self) -> int | None:
        """The last of the steps that it asks for by number, `over steps A-B`; None where it does not."""
        return max((over.last for over in self._windows if isinstance(over, Steps)), default=None)

    @property
    def counts_epochs(self) -> bool:
        """Whether it asks for an epoch, `by epoch N`."""
        return isinstance(self.condition.moment, By) and self.condition.moment.unit == "epoch"

    @property
    def _windows(self) -> list[Stage | Steps | None]:
        sides = (self.condition.left, self.condition.right)
        return [*(node.over for side in sides for node in walk(side) if isinstance(node, Call)), self.condition.over]

    @property
    def baselines(self) -> frozenset[str]:
        """Names of the metrics it reads from the baseline run."""
        sides = (self.condition.left, self.condition.right)
        return frozenset(node.name for side in sides for node in walk(side) if isinstance(node, Baseline))

    @property
    def reads_baseline(self) -> bool:
        """Whether it compares with another run."""
        return bool(self.baselines)

    def judge(
        self,
        series: Mapping[str, Sequence[tuple[int, float]]],
        *,
        baseline: Mapping[str, float] | None = None,
        steps_run: int,
        stages: Mapping[str, tuple[int, int]] | None = None,
        steps_per_epoch: int | None = None,
    ) -> Finding:
        """`pass` or `fail`, with the numbers that decided. Never raises for what was or was not recorded.

        `series`: (optimizer step, value) by metric. `baseline`: final values of the run to compare with.
        `stages`: first and last step by stage, both inclusive. `steps_per_epoch`: optimizer steps.
        """
        records = Records(series=series, baseline=baseline, stages=stages or {}, steps_run=steps_run)
        try:
            reading = _read(self.condition, records, _deadline(self.condition, steps_per_epoch))
        except Unjudgeable as problem:
            return Finding(
                id=self.id, status="fail", reason=problem.reason, text=f"{self}: {problem}", data=self.called
            )
        finding = reading.finding(self.id, self.condition, steps_run)
        return replace(finding, data={**finding.data, **self.called})

    def not_judged(self, reason: str, text: str) -> Finding:
        """`not-checked`, for a run that never came so far."""
        return Finding(id=self.id, status="not-checked", reason=reason, text=text, data=self.called)

    @property
    def called(self) -> dict[str, str]:
        """Its name as a finding keeps it."""
        return {"name": self.name} if self.name else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """Both sides of the comparison where it was decided."""

    left: float
    right: float
    left_seen: list[Seen]
    right_seen: list[Seen]
    deadline: int | None

    def holds(self, order: Order) -> bool:
        return _holds(order, self.left, self.right)

    def finding(self, id_: str, condition: Condition, steps_run: int) -> Finding:
        finite = math.isfinite(self.left) and math.isfinite(self.right)
        status: Status = "pass" if self.holds(condition.order) else "fail"
        seen = [*self.left_seen, *self.right_seen]
        # `500 > max(grad_norm)` observes the gradient norm, and 500 is its bound.
        observed, bound = (self.left, self.right) if self.left_seen else (self.right, self.left)
        return Finding(
            id=id_,
            status=status,
            reason="" if status == "pass" else "false" if finite else "non-finite",
            text=self.sentence(condition, steps_run, finite=finite),
            step=next((one.step for one in seen if one.step is not None), None),
            observed=observed,
            bound=bound,
            data={"seen": [{"name": one.name, "value": one.value, "step": one.step} for one in seen]},
        )

    def sentence(self, condition: Condition, steps_run: int, *, finite: bool) -> str:
        left, right = number(self.left), number(self.right)
        if left == right and self.left != self.right:
            left, right = repr(self.left), repr(self.right)
        parts = [
            f"{_side(condition.left, left, self.left_seen)}, must be {condition.order} "
            f"{_side(condition.right, right, self.right_seen)}"
        ]
        parts += [str(part) for part in (condition.over, condition.moment) if part is not None]
        text = " ".join(parts)
        if not finite:
            return text + ": a value that is not finite meets no criterion"
        if self.deadline is not None and bare_metrics(condition.left) + bare_metrics(condition.right):
            text += ": first reached there" if self.holds(condition.order) else ": the closest it came"
        if self.deadline is not None and steps_run < self.deadline:
            text += f"; the run ended at step {steps_run}, before step {self.deadline}"
        return text


def _holds(order: Order, left: float, right: float) -> bool:
    return math.isfinite(left) and math.isfinite(right) and bool(_HOLDS[order](left, right))


def _deadline(condition: Condition, steps_per_epoch: int | None) -> int | None:
    if not isinstance(condition.moment, By):
        return None
    if condition.moment.unit == "step":
        return condition.moment.count
    if steps_per_epoch is None:
        raise Unjudgeable("no-epochs", f"'{condition.moment}' needs the steps of an epoch, and this run declares none")
    return condition.moment.count * steps_per_epoch


def _read(condition: Condition, records: Records, deadline: int | None) -> _Reading:
    for name in dict.fromkeys(
        node.name for side in (condition.left, condition.right) for node in walk(side) if isinstance(node, Metric)
    ):
        records.points(name)
    first, last = records.window(condition.over) if condition.over else (-math.inf, math.inf)
    window: Window = (first, min(last, deadline if deadline is not None else math.inf))
    left_seen: list[Seen] = []
    right_seen: list[Seen] = []
    left = fold(condition.left, window, records, left_seen)
    right = fold(condition.right, window, records, right_seen)
    names = list(dict.fromkeys(bare_metrics(left) + bare_metrics(right)))
    if deadline is not None and names:
        step, values = _decisive(condition.order, left, right, aligned(names, window, records))
        where = dict.fromkeys(names, step)
    else:
        ends = {name: inside(name, window, records)[-1] for name in names}
        values = {name: value for name, (_, value) in ends.items()}
        where = {name: step for name, (step, _) in ends.items()}
    return _Reading(
        left=evaluate(left, values),
        right=evaluate(right, values),
        left_seen=[Seen(name=n, value=values[n], step=where[n]) for n in bare_metrics(left)] + left_seen,
        right_seen=[Seen(name=n, value=values[n], step=where[n]) for n in bare_metrics(right)] + right_seen,
        deadline=deadline,
    )


def _decisive(
    order: Order, left: Node, right: Node, rows: list[tuple[int, dict[str, float]]]
) -> tuple[int, dict[str, float]]:
    """The first step at which the comparison holds, else the one at which it came closest, else the first."""
    best, nearest = rows[0], math.inf
    for row in rows:
        one, other = evaluate(left, row[1]), evaluate(right, row[1])
        if _holds(order, one, other):
            return row
        if abs(one - other) < nearest:
            best, nearest = row, abs(one - other)
    return best


def _side(node: Node, value: str, seen: list[Seen]) -> str:
    if isinstance(node, Number):
        return value
    if len(seen) == 1 and seen[0].name.strip("`") == str(node).strip("`"):
        return f"{node} = {value}" + (f" at step {seen[0].step}" if seen[0].step is not None else "")
    return f"{node} = {value}" + (f" ({', '.join(map(str, seen))})" if seen else "")


@lru_cache(maxsize=1024)  # a recipe's few criteria are asked for again and again, from its loading to its report
def parse(text: str) -> Criterion:
    """The criterion that `text` spells. Raises `CriterionError`, which points at the offending characters."""
    name, start = name_of(text)
    return Criterion(text=text[start:], name=name, condition=condition_of(text))
