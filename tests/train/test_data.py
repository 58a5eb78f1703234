"""What is counted of what is drawn, when it is told, and what a task may answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.errors import TaskError
from pytest_smoke.events import SourceCounts
from pytest_smoke.mix.samples import resolution
from pytest_smoke.train.data import SourceCounter, draw
from pytest_smoke.train.plan import RunPlan

Planner = Callable[..., RunPlan]


class Answers:
    """A task that says of each batch what the batch itself is."""

    def sources(self, batch: Any) -> Any:
        return batch


def told(plan: RunPlan, batches: Iterator[Any], per_step: int = 1) -> list[SourceCounts]:
    tally = SourceCounter(Answers(), plan)  # type: ignore[arg-type]  # a tally asks a task for nothing else
    records = (tally.add(step, [next(batches) for _ in range(per_step)]) for step in range(plan.run_steps))
    return [record for record in records if record is not None]


MIXED = ["nad"] * 22 + ["osm"] * 42
TURNS = [["nad"] * 64, ["osm"] * 64, ["osm"] * 64]


def test_samples_drawn_one_by_one_are_told_once_there_are_enough(plan: Planner) -> None:
    """Enough: chance cannot hide a difference of the tolerance."""
    (record,) = told(plan(run_steps=1000, mix_tolerance=0.02), cycle([MIXED]), per_step=2)
    assert record.counts == {"nad": record.samples * 22 // 64, "osm": record.samples * 42 // 64}
    assert resolution(record) <= 0.02 < resolution(SourceCounts(0, record.samples - 128, record.counts, 1.0))


def test_a_source_at_a_time_is_told_early_and_then_at_every_doubling(plan: Planner) -> None:
    """Its micro-batches are single draws, so that what is wrong by little shows late."""
    records = told(plan(run_steps=1500, mix_tolerance=0.02), cycle(TURNS), per_step=2)
    samples = [record.samples for record in records]
    assert all(later >= 2 * sooner for sooner, later in pairwise(samples[:-1]))
    assert records[-1].step == 1499
    assert records[-1].design_effect == 64


def test_a_short_run_is_told_at_its_end(plan: Planner) -> None:
    """However few its samples."""
    (record,) = told(plan(run_steps=10, mix_tolerance=0.02), cycle([{"nad": 3, "osm": 1}]))
    assert (record.step, record.samples, record.counts) == (9, 40, {"nad": 30, "osm": 10})


@pytest.mark.parametrize(
    "value", [None, "nad", [], {}, {"nad": 0}, {"nad": -1, "osm": 2}, {"nad": 1.5}, {"nad": "3"}, [1, 2], 7]
)
def test_an_answer_that_names_no_sources_is_shown(plan: Planner, value: Any) -> None:
    """With what must be returned."""
    with pytest.raises(TaskError, match=r"sources\(batch\) returned .*: it must map the sources' names"):
        told(plan(), cycle([value]))


TASK = """
class Task:
    def __init__(self, ranks=2): self.ranks = ranks
    def model(self): raise AssertionError("no model is needed")
    def losses(self, model, batch): raise AssertionError
    def batches(self, batch_size, *, seed, rank=0, world_size=1):
        assert (seed, world_size) == (5, self.ranks)
        while True:
            yield [f"rank{rank}"] * batch_size
class Telling(Task):
    def sources(self, batch): return batch
"""


def test_batches_are_drawn_as_a_run_would_and_without_a_model(
    plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranks take turns; three micro-batches are three."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "telling_task.py").write_text(TASK)
    how = {"root": str(tmp_path), "seed": 5, "world_size": 2}
    draws = draw(plan(task="telling_task:Telling", **how), 3)
    assert (draws.batches, draws.counts) == (3, {"rank0": 16, "rank1": 8})
    with pytest.raises(TaskError, match=r"telling_task:Task has no sources\(batch\)"):
        draw(plan(task="telling_task:Task", **how), 3)
