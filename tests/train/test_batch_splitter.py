"""Batches of all kinds, cut as they are and refused where nobody could know how."""

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
from pytest_smoke.train.batch_splitter import BatchSplitter

Point = namedtuple("Point", "x y")


@dataclass
class Example:
    """A batch as some tasks have it."""

    ids: Tensor
    temperature: float = 0.5


def batch_of(samples: int) -> dict[str, Any]:
    """Whatever is nested in a batch, numbered by sample."""
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
def test_the_pieces_of_a_batch_are_the_batch(count: int, size: int) -> None:
    """Put together again nothing is missing and nothing is in another order; what is the same in all is shared."""
    samples = count * size
    batch = batch_of(samples)
    cutter = BatchSplitter(batch, batch_of(size), samples=samples, few=size)
    found = cutter.pieces(size)
    at = list(range(samples))
    assert cutter.grows
    assert len(found) == count
    assert torch.equal(torch.cat([piece["x"] for piece in found]), batch["x"])
    assert torch.cat([piece["pair"].x for piece in found]).tolist() == at
    assert torch.cat([piece["pair"].y[0] for piece in found]).flatten().tolist() == at
    assert np.concatenate([piece["array"] for piece in found]).tolist() == at
    assert [text for piece in found for text in piece["texts"]] == batch["texts"]
    assert [row["n"].item() for piece in found for row in piece["rows"]] == at
    assert torch.cat([piece["example"].ids for piece in found]).tolist() == at
    assert torch.cat([piece["encoding"].data["ids"] for piece in found]).tolist() == at
    for name in ("classes", "temperature", "scale", "domain", "train", "cached"):
        assert all(piece[name] is batch[name] for piece in found), name


class Own:
    """Nothing that anybody knows."""


@pytest.mark.parametrize(
    ("batch", "like", "what"),
    [
        ({"n": 24}, {"n": 12}, r"batch\['n'\] is 24 for 8 samples and 12 for 4: a figure of the whole batch"),
        (torch.tensor(24), torch.tensor(12), "batch is 24 for 8 samples and 12 for 4"),
        ([torch.ones(3, 8)], [torch.ones(3, 4)], r"batch\[0\] has shape \(3, 8\) from batches\(8\) and \(3, 4\) from"),
        (torch.ones(8, 8), torch.ones(8, 4), r"batch has shape \(8, 8\) from batches\(8\) and \(8, 4\)"),
        (torch.ones(6), torch.ones(4), r"batch has shape \(6,\) from batches\(8\)"),
        ([1, 2, 3], [1, 2], "batch has 3 parts for 8 samples and 2 for 4"),
        ({"a": 1}, {"b": 1}, "batch has other keys in a batch of 8 than in one of 4"),
        ({"a": torch.ones(8)}, {"a": [1] * 4}, r"batch\['a'\] is Tensor for 8 samples and list for 4"),
        ({"a": None, "x": torch.ones(8)}, {"a": torch.ones(4), "x": torch.ones(4)}, r"batch\['a'\] is NoneType for 8"),
        (
            [torch.ones(8), torch.tensor([24])],
            [torch.ones(4), torch.tensor([12])],
            r"batch\[1\] has shape \(1,\) in every",
        ),
        (Own(), Own(), "batch is Own, which only the task can cut"),
    ],
)
def test_what_cannot_be_cut_is_named_with_its_place(batch: Any, like: Any, what: str) -> None:
    """Time first is not cut along time, though the times be as many as the samples."""
    with pytest.raises(UnsplittableBatchError, match=what):
        BatchSplitter(batch, like, samples=8, few=4).pieces(4)


def test_a_batch_that_does_not_grow_shows_its_lengths() -> None:
    """What is then wrong is for others to say."""
    cutter = BatchSplitter({"x": torch.ones(64, 3), "y": "a"}, {"x": torch.zeros(64, 3), "y": "b"}, samples=8, few=4)
    cutter.pieces(4)
    assert cutter.lengths == {64}
    assert not cutter.grows
