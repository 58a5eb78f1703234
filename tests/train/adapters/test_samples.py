"""Batches from a loader's data set, and the samples in a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from pytest_smoke.errors import TaskError
from pytest_smoke.train.adapters.samples import LoaderSamples, samples_of

NUMBERS = TensorDataset(torch.arange(10))


def pairs(samples: list[Any]) -> dict[str, torch.Tensor]:
    rows = torch.stack([value for (value,) in samples])
    return {"ids": torch.cat([rows, rows + 100])}


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(NUMBERS)


def test_batches_are_random_samples_of_the_data_set_and_depend_on_the_seed_alone() -> None:
    samples = LoaderSamples(DataLoader(NUMBERS, batch_size=2))
    first, again, other = (next(samples.batches(7, seed=seed))[0].tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 7


@pytest.mark.parametrize(
    ("loader", "why"),
    [
        (DataLoader(Stream(), batch_size=2), "is a stream"),
        (DataLoader(NUMBERS, batch_size=None), "yields whole batches"),
        ([1, 2], "are a list, not a torch DataLoader"),
    ],
)
def test_other_data_say_why_there_are_no_batches(loader: Any, why: str) -> None:
    samples = LoaderSamples(loader)
    assert why in samples.problem
    with pytest.raises(TaskError, match=why):
        next(samples.batches(2, seed=0))
    assert samples.rows_per_sample() == 1


def test_a_sample_may_have_several_rows() -> None:
    samples = LoaderSamples(DataLoader(NUMBERS, batch_size=4, collate_fn=pairs))
    assert samples.rows_per_sample() == 2
    assert samples_of({"ids": torch.zeros(8, 3)}, 4, 2) == 4
    assert samples_of({"ids": torch.zeros(6, 3)}, 4, 2) == 3
    assert samples_of({"ids": torch.zeros(4, 3)}, 4, 2) == 2  # half of a batch, not a batch of single rows


def test_samples_in_one_row_cannot_be_counted() -> None:
    batch = {"input_ids": torch.zeros(1, 64), "position_ids": torch.zeros(1, 64)}
    assert samples_of(batch, 8, 1) == "its samples follow each other in one row, as in padding-free training"
