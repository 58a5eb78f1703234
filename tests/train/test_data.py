"""Sources are counted, reported when there are enough samples, and checked for their form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.errors import TaskError
from pytest_smoke.events import SourceCounts
from pytest_smoke.mix.samples import resolution
from pytest_smoke.train.data import SourceCounter, count_sources
from pytest_smoke.train.plan import RunPlan

Planner = Callable[..., RunPlan]


class Sourced:
    """A task whose batches are the answers of `sources`."""

    def sources(self, batch: Any) -> Any:
        return batch


def reported(plan: RunPlan, batches: Iterator[Any], per_step: int = 1) -> list[SourceCounts]:
    counter = SourceCounter(Sourced(), plan)  # type: ignore[arg-type]  # it calls only `sources`
    events = (counter.add(step, [next(batches) for _ in range(per_step)]) for step in range(plan.run_steps))
    return [event for event in events if event is not None]


MIXED = ["nad"] * 22 + ["osm"] * 42
TURNS = [["nad"] * 64, ["osm"] * 64, ["osm"] * 64]


def test_independent_samples_are_reported_once_chance_cannot_hide_a_difference_of_the_tolerance(
    plan: Planner,
) -> None:
    (counts,) = reported(plan(run_steps=1000, mix_tolerance=0.02), cycle([MIXED]), per_step=2)
    assert counts.counts == {"nad": counts.samples * 22 // 64, "osm": counts.samples * 42 // 64}
    assert resolution(counts) <= 0.02 < resolution(SourceCounts(0, counts.samples - 128, counts.counts, 1.0))


def test_batches_of_one_source_are_reported_early_and_again_at_every_doubling(plan: Planner) -> None:
    """A micro-batch of one source counts as a single sample, so a small error shows late."""
    events = reported(plan(run_steps=1500, mix_tolerance=0.02), cycle(TURNS), per_step=2)
    samples = [counts.samples for counts in events]
    assert all(later >= 2 * sooner for sooner, later in pairwise(samples[:-1]))
    assert events[-1].step == 1499
    assert events[-1].design_effect == 64


def test_a_short_run_is_reported_at_its_end(plan: Planner) -> None:
    (counts,) = reported(plan(run_steps=10, mix_tolerance=0.02), cycle([{"nad": 3, "osm": 1}]))
    assert (counts.step, counts.samples, counts.counts) == (9, 40, {"nad": 30, "osm": 10})


@pytest.mark.parametrize(
    "value", [None, "nad", [], {}, {"nad": 0}, {"nad": -1, "osm": 2}, {"nad": 1.5}, {"nad": "3"}, [1, 2], 7]
)
def test_a_return_value_of_sources_that_names_none_is_an_error(plan: Planner, value: Any) -> None:
    with pytest.raises(
        TaskError, match=r"sources\(batch\) returned .*: it must map source names to numbers of samples"
    ):
        reported(plan(), cycle([value]))


TASK = """
class Task:
    def __init__(self, ranks=2): self.ranks = ranks
    def model(self): raise AssertionError("no model is needed")
    def losses(self, model, batch): raise AssertionError
    def batches(self, batch_size, *, seed, rank=0, world_size=1):
        assert (seed, world_size) == (5, self.ranks)
        while True:
            yield [f"rank{rank}"] * batch_size
class WithSources(Task):
    def sources(self, batch): return batch
"""


def test_count_sources_draws_batches_as_a_run_does_without_a_model(
    plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "sourced_task.py").write_text(TASK)
    settings = {"root": str(tmp_path), "seed": 5, "world_size": 2}
    samples = count_sources(plan(task="sourced_task:WithSources", **settings), 3)
    assert (samples.batches, samples.counts) == (3, {"rank0": 16, "rank1": 8})
    with pytest.raises(TaskError, match=r"sourced_task:Task has no sources\(batch\)"):
        count_sources(plan(task="sourced_task:Task", **settings), 3)
