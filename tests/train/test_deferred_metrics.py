"""Figures come back in the order they were put, whatever the chunking."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import Event, ProbeLoss
from pytest_smoke.train.deferred_metrics import DeferredMetrics

SIZES = st.lists(st.integers(min_value=1, max_value=4), max_size=30)


def play(sizes: list[int], flush_after: set[int], device: str) -> tuple[list[Event], list[Event]]:
    readback = DeferredMetrics(torch.device(device))
    got: list[Event] = []
    for number, size in enumerate(sizes):
        values = torch.arange(size, dtype=torch.float32, device=device) + 10 * number
        readback.put(lambda found, number=number: ProbeLoss(number, sum(found)), values)  # type: ignore[misc]
        if number in flush_after:
            got += readback.flush()
    got += readback.flush(wait=True)
    return got, [ProbeLoss(n, 10.0 * n * size + size * (size - 1) / 2) for n, size in enumerate(sizes)]


@given(sizes=SIZES, flush_after=st.sets(st.integers(min_value=0, max_value=29)))
def test_every_figure_comes_back_once_and_in_order(sizes: list[int], flush_after: set[int]) -> None:
    """Flushing more or less often changes nothing but when."""
    got, expected = play(sizes, flush_after, "cpu")
    assert got == expected


@pytest.mark.gpu
def test_on_cuda_every_figure_comes_back_once_and_in_order() -> None:
    """Copies in flight are finished by a flush that waits."""
    got, expected = play([1, 2, 3, 4] * 7, {2, 3, 9, 20}, "cuda")
    assert got == expected
