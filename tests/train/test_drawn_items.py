"""Items of the first steps, as `counts` tells them, in real runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from pytest_smoke.errors import TaskError
from pytest_smoke.train.drawn_items import compared_items
from tests.monitor.inprocess import Judged, judge
from tests.monitor.test_dead_runs import Linear

Counts = Callable[["Sequences", Tensor], Any]


class Sequences(Linear):
    """Classifies each point `length(batch_size)` times; the labels that are -100 are no items."""

    def __init__(self, counts: Counts, length: Callable[[int], int] = lambda size: 4, empty: int = 0) -> None:
        super().__init__()
        self.missing = 0.3
        self.count, self.length, self.empty, self.total = counts, length, empty, 0.0

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(seed)
        for number, (points, labels) in enumerate(super().batches(batch_size, seed=seed)):
            labels = labels[:, None].expand(-1, self.length(batch_size)).clone()
            labels[torch.rand(batch_size, generator=generator) < self.missing, -1] = -100
            if self.empty and number % self.empty == 1:
                labels[:] = -100
            yield points, labels

    def counts(self, batch: Any) -> Any:
        return self.count(self, batch[1])

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        logits = model(batch[0])[:, None].expand(-1, batch[1].shape[1], -1)
        return {"ce": F.cross_entropy(logits.flatten(0, 1), batch[1].flatten())}


def labelled(task: Sequences, labels: Tensor) -> int:
    return int((labels != -100).sum())


def run(task: Sequences, **smoke: Any) -> Judged:
    return judge(task, steps=40, smoke=smoke, batch_size=32, grad_accum_steps=2)


SMALLER = {"batch_size": 8, "grad_accum_steps": 8}


def test_a_step_says_how_many_items_it_drew() -> None:
    finding = run(Sequences(labelled)).finding("items-drawn")
    assert finding.status == "pass"
    assert finding.text.startswith("each of the first 8 steps drew 2")
    assert finding.text.endswith(" items of ce")


@pytest.mark.parametrize("length", [lambda size: 128 // size, lambda size: size])
def test_samples_whose_length_depends_on_the_batch_size_are_invalid(length: Callable[[int], int]) -> None:
    judged = run(Sequences(labelled, length), **SMALLER)
    assert (judged.verdict.word, judged.verdict.reason) == ("invalid", "other-items-per-sample")
    assert judged.monitor.steps < 40


@pytest.mark.parametrize(
    "counts",
    [
        labelled,
        lambda task, labels: 1.0,
        lambda task, labels: float((labels != -100).sum()) / len(labels),
        lambda task, labels: {"ce": (labels != -100).sum()},
        lambda task, labels: len(labels),
    ],
)
def test_samples_of_one_length_are_not(counts: Counts) -> None:
    """A constant and a mean length do not grow with the batch size: they are no numbers of items."""
    task = Sequences(counts)
    task.missing = 0.3 if counts is labelled else 0.0  # else all but the right counts fail `accumulation`
    assert run(task, **SMALLER).finding("items-drawn").status == "pass"


def test_counts_that_change_from_call_to_call_are_a_warning() -> None:
    def cumulative(task: Sequences, labels: Tensor) -> float:
        task.total += labelled(task, labels)
        return task.total

    finding = run(Sequences(cumulative)).finding("items-drawn")
    assert (finding.status, finding.reason) == ("warn", "counts-change")
    assert finding.text.endswith("for the same micro-batch")


def test_micro_batches_without_an_item_are_a_warning() -> None:
    judged = run(Sequences(labelled, empty=4))
    finding = judged.finding("items-drawn")
    assert (finding.status, finding.reason) == ("warn", "empty-micro-batches")
    assert finding.text == "counts(batch) is 0 for 4 of 16 micro-batches in the first 8 steps: they train nothing"


def test_a_task_without_counts_is_not_asked() -> None:
    judged = judge(Linear(), steps=40)
    assert not [finding for finding in judged.findings if finding.check == "items-drawn"]


@pytest.mark.parametrize("given_back", [torch.ones(3), [1, 2], "many", {"loss": 1}])
def test_counts_of_another_form_are_an_error_of_the_task(given_back: Any) -> None:
    with pytest.raises(TaskError, match=r"counts\(batch\)"):
        run(Sequences(lambda task, labels: given_back))


@given(
    per_sample=st.floats(0.5, 500),
    factor=st.floats(0.05, 20),
    smoke=st.integers(1, 64),
    full=st.integers(1, 64),
)
def test_items_per_sample_do_not_depend_on_the_sizes_alone(
    per_sample: float, factor: float, smoke: int, full: int
) -> None:
    def totals(size: int, factor: float) -> tuple[list[float], float]:
        return [size * per_sample * factor], size * per_sample * factor

    for ratio in (1.0, factor):
        rounds = [(totals(smoke, ratio), totals(full, 1.0))] * 4
        for first, second, error in compared_items(rounds, (smoke, full), ["ce"]).values():
            assert first / second == pytest.approx(ratio)
            assert error == pytest.approx(0.0, abs=1e-9 * max(first, second))
