"""Batches as a run draws them, and what was drawn, by source."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import torch

from pytest_smoke.errors import TaskError
from pytest_smoke.events import SourceCounts
from pytest_smoke.mix.samples import SampleCounter, resolution
from pytest_smoke.train.device import seed_all
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.task import Task, load_task, sources_of

MIN_MICRO_BATCHES = 20
"""Micro-batches from which their variation says how far samples are drawn one by one, or a source at a time."""


def seeded_task(plan: RunPlan) -> Task:
    """The plan's task, as a run has it. Raises TaskError, and what the task raises."""
    if plan.root not in sys.path:
        sys.path.insert(0, plan.root)
    importlib.import_module(plan.task.partition(":")[0])  # first, so that all it imports is seeded too
    seed_all(plan.seed)
    return load_task(plan.task, plan.args)


def loaders(task: Task, plan: RunPlan, seed: int) -> list[Any]:
    """What each rank's `batches` returns: iterables, some of which know their own position."""
    size, ranks = plan.batch_size, plan.world_size
    return [task.batches(size, seed=seed, rank=rank, world_size=ranks) for rank in range(ranks)]


def sampled(task: Task, plan: RunPlan, seed: int) -> list[Iterator[Any]]:
    """Each rank's iterator over micro-batches."""
    return [iter(loader) for loader in loaders(task, plan, seed)]


def one_step(ranks: list[Iterator[Any]], micro_batches: int) -> list[Any]:
    """One step's micro-batches: the ranks take turns, as data-parallel ranks would side by side. Raises TaskError."""
    try:
        return [next(rank) for _ in range(micro_batches) for rank in ranks]
    except StopIteration:
        raise TaskError("batches() ended: it must return an iterator without end") from None


class SourceCounter:
    """Counts what a run draws in its first steps, on the host.

    It reports once chance could hide no difference of the tolerance between independent samples, and where they are not
    (a source at a time, say) again whenever the samples have doubled, until that holds of them as they are. What is
    wrong by much is then known early, and what is wrong by little before the run ends.
    """

    def __init__(self, task: Task, plan: RunPlan) -> None:
        self._task, self._plan = task, plan
        self._draws = SampleCounter()
        self._due_samples = 0
        self._counting = getattr(task, "sources", None) is not None

    def state_dict(self) -> dict[str, Any]:
        """What was counted, in plain values."""
        return {"draws": self._draws.state_dict(), "due_samples": self._due_samples, "counting": self._counting}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Count on from there."""
        self._draws.load_state_dict(state["draws"])
        self._due_samples, self._counting = state["due_samples"], state["counting"]

    def add(self, step: int, batches: list[Any]) -> SourceCounts | None:
        """Count one step's micro-batches; a record where there is something to judge. Raises TaskError."""
        if not self._counting:
            return None
        draws = self._draws
        for batch in batches:
            draws.add(sources_of(self._task, batch))
        last = step == self._plan.run_steps - 1
        if not last and not self._due():
            return None
        self._due_samples = 2 * draws.samples
        self._counting = not last and resolution(draws) > self._plan.mix_tolerance
        return SourceCounts(step, draws.samples, dict(draws.counts), draws.design_effect)

    def _due(self) -> bool:
        draws = self._draws
        if draws.batches < MIN_MICRO_BATCHES or draws.samples < self._due_samples:
            return False
        return resolution(draws, design_effect=1.0) <= self._plan.mix_tolerance


def draw(plan: RunPlan, micro_batches: int) -> SampleCounter:
    """What the plan's task draws in its first micro-batches, without a model. Raises TaskError, and what it raises."""
    torch.set_num_threads(plan.cpu_threads)
    task = seeded_task(plan)
    if getattr(task, "sources", None) is None:
        raise TaskError(f"{plan.task} has no sources(batch): only it can say which source a sample is from")
    ranks = sampled(task, plan, plan.seed)
    draws = SampleCounter()
    while draws.batches < micro_batches:
        for batch in one_step(ranks, 1)[: micro_batches - draws.batches]:
            draws.add(sources_of(task, batch))
    return draws
