"""The syntax tree of a criterion. `str` of a node is its canonical text, which parses back to an equal node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Function = Literal["max", "min", "mean", "median", "first", "last"]
FUNCTIONS: tuple[Function, ...] = ("max", "min", "mean", "median", "first", "last")
Sign = Literal["+", "-", "*", "/"]
Order = Literal["<=", ">=", "==", "!=", "<", ">"]
ORDERS: tuple[Order, ...] = ("<=", ">=", "==", "!=", "<", ">")

BASELINE = "baseline."
NAME = re.compile(r"[^\W\d]\w*(?:\.\w+)*")

TextRange = tuple[int, int]
"""Characters of the criterion's text, end exclusive."""


def quoted(name: str) -> str:
    """Spell a name as a criterion does: in backticks unless it is a plain name."""
    return name if NAME.fullmatch(name) else f"`{name}`"


@dataclass(frozen=True, slots=True, kw_only=True)
class OverStage:
    """`over stage NAME`."""

    name: str
    span: TextRange = field(compare=False)

    def __str__(self) -> str:
        return f"over stage {quoted(self.name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OverSteps:
    """`over steps FIRST-LAST`, both inclusive."""

    first: int
    last: int
    span: TextRange = field(compare=False)

    def __str__(self) -> str:
        return f"over steps {self.first}-{self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """`by step COUNT` or `by epoch COUNT`."""

    unit: Literal["step", "epoch"]
    count: int
    span: TextRange = field(compare=False)

    def __str__(self) -> str:
        return f"by {self.unit} {self.count}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtEnd:
    """`at end`."""

    span: TextRange = field(compare=False)

    def __str__(self) -> str:
        return "at end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A finite constant, never negative: a minus sign is a `Negate`."""

    value: float
    span: TextRange = field(compare=False)

    def __str__(self) -> str:
        # Below 2**53 every whole float has exactly one integer spelling.
        return str(int(self.value)) if self.value < 1e15 and self.value.is_integer() else repr(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRef:
    """A metric of the run that is judged."""

    name: str
    span: TextRange = field(compare=False)

    def __str__(self) -> str:
        return f"`{self.name}`" if self.name.startswith(BASELINE) else quoted(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRef:
    """A metric's final value in the baseline run: `baseline.NAME`."""

    name: str
    span: TextRange = field(compare=False)

    def __str__(self) -> str:
        return BASELINE + (self.name if NAME.fullmatch(BASELINE + self.name) else f"`{self.name}`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function over the values of the metrics in `argument`."""

    function: Function
    argument: Node
    over: OverStage | OverSteps | None
    """Its own range of steps; None: the criterion's."""
    span: TextRange = field(compare=False)

    def __str__(self) -> str:
        return f"{self.function}({self.argument}{f' {self.over}' if self.over else ''})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Negate:
    """Unary minus."""

    operand: Node
    span: TextRange = field(compare=False)

    def __str__(self) -> str:
        return f"-({self.operand})" if isinstance(self.operand, Binary) else f"-{self.operand}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """Arithmetic; `*` and `/` bind tighter than `+` and `-`, operators of one level group to the left."""

    sign: Sign
    left: Node
    right: Node
    span: TextRange = field(compare=False)

    def __str__(self) -> str:
        tight = self.sign in "*/"
        left, right = str(self.left), str(self.right)
        if isinstance(self.left, Binary) and tight and self.left.sign in "+-":
            left = f"({left})"
        if isinstance(self.right, Binary) and (tight or self.right.sign in "+-"):
            right = f"({right})"
        return f"{left} {self.sign} {right}"


Node = Number | MetricRef | BaselineRef | Call | Negate | Binary


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One comparison, with the steps it is about."""

    left: Node
    order: Order
    right: Node
    over: OverStage | OverSteps | None
    """Range of steps for every metric and function without one of its own; None: the whole run."""
    moment: Deadline | AtEnd | None
    """When it must hold; None: at the end."""
    span: TextRange = field(compare=False)

    def __str__(self) -> str:
        parts = (f"{self.left} {self.order} {self.right}", self.over, self.moment)
        return " ".join(str(part) for part in parts if part is not None)


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and all nodes below it, left to right."""
    yield node
    match node:
        case Call():
            yield from walk(node.argument)
        case Negate():
            yield from walk(node.operand)
        case Binary():
            yield from walk(node.left)
            yield from walk(node.right)


def bare_metrics(node: Node) -> list[str]:
    """Return the names of the metrics outside every function, each once, left to right."""
    match node:
        case MetricRef():
            return [node.name]
        case Negate():
            return bare_metrics(node.operand)
        case Binary():
            return list(dict.fromkeys(bare_metrics(node.left) + bare_metrics(node.right)))
        case _:
            return []
