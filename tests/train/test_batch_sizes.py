"""How many samples a micro-batch holds, for batches of all kinds, and what a run reports about them."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from pytest_smoke.train.batch_sizes import sample_place, shapes_of, size_at
from tests.monitor.inprocess import judge
from tests.monitor.test_dead_runs import Linear

Pair = namedtuple("Pair", "x y")


@dataclass
class Example:
    ids: Tensor
    texts: list[str]


class Graphs:
    """Looks like a batch of torch_geometric: nodes of all graphs in one tensor."""

    def __init__(self, graphs: int) -> None:
        self.num_graphs = graphs
        self.x, self.edge_index = torch.zeros(3 * graphs, 5), torch.zeros(2, 4 * graphs)


def told(make: Callable[[int], Any], asked: int = 6, *, drawn: int | None = None) -> int | str:
    """Return the number of samples that is found in `make(drawn)` where `asked` were asked for."""
    batch, shapes = make(drawn or asked), [dict(shapes_of(make(size))) for size in (asked, 2 * asked)]
    place = sample_place(dict(shapes_of(batch)), *shapes, asked)
    return place if isinstance(place, str) else size_at(batch, place)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: torch.zeros(n, 3),
        lambda n: {"x": torch.zeros(n, 3), "y": torch.zeros(n), "temperature": 0.5},
        lambda n: [torch.zeros(n, 3), torch.zeros(n)],
        lambda n: Pair(torch.zeros(n, 3), torch.zeros(n)),
        lambda n: Example(torch.zeros(n, 3), ["text"] * n),
        lambda n: (["text"] * n, [1.0] * n),
        lambda n: [{"image": torch.zeros(3, 8), "boxes": torch.zeros(2, 4)}] * n,
        lambda n: (tuple(torch.zeros(3, 8 + k) for k in range(n)), 0.5),
        lambda n: {"x": torch.zeros(24, n, 3), "mask": torch.zeros(24, n)},
        lambda n: (torch.zeros(24, n, 3), torch.zeros(n)),
        lambda n: pack_sequence([torch.zeros(4 + n - k) for k in range(n)]),
        lambda n: {"packed": pack_sequence([torch.zeros(4 + n - k) for k in range(n)]), "y": torch.zeros(n)},
        Graphs,
        lambda n: {"views": torch.zeros(2 * n, 3), "y": torch.zeros(n)},
    ],
)
def test_the_samples_of_a_batch_are_counted_wherever_they_are(make: Callable[[int], Any]) -> None:
    assert told(make) == 6


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda n: torch.zeros(n // 2, 3), 3),
        (lambda n: {"x": torch.zeros(n // 2, 6), "y": torch.zeros(n // 2)}, 3),
        (lambda n: {"x": torch.zeros(2 * n, 3), "y": torch.zeros(2 * n, 4)}, 12),
        (lambda n: (torch.zeros(n + 1, 3), torch.zeros(n + 1)), 7),
        (lambda n: (torch.zeros(n - 1, 3), ["text"] * (n - 1)), 5),
        (lambda n: (torch.zeros(4, 6), torch.zeros(4)), 4),
        (lambda n: {"texts": ["text"] * 4, "y": torch.zeros(4)}, 4),
        (lambda n: torch.zeros(24, n // 2, 3), "no first dimension grows with the batch size"),
    ],
)
def test_another_number_is_found_even_if_other_dimensions_are_as_long(
    make: Callable[[int], Any], expected: int | str
) -> None:
    """Six features are not six samples."""
    assert told(make) == expected


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda n: torch.zeros(24 * n), "it is flat, as packed samples are"),
        (lambda n: {"ids": torch.zeros(24 * n), "labels": torch.zeros(24 * n)}, "it is flat, as packed samples are"),
        (lambda n: {"ids": torch.zeros(1, 24 * n)}, "no first dimension grows with the batch size"),
        (lambda n: {"ids": torch.zeros(24 * n), "starts": torch.zeros(n + 1)}, "its parts have different"),
        (lambda n: torch.zeros(2 * n, 3, 8), "it has 2 rows per sample, which may be views of it"),
        (lambda n: torch.zeros(24, 6, 3), "its first dimension may be time"),
        (lambda n: {"length": 3, "name": "text"}, "no dimension grows with the batch size"),
    ],
)
def test_a_batch_that_does_not_tell_is_not_judged(make: Callable[[int], Any], why: str) -> None:
    found = told(make)
    assert isinstance(found, str)
    assert found.startswith(why)


def test_rows_into_which_samples_are_packed_vary_and_are_not_judged() -> None:
    found = told(lambda n: {"ids": torch.zeros(n // 2, 512), "labels": torch.zeros(n // 2, 512)}, 6, drawn=4)
    assert found == "its first dimension varies from batch to batch, as that of packed samples does"


@given(asked=st.integers(2, 100), rows=st.integers(1, 100), features=st.integers(1, 100))
def test_a_batch_of_points_and_labels_has_as_many_samples_as_rows(asked: int, rows: int, features: int) -> None:
    """If `rows` do not depend on the number asked for: only a second dimension of that length could be the samples."""

    def make(_: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(rows, features), torch.zeros(rows)

    assert told(make, asked) == rows


# in a run


class Sized(Linear):
    """Draws a number of samples by a function of the number asked for and of the micro-batch's number."""

    def __init__(self, size: Callable[[int, int], int]) -> None:
        super().__init__()
        self.size = size

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(seed)
        number = 0
        while True:
            points = torch.randn(self.size(batch_size, number), 6, generator=generator)
            number += 1
            yield points, (points @ self.teacher).argmax(1)


