"""Parse a criterion's text by recursive descent. Nothing is ever evaluated as Python."""

from __future__ import annotations

import math
from typing import NoReturn

from pytest_smoke.criteria import nodes
from pytest_smoke.criteria.nodes import (
    BASELINE,
    FUNCTIONS,
    ORDERS,
    AtEnd,
    BaselineRef,
    Binary,
    Call,
    Condition,
    Deadline,
    MetricRef,
    Negate,
    Node,
    Number,
    OverStage,
    OverSteps,
    Sign,
    TextRange,
)
from pytest_smoke.criteria.tokens import OPERAND, QUALIFIERS, TWO_CRITERIA, Token, tokens_of
from pytest_smoke.errors import CriterionError
from pytest_smoke.text import closest

MAX_DEPTH = 30
"""Levels of parentheses, functions and minus signs inside each other."""


def condition_of(text: str) -> Condition:
    """Parse the comparison in `text`, without its name. Raises `CriterionError`."""
    return _Parser(text).condition()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens_of(text)
        self.at = 0
        self.depth = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.token
        self.at += token.kind != "end"
        return token

    def fail(self, problem: str, span: TextRange | None = None) -> NoReturn:
        raise CriterionError(self.text, span or self.token.span, problem)

    def spanned(self, start: int) -> TextRange:
        return (start, self.tokens[self.at - 1].span[1])

    def is_sign(self, *signs: str) -> bool:
        return self.token.kind == "sign" and self.token.text in signs

    def condition(self) -> Condition:
        begin = self.token.span[0]
        left = self.sum()
        if not self.is_sign(*ORDERS):
            self.fail(f"expected a comparison ({' '.join(ORDERS)}), found {self.token}")
        order = next(known for known in ORDERS if known == self.token.text)
        self.take()
        right = self.sum()
        over: OverStage | OverSteps | None = None
        moment: Deadline | AtEnd | None = None
        while self.token.kind == "name" and self.token.text in ("over", "by", "at"):
            start, word = self.token.span[0], self.token.text
            if word == "over":
                repeated, over = over is not None, self.over()
            else:
                repeated, moment = moment is not None, self.moment()
            if repeated:
                example = "'loss < 3 over stage A'" if word == "over" else "'loss < 3 by step 400' or 'loss < 3 at end'"
                allowed = "'over'" if word == "over" else "'by' or 'at end'"
                self.fail(f"a criterion can have only one {allowed}, as in {example}", self.spanned(start))
        self.closed()
        whole = self.spanned(begin)
        if not any(isinstance(node, MetricRef) for side in (left, right) for node in nodes.walk(side)):
            self.fail("a criterion needs at least one metric of the smoke run itself", whole)
        return Condition(left=left, order=order, right=right, over=over, moment=moment, span=whole)

    def closed(self) -> None:
        token = self.token
        if token.kind == "end":
            return
        if self.is_sign(*ORDERS) or token.text in ("and", "or"):
            self.fail(f"a second comparison starts at {token}; {TWO_CRITERIA}")
        near = closest(token.text, ["over", "by", "at"])
        suggestion = f" (did you mean {near!r}?)" if near else ""
        self.fail(f"expected an operator or the end, found {token}{suggestion}; allowed here: + - * /, {QUALIFIERS}")

    def sum(self) -> Node:
        start = self.token.span[0]
        node = self.product()
        while self.is_sign("+", "-"):
            sign: Sign = "+" if self.take().text == "+" else "-"
            right = self.product()
            node = Binary(sign=sign, left=node, right=right, span=self.spanned(start))
        return node

    def product(self) -> Node:
        start = self.token.span[0]
        node = self.unary()
        while self.is_sign("*", "/"):
            sign: Sign = "*" if self.take().text == "*" else "/"
            right = self.unary()
            node = Binary(sign=sign, left=node, right=right, span=self.spanned(start))
        return node

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"more than {MAX_DEPTH} nested levels; simplify the expression")

    def unary(self) -> Node:
        if not self.is_sign("-"):
            return self.operand()
        start = self.take().span[0]
        self.deeper()
        operand = self.unary()
        self.depth -= 1
        return Negate(operand=operand, span=self.spanned(start))

    def operand(self) -> Node:
        token = self.token
        if token.kind == "number":
            value = float(token.text)
            if math.isinf(value):
                self.fail(f"{token} is larger than the largest float, 1.8e308")
            self.take()
            return Number(value=value, span=token.span)
        if token.kind in ("name", "quoted"):
            self.take()
            return self.call(token) if self.is_sign("(") else self.reference(token)
        if not self.is_sign("("):
            self.fail(f"expected {OPERAND} or '(', found {token}")
        self.take()
        self.deeper()
        inner = self.sum()
        self.close("an operator or ')'")
        return inner

    def close(self, allowed: str) -> None:
        if not self.is_sign(")"):
            self.fail(f"expected {allowed}, found {self.token}")
        self.take()
        self.depth -= 1

    def reference(self, token: Token) -> Node:
        if token.kind == "quoted":
            name = token.text.split("`")[1]
            return (
                BaselineRef(name=name, span=token.span)
                if token.text[0] != "`"
                else MetricRef(name=name, span=token.span)
            )
        if token.text.startswith(BASELINE):
            return BaselineRef(name=token.text.removeprefix(BASELINE), span=token.span)
        return MetricRef(name=token.text, span=token.span)

    def call(self, token: Token) -> Call:
        function = next((known for known in FUNCTIONS if known == token.text), None)
        if function is None:
            near = closest(token.text, FUNCTIONS)
            suggestion = f" (did you mean {near!r}?)" if near else ""
            self.fail(f"there is no function {token}{suggestion}; functions: {', '.join(FUNCTIONS)}", token.span)
        self.take()
        self.deeper()
        argument = self.sum()
        if not nodes.bare_metrics(argument):
            problem = f"{function}(...) needs a metric inside it, as in {function}(loss)"
            self.fail(f"{problem}; a number or another function is not enough", argument.span)
        over = self.over() if self.token.kind == "name" and self.token.text == "over" else None
        self.close("an operator, 'over stage NAME', 'over steps A-B' or ')'")
        return Call(function=function, argument=argument, over=over, span=self.spanned(token.span[0]))

    def word(self, *allowed: str) -> str:
        if self.token.kind != "name" or self.token.text not in allowed:
            self.fail(f"expected {' or '.join(map(repr, allowed))}, found {self.token}")
        return self.take().text

    def whole(self, what: str) -> int:
        if self.token.kind != "number" or not self.token.text.isdigit() or len(self.token.text) > 15:
            self.fail(f"expected {what}, a whole number, found {self.token}")
        return int(self.take().text)

    def over(self) -> OverStage | OverSteps:
        start = self.take().span[0]
        if self.word("stage", "steps") == "stage":
            if self.token.kind == "quoted" and self.token.text[0] == "`":
                name = self.take().text.strip("`")
            elif self.token.kind == "name":
                name = self.take().text
            else:
                self.fail(f"expected the name of a stage (in backticks if it is not a plain name), found {self.token}")
            return OverStage(name=name, span=self.spanned(start))
        first = self.whole("the first step")
        if not self.is_sign("-"):
            self.fail(f"expected '-' between the first and the last step, found {self.token}")
        self.take()
        last = self.whole("the last step")
        if last < first:
            self.fail(f"the last step, {last}, is before the first, {first}", self.spanned(start))
        return OverSteps(first=first, last=last, span=self.spanned(start))

    def moment(self) -> Deadline | AtEnd:
        token = self.take()
        if token.text == "at":
            self.word("end")
            return AtEnd(span=self.spanned(token.span[0]))
        unit = self.word("step", "epoch")
        count = self.whole(f"the {unit}")
        return Deadline(unit="step" if unit == "step" else "epoch", count=count, span=self.spanned(token.span[0]))
