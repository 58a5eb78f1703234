"""The one metric of a recipe by which its cells are told apart."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_smoke.criteria import parse
from pytest_smoke.criteria.nodes import Binary, Call, Condition, Metric, Negate, Node
from pytest_smoke.judge.metrics.direction import lower_is_better

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MainMetric:
    """A metric of `evaluate`, and where it should go."""

    name: str
    better: Better


def main_metric(
    accept: Sequence[str], metrics: Collection[str], declared: Mapping[str, Better | None]
) -> MainMetric | None:
    """The first of `metrics` that a criterion of `accept` names, else the first of them; None if there are none.

    Which way is better is what is `declared` of it; where nothing is, the criterion says so; where it does not (`==`,
    or no criterion at all), the name does.
    """
    for text in accept:
        for name, rising in _named(parse(text).condition):
            if name in metrics:
                said = _by_name(name) if rising is None else _word(rising)
                return MainMetric(name=name, better=declared.get(name) or said)
    first = next(iter(metrics), None)
    return None if first is None else MainMetric(name=first, better=declared.get(first) or _by_name(first))


def _by_name(name: str) -> Better:
    return "lower" if lower_is_better(name) else "higher"


def _word(rising: bool) -> Better:
    return "higher" if rising else "lower"


def _named(condition: Condition) -> Iterator[tuple[str, bool | None]]:
    """Each metric of the criterion, left to right, and whether it helps that it rises; None where that is not said."""
    left_rises = condition.order in (">", ">=")
    for side, rises in ((condition.left, left_rises), (condition.right, not left_rises)):
        for name, same in _signed(side, same=True):
            yield name, (rises == same) if condition.order in ("<", "<=", ">", ">=") else None


def _signed(node: Node, *, same: bool) -> Iterator[tuple[str, bool]]:
    """Each metric below `node`, and whether the node rises with it, all values taken to be positive."""
    match node:
        case Metric():
            yield node.name, same
        case Call():
            yield from _signed(node.argument, same=same)
        case Negate():
            yield from _signed(node.operand, same=not same)
        case Binary():
            yield from _signed(node.left, same=same)
            yield from _signed(node.right, same=same == (node.sign in "+*"))
