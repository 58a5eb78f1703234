"""Draw a task's batches step by step, and count the sources of their samples."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pytest_smoke.errors import TaskError
from pytest_smoke.events import SourceCounts
from pytest_smoke.mix.samples import SampleCounter, resolution
from pytest_smoke.task import Task
from pytest_smoke.train.device import seed_all
from pytest_smoke.train.hooks import hook_of
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.ranks import Ranks, StepSources
from pytest_smoke.train.task import load_task, loader_of, sources_of

MIN_MICRO_BATCHES = 20
"""Micro-batches needed to estimate whether samples are drawn one by one or one source at a time."""


def seeded_task(plan: RunPlan) -> Task:
    """Seed all generators and build the plan's task. Raises TaskError, and whatever the task raises."""
    if plan.root not in sys.path:
        sys.path.insert(0, plan.root)
    importlib.import_module(plan.task.partition(":")[0])  # before seeding, so that libraries it imports are seeded too
    seed_all(plan.seed)
    return load_task(plan.task, plan.args, root=Path(plan.root), allowed=plan.allowed)


def rank_loaders(task: Task, plan: RunPlan, seed: int) -> list[Any]:
    """Return what `batches` returns for each rank of this process: iterables, some of which know their own position.

    Raises TaskError.
    """
    size, ranks = plan.batch_size, plan.world_size
    return [loader_of(task, size, seed=seed, rank=rank, world_size=ranks) for rank in plan.ranks]


def next_micro_batches(ranks: Sequence[Iterator[Any]], micro_batches: int) -> list[Any]:
    """Return `micro_batches` of every rank, the ranks in turn, as data-parallel ranks would draw them.

    Raises TaskError if an iterator is exhausted.
    """
    try:
        return [next(rank) for _ in range(micro_batches) for rank in ranks]
    except StopIteration:
        raise TaskError("batches() ended: it must return an infinite iterator") from None


class BatchStream:
    """Iterate over a task's micro-batches, one optimizer step at a time, and remember the position for resuming.

    The ranks of the full run are folded onto the processes of this one: a step has `micro_batches` of each of them.
    """

    def __init__(self, task: Task, plan: RunPlan, *, seed: int) -> None:
        self._task, self._plan = task, plan
        self._loaders: list[Any] = []
        self._ranks: list[Iterator[Any]] = []
        self.restart(seed)

    def restart(self, seed: int, *, states: Sequence[Any] | None = None) -> None:
        """Start from the first batch in the order of `seed`, or from the position in `states`.

        States are loaded before anything is drawn, as torchdata's StatefulDataLoader requires.
        """
        self._loaders = rank_loaders(self._task, self._plan, seed)
        if states is not None:
            for loader, state in zip(self._loaders, states, strict=True):
                loader.load_state_dict(state)
        self._ranks = [_iterator_of(loader) for loader in self._loaders]

    def draw(self) -> list[Any]:
        """Return the next step's micro-batches, on the host. Raises TaskError if there are no more."""
        return next_micro_batches(self._ranks, self._plan.micro_batches)

    def states(self) -> list[Any] | None:
        """Return the `state_dict` of every rank's loader; None if one of them has none."""
        return [loader.state_dict() for loader in self._loaders] if all(map(_is_stateful, self._loaders)) else None


def _iterator_of(loader: Any) -> Iterator[Any]:
    """Start to draw from what `batches` returned. Raises TaskError if its `__iter__` returns no iterator."""
    try:
        return iter(loader)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # inside of its `__iter__`
        raise TaskError(f"batches() returned {type(loader).__name__}, which cannot be iterated over: {error}") from None


def _is_stateful(loader: Any) -> bool:
    return callable(hook_of(loader, "state_dict")) and callable(hook_of(loader, "load_state_dict"))


class SourceReports:
    """Decides when enough samples are counted to be judged.

    It reports as soon as chance alone could not hide a difference of the tolerance between independent samples. If the
    samples are not independent (a source at a time, say), it reports again whenever their number has doubled, until the
    same holds for them. A large error is then known early, and a small one before the run ends.
    """

    def __init__(self, plan: RunPlan) -> None:
        self._tolerance, self._last_step = plan.mix_tolerance, plan.run_steps - 1
        self._samples = SampleCounter()
        self._next_report = 0
        """Number of samples that the next report needs."""
        self.is_active = True
        """Whether more samples are needed."""

    def state_dict(self) -> dict[str, Any]:
        """Return the counts as builtins."""
        return {"samples": self._samples.state_dict(), "next_report": self._next_report, "active": self.is_active}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the counts of `state_dict`."""
        self._samples.load_state_dict(state["samples"])
        self._next_report, self.is_active = state["next_report"], state["active"]

    def add(self, step: int, micro_batches: Iterable[Mapping[str, int]]) -> SourceCounts | None:
        """Count the samples by source of one step's micro-batches; return an event if there is enough to judge."""
        if not self.is_active:
            return None
        samples = self._samples
        for counts in micro_batches:
            samples.add(counts)
        is_last = step == self._last_step
        if not is_last and not self._should_report():
            return None
        self._next_report = 2 * samples.samples
        self.is_active = not is_last and resolution(samples) > self._tolerance
        return SourceCounts(step, samples.samples, dict(samples.counts), samples.design_effect)

    def _should_report(self) -> bool:
        samples = self._samples
        if samples.batches < MIN_MICRO_BATCHES or samples.samples < self._next_report:
            return False
        return resolution(samples, design_effect=1.0) <= self._tolerance


class SourceCounter:
    """Counts the sources of the samples in a run's first steps, on the host, with those of all its processes."""

    def __init__(self, task: Task, plan: RunPlan, ranks: Ranks | None = None) -> None:
        """`ranks`: the processes of the run; None for one."""
        self._task, self._ranks, self._is_active = task, ranks, hook_of(task, "sources") is not None
        self._reports = SourceReports(plan)
        if ranks is not None and self._is_active:
            ranks.together.sources = self._reports

    def state_dict(self) -> dict[str, Any]:
        """Return the counts as builtins."""
        return self._reports.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the counts of `state_dict`."""
        self._reports.load_state_dict(state)

    def add(self, step: int, batches: Sequence[Any]) -> SourceCounts | None:
        """Count one step's micro-batches; return an event if there is enough to judge. Raises TaskError.

        In a run with several processes, the first one reports the event once it has the counts of all.
        """
        ranks = self._ranks
        if not self._is_active or not (self._reports.is_active if ranks is None else ranks.needs_sources):
            return None
        counts = tuple(sources_of(self._task, batch) for batch in batches)
        if ranks is None:
            return self._reports.add(step, counts)
        ranks.outbox.append(StepSources(step, counts))
        return None


def count_sources(plan: RunPlan, micro_batches: int) -> SampleCounter:
    """Count the sources in the first micro-batches of the plan's task, without a model.

    Raises TaskError, and whatever the task raises.
    """
    torch.set_num_threads(plan.cpu_threads)
    task = seeded_task(plan)
    if hook_of(task, "sources") is None:
        raise TaskError(f"{plan.task} has no sources(batch), so the source of a sample is not known")
    ranks = [_iterator_of(loader) for loader in rank_loaders(task, plan, plan.seed)]
    samples = SampleCounter()
    while samples.batches < micro_batches:
        for batch in next_micro_batches(ranks, 1)[: micro_batches - samples.batches]:
            samples.add(sources_of(task, batch))
    return samples
