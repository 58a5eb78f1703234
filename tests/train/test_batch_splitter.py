"""Batches of all kinds are split along the samples, or rejected with the part that cannot be split."""

from __future__ import annotations

from collections import UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pytest_smoke.errors import UnsplittableBatchError
from pytest_smoke.train.batch_equivalence import BatchSplitter

Point = namedtuple("Point", "x y")


@dataclass
class Example:
    """A batch that is a dataclass."""

    ids: Tensor
    temperature: float = 0.5


def batch_of(samples: int) -> dict[str, Any]:
    """Return a batch with everything that can be nested in one; values are the samples' numbers."""
    at = torch.arange(samples)
    return {
        "x": at.view(samples, 1) * torch.ones(1, 2),
        "pair": Point(at, [at.clone().view(samples, 1)]),
        "array": np.arange(samples),
        "texts": [f"text {n}" for n in range(samples)],
        "rows": [{"n": torch.tensor(n)} for n in range(samples)],
        "example": Example(at),
        "encoding": UserDict({"ids": at}),
        "classes": torch.tensor([0.2, 0.8, 1.0]),
        "temperature": 0.5,
        "scale": torch.tensor(2.0),
        "domain": "osm",
        "train": True,
        "cached": None,
    }


@given(count=st.integers(2, 5), size=st.integers(1, 6))
def test_the_parts_of_a_batch_hold_all_samples_in_order_and_share_what_does_not_grow(count: int, size: int) -> None:
    samples = count * size
    batch = batch_of(samples)
    splitter = BatchSplitter(batch, batch_of(size), samples=samples, few=size)
    parts = splitter.split(size)
    numbers = list(range(samples))
    assert splitter.grows
    assert len(parts) == count
    assert torch.equal(torch.cat([part["x"] for part in parts]), batch["x"])
    assert torch.cat([part["pair"].x for part in parts]).tolist() == numbers
    assert torch.cat([part["pair"].y[0] for part in parts]).flatten().tolist() == numbers
    assert np.concatenate([part["array"] for part in parts]).tolist() == numbers
    assert [text for part in parts for text in part["texts"]] == batch["texts"]
    assert [row["n"].item() for part in parts for row in part["rows"]] == numbers
    assert torch.cat([part["example"].ids for part in parts]).tolist() == numbers
    assert torch.cat([part["encoding"].data["ids"] for part in parts]).tolist() == numbers
    for name in ("classes", "temperature", "scale", "domain", "train", "cached"):
        assert all(part[name] is batch[name] for part in parts), name


class Own:
    """A type that the splitter does not know."""


@pytest.mark.parametrize(
    ("batch", "smaller", "message"),
    [
        (
            {"n": 24},
            {"n": 12},
            r"batch\['n'\] is 24 in a batch of 8 samples and 12 in one of 4: it depends on the whole batch",
        ),
        (torch.tensor(24), torch.tensor(12), "batch is 24 in a batch of 8 samples and 12 in one of 4"),
        (
            [torch.ones(3, 8)],
            [torch.ones(3, 4)],
            r"batch\[0\] is of shape \(3, 8\) in a batch of 8 samples and of shape \(3, 4\) in one of 4: only",
        ),
        (
            torch.ones(8, 8),
            torch.ones(8, 4),
            r"batch is of shape \(8, 8\) in a batch of 8 samples and of shape \(8, 4\)",
        ),
        (torch.ones(6), torch.ones(4), r"batch is of shape \(6,\) in a batch of 8 samples"),
        ([1, 2, 3], [1, 2], "batch is of length 3 in a batch of 8 samples and of length 2 in one of 4"),
        ({"a": 1}, {"b": 1}, "batch has different keys in batches of 8 and of 4 samples"),
        (
            {"a": torch.ones(8)},
            {"a": [1] * 4},
            r"batch\['a'\] is of type Tensor in a batch of 8 samples and of type list in one of 4",
        ),
        (
            {"a": None, "x": torch.ones(8)},
            {"a": torch.ones(4), "x": torch.ones(4)},
            r"batch\['a'\] is of type NoneType in a batch of 8",
        ),
        (
            [torch.ones(8), torch.tensor([24])],
            [torch.ones(4), torch.tensor([12])],
            r"batch\[1\] is of shape \(1,\) in batches of both sizes, but has other values",
        ),
        (Own(), Own(), "batch is of type Own, which cannot be split"),
    ],
)
def test_a_part_that_cannot_be_split_is_named_with_its_place(batch: Any, smaller: Any, message: str) -> None:
    """A time-first tensor is not split along time, even if there are as many time steps as samples."""
    with pytest.raises(UnsplittableBatchError, match=message):
        BatchSplitter(batch, smaller, samples=8, few=4).split(4)


def test_a_batch_that_does_not_grow_with_the_samples_reports_its_lengths() -> None:
    splitter = BatchSplitter({"x": torch.ones(64, 3), "y": "a"}, {"x": torch.zeros(64, 3), "y": "b"}, samples=8, few=4)
    splitter.split(4)
    assert splitter.lengths == {64}
    assert not splitter.grows
