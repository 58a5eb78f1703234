"""Deferred figures are returned in the order in which they were put."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import Event, ProbeLoss
from pytest_smoke.train.deferred_metrics import DeferredMetrics

SIZES = st.lists(st.integers(min_value=1, max_value=4), max_size=30)


def play(sizes: list[int], flush_after: set[int], device: str) -> tuple[list[Event], list[Event]]:
    deferred = DeferredMetrics(torch.device(device))
    events: list[Event] = []
    for number, size in enumerate(sizes):
        values = torch.arange(size, dtype=torch.float32, device=device) + 10 * number
        deferred.put(lambda floats, number=number: ProbeLoss(number, sum(floats)), values)  # type: ignore[misc]
        if number in flush_after:
            events += deferred.flush()
    events += deferred.flush(wait=True)
    return events, [ProbeLoss(n, 10.0 * n * size + size * (size - 1) / 2) for n, size in enumerate(sizes)]


@given(sizes=SIZES, flush_after=st.sets(st.integers(min_value=0, max_value=29)))
def test_every_figure_is_returned_once_and_in_order_however_often_it_is_flushed(
    sizes: list[int], flush_after: set[int]
) -> None:
    events, expected = play(sizes, flush_after, "cpu")
    assert events == expected


@pytest.mark.gpu
def test_on_cuda_a_flush_that_waits_returns_the_copies_in_flight() -> None:
    events, expected = play([1, 2, 3, 4] * 7, {2, 3, 9, 20}, "cuda")
    assert events == expected
