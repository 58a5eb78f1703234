"""The `resume` check: a run that goes on from a checkpoint in a fresh process must make the same steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from typing import Protocol

from pytest_smoke.outcome import Finding

TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2, "fp16": 5e-3}
"""Largest relative difference on an accelerator, by precision. Atomic additions there come in any order, so sums differ
in their last bits (2^-24, 2^-9 and 2^-12 of their size), and training lets that grow over a few dozen steps; lost data
order or optimizer state shows as several per cent. On a CPU, with its threads fixed, nothing may differ."""
NAMED = 3
"""Parts of the state that a sentence names before it counts the rest."""


class StepSeen(Protocol):
    """One optimizer step."""

    @property
    def step(self) -> int:
        """Its number."""

    @property
    def loss(self) -> float:
        """The weighted loss."""

    @property
    def terms(self) -> Mapping[str, float]:
        """The loss terms."""

    @property
    def grad_norm(self) -> float:
        """2-norm of the gradient."""


def resume(
    first: Sequence[StepSeen],
    second: Sequence[StepSeen],
    *,
    planned: int,
    drawn: tuple[Mapping[int, str], Mapping[int, str]] = ({}, {}),
    changed: Sequence[str] = (),
    tolerance: float = 0.0,
) -> Finding:
    """Compare the steps that both runs made, `planned` in number.

    `drawn`: digests of the batches by step, in both. `changed`: parts of the state that were not restored as they were.
    `tolerance`: relative; 0 asks for the same bits.
    """
    before = {row.step: row for row in first}
    pairs = [(before[row.step], row) for row in second if row.step in before]
    if len(pairs) < planned:
        text = f"the resumed run made {len(pairs)} of {planned} steps"
        return Finding(id="resume", status="fail", reason="cut", text=text)
    at = pairs[0][0].step
    exact = "bit for bit" if tolerance == 0 else f"to {tolerance:g} of their size"
    for one, other in pairs:
        different = [(name, a, b) for name, a, b in _figures(one, other) if not (_same(a, b) or _near(a, b, tolerance))]
        if different:
            name, a, b = different[0]
            text = (
                f"resumed at step {at} in a fresh process, the run is another one from step {one.step} on: "
                f"{name} {a:.9g} uninterrupted, {b:.9g} resumed"
            )
            cause, hint = _cause(one.step, drawn, changed)
            return Finding(
                id="resume",
                status="fail",
                reason=cause,
                text=text,
                step=one.step,
                hint=hint,
                observed={"uninterrupted": a, "resumed": b},
                bound=tolerance,
                data={"figure": name, "changed": list(changed)},
            )
    text = f"resumed at step {at} in a fresh process, {len(pairs)} steps are those of the uninterrupted run {exact}"
    return Finding(id="resume", status="pass", text=text, observed=len(pairs), bound=tolerance)


def _figures(one: StepSeen, other: StepSeen) -> list[tuple[str, float, float]]:
    terms = [(name, value, other.terms[name]) for name, value in one.terms.items() if name in other.terms]
    return [("loss", one.loss, other.loss), *terms, ("grad_norm", one.grad_norm, other.grad_norm)]


def _same(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)


def _near(a: float, b: float, tolerance: float) -> bool:
    return tolerance > 0 and isclose(a, b, rel_tol=tolerance)


def _cause(step: int, drawn: tuple[Mapping[int, str], Mapping[int, str]], changed: Sequence[str]) -> tuple[str, str]:
    """One word and a hint. What came first explains what came later."""
    one, other = drawn
    if changed:
        rest = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        hint = (
            f"not what was saved after it was loaded: {', '.join(changed[:NAMED])}{rest}; "
            "does state_dict hold all that training changes (non-persistent buffers are not in it)?"
        )
        return "state", hint
    moved = [at for at in sorted(one.keys() & other.keys()) if at <= step and one[at] != other[at]]
    if moved:
        hint = (
            f"the batch of step {moved[0]} is another one: batches() must depend on its seed alone, not on a global "
            "generator or on what the task has seen; or return an iterator with state_dict and load_state_dict"
        )
        return "data", hint
    hint = (
        "weights, optimizer and batches are the same: look for a generator of the task's own, or for something that "
        "the task counts, and that a fresh process begins anew"
    )
    return "unknown", hint