@pytest.mark.parametrize(
    ("size", "reason", "text"),
    [
        (lambda asked, _: asked // 2, "fewer-samples", "a step draws 16 samples instead of 32 (8 x 4 x 1)"),
        (lambda asked, _: 6, "fewer-samples", "a step draws 24 samples instead of 32 (8 x 4 x 1): batches(8) yields 6"),
        (lambda asked, _: 2 * asked, "more-samples", "a step draws 64 samples instead of 32"),
        (lambda asked, n: asked - 1 if n >= 200 else asked, "fewer-samples", "from step 50 on a step draws 28 samples"),
    ],
)
def test_a_run_that_draws_another_number_is_invalid_and_stops(
    size: Callable[[int, int], int], reason: str, text: str
) -> None:
    judged = judge(Sized(size), grad_accum_steps=4)
    assert (judged.verdict.word, judged.verdict.reason) == ("invalid", reason)
    assert judged.verdict.text.startswith(text)
    assert judged.monitor.steps < 120


def test_a_short_last_batch_of_an_epoch_is_a_warning() -> None:
    judged = judge(Sized(lambda asked, n: 3 if n % 20 == 19 else asked))
    finding = judged.finding("batch-drawn")
    assert judged.verdict.word == "promote"
    assert (finding.status, finding.reason) == ("warn", "uneven-batches")
    assert finding.text == "6 of 120 steps did not have 8 samples: batches(8) sometimes yields 3"


def test_sources_tell_the_samples_where_shapes_do_not() -> None:
    """Two rows per sample are 16 rows; `sources` says that they are 8 samples."""
    task = Sized(lambda asked, _: 2 * asked)
    task.sources = lambda batch: {"all": len(batch[0]) // 2}  # type: ignore[attr-defined]  # an optional hook
    judged = judge(task)
    assert judged.verdict.word == "promote"
    assert judged.finding("batch-drawn").text == "each of 120 steps drew 8 samples"


class WithDropout(Linear):
    def model(self) -> nn.Module:
        return nn.Sequential(*super().model(), nn.Dropout(0.2))


class TimeFirst(WithDropout):
    """A task whose batches have time first, and which counts how often its loaders are made."""

    made = 0

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        type(self).made += 1
        for points, labels in super().batches(batch_size, seed=seed):
            yield points.T.contiguous(), torch.stack([labels, labels])

    def losses(self, model: nn.Module, batch: Any) -> Any:
        return super().losses(model, (batch[0].T, batch[1][0]))


def test_two_further_batches_show_where_the_samples_are_and_leave_training_as_it_is() -> None:
    judged = judge(TimeFirst(), steps=40)
    assert judged.finding("batch-drawn").text == "each of 40 steps drew 8 samples"
    assert TimeFirst.made == 4  # training, the probe batch, and the two
    plain = judge(WithDropout(), steps=40)
    losses = [[step.loss for step in run.monitor.trace.steps] for run in (judged, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
