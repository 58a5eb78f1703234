"""Count the items in a run's first steps, as the task's `counts` tells them, and in the full run's micro-batches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from math import prod, sqrt
from statistics import fmean, stdev
from typing import Any

from pytest_smoke.events import DrawnItems
from pytest_smoke.task import Task
from pytest_smoke.train.batch_equivalence import restored
from pytest_smoke.train.batch_sizes import shapes_of
from pytest_smoke.train.device import isolated_eval
from pytest_smoke.train.hooks import hook_of
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.step import Stepper
from pytest_smoke.train.task import counts_of

STEPS = 8
"""First steps that are counted."""
ROUNDS = 8
"""Rounds in which one larger micro-batch and as many samples in smaller ones are drawn, at most."""
MIN_ROUNDS = 4
"""Rounds from which a mean has a standard error that means something."""
DRAW_SECONDS = 10.0
"""Time after which no further round is drawn."""
ITEM_SEED_OFFSET = 5_000_003
"""Added to the seed of these batches, so that they differ from the training batches."""
ALIKE = 0.05
"""Relative difference within which two micro-batches of different sizes have as many items, or elements per sample."""

Totals = tuple[list[float], float]
"""Items by term, and elements of the tensors."""


class ItemCounter:
    """Counts the items of each step, and calls `counts` once more for each batch, to see whether it returns the same.

    Nothing is counted without `counts`.
    """

    def __init__(self, task: Task, plan: RunPlan, stepper: Stepper) -> None:
        self._task, self._plan, self._stepper = task, plan, stepper
        self._is_active = hook_of(task, "counts") is not None
        self._terms: tuple[str, ...] = ()
        self._steps: list[list[float]] = []
        self._micro_batches = self._empty = 0
        self._changed: tuple[float, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        """Return the counts as builtins."""
        return {
            "active": self._is_active,
            "terms": list(self._terms),
            "steps": self._steps,
            "micro_batches": self._micro_batches,
            "empty": self._empty,
            "changed": list(self._changed),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the counts of `state_dict`."""
        self._is_active, self._terms, self._steps = state["active"], tuple(state["terms"]), list(state["steps"])
        self._micro_batches, self._empty = state["micro_batches"], state["empty"]
        self._changed = tuple(state["changed"])

    def add(self, step: int, batches: Sequence[Any]) -> DrawnItems | None:
        """Add the step that was just made; return an event after the last one that is counted.

        Raises TaskError.
        """
        if not self._is_active:
            return None
        stepper = self._stepper
        if self._terms not in ((), stepper.terms):  # a phase with other terms starts
            return self._event(step - 1)
        self._terms = stepper.terms
        self._steps.append(list(stepper.totals))
        self._micro_batches += len(batches) * self._plan.processes
        self._empty += int(stepper.empty)
        for batch, row in zip(batches, stepper.counts, strict=True):
            again = counts_of(self._task, batch, self._terms)
            differing = [pair for pair in zip(row, again, strict=True) if pair[0] != pair[1]]
            self._changed = self._changed or tuple(differing[0] if differing else ())
        is_last = len(self._steps) == STEPS or step == self._plan.run_steps - 1
        return self._event(step) if is_last else None

    def _event(self, step: int) -> DrawnItems:
        self._is_active = False
        columns = dict(zip(self._terms, zip(*self._steps, strict=True), strict=True))
        per_sample = {} if self._changed or not self._plan.has_other_batch_size else self._compared()
        return DrawnItems(
            step=step,
            steps=len(self._steps),
            fewest={term: min(column) for term, column in columns.items()},
            most={term: max(column) for term, column in columns.items()},
            micro_batches=self._micro_batches,
            empty=self._empty,
            changed=self._changed,
            smoke_batch_size=self._plan.batch_size,
            full_batch_size=self._plan.full_batch_size or self._plan.batch_size,
            per_sample=per_sample,
        )

    def _compared(self) -> dict[str, tuple[float, float, float]]:
        """Return the items per sample by term: in the smoke run's micro-batches, in the full run's, standard error.

        Empty if they could not be drawn.
        """
        stepper = self._stepper
        sizes = (self._plan.batch_size, self._plan.full_batch_size or self._plan.batch_size)
        try:
            with isolated_eval(stepper.model, stepper.device), restored(stepper.model, self._task):
                rounds = list(self._rounds(sizes))
        except Exception:  # of the task: the run can train without the comparison
            return {}
        return compared_items(rounds, sizes, self._terms)

    def _rounds(self, sizes: tuple[int, int]) -> Iterator[tuple[Totals, Totals]]:
        """Yield the totals of about as many samples in micro-batches of both sizes, in both in the same order."""
        largest, started = max(sizes), time.monotonic()
        streams = [iter(self._task.batches(size, seed=self._plan.seed + ITEM_SEED_OFFSET)) for size in sizes]
        for _ in range(ROUNDS):
            smoke, full = (
                self._totals([next(stream) for _ in range(largest // size)])
                for stream, size in zip(streams, sizes, strict=True)
            )
            yield smoke, full
            if time.monotonic() - started > DRAW_SECONDS:
                return

    def _totals(self, batches: Sequence[Any]) -> Totals:
        """Return means over the micro-batches."""
        counts = [counts_of(self._task, batch, self._terms) for batch in batches]
        elements = [sum(prod(shape) for _, shape in shapes_of(batch)) for batch in batches]
        return [fmean(column) for column in zip(*counts, strict=True)], fmean(elements)


def compared_items(
    rounds: Sequence[tuple[Totals, Totals]], sizes: tuple[int, int], terms: Sequence[str]
) -> dict[str, tuple[float, float, float]]:
    """Return per term the items per sample in micro-batches of both `sizes`, and the standard error of the difference.

    Left out is a count that does not grow with the number of samples although the tensors do, such as 1 or a mean
    length: it tells no items.
    """
    if len(rounds) < MIN_ROUNDS:
        return {}
    elements = [fmean(row[at][1] for row in rounds) / size for at, size in enumerate(sizes)]
    found: dict[str, tuple[float, float, float]] = {}
    for column, term in enumerate(terms):
        smoke, full = ([row[at][0][column] for row in rounds] for at in range(2))
        if _alike(fmean(smoke), fmean(full)) and _alike(*elements):
            continue
        rates = [[items / size for items in each] for each, size in zip((smoke, full), sizes, strict=True)]
        differences = [a - b for a, b in zip(*rates, strict=True)]
        found[term] = (fmean(rates[0]), fmean(rates[1]), stdev(differences) / sqrt(len(differences)))
    return found


def _alike(a: float, b: float) -> bool:
    return abs(a - b) <= ALIKE * max(a, b)
