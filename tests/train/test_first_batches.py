"""What the samples of the first steps tell: which are the same, and which of their items have a label."""

from __future__ import annotations

from collections import UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

from pytest_smoke.events import DrawnSamples, SupervisedItems
from pytest_smoke.train.first_batches import STEPS, FirstBatches, label_columns, sample_digests
from tests.train.conftest import make_plan

Named = namedtuple("Named", "x y")  # a task's batch may be one
X, Y = torch.arange(24.0).view(4, 2, 3), torch.tensor([3, 1, 2, 0])


@dataclass
class Both:
    x: Any
    y: Any


class Plain:
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y


def digests(batch: Any, expected: int = 4) -> list[str]:
    return sample_digests(batch, expected, 1000)


FORMS = {
    "tensor": lambda x, y: x,
    "tuple": lambda x, y: (x, y),
    "dict": lambda x, y: {"x": x, "y": y},
    "user dict": lambda x, y: UserDict(x=x, y=y),
    "named tuple": Named,
    "dataclass": Both,
    "object": Plain,
    "nested": lambda x, y: {"in": {"x": [x]}, "y": y, "scale": torch.tensor(2.0)},
    "arrays": lambda x, y: (x.numpy(), y.numpy()),
    "list of tensors": lambda x, y: {"x": list(x), "y": y.tolist()},
    "list of dicts": lambda x, y: [{"x": one, "y": label} for one, label in zip(x, y.tolist(), strict=True)],
    "texts": lambda x, y: {"text": [f"text {label}" for label in y.tolist()], "y": y},
}


@pytest.mark.parametrize("form", FORMS)
def test_equal_samples_have_equal_digests_in_every_form_of_batch(form: str) -> None:
    make = FORMS[form]
    found = digests(make(X, Y))
    assert len(set(found)) == 4
    order = torch.tensor([2, 0, 3, 1])
    assert digests(make(X[order], Y[order])) == [found[at] for at in order.tolist()]


def test_padding_depends_on_the_batch_and_does_not_count() -> None:
    short = {"ids": torch.tensor([[5, 6, 7], [8, 9, 0]]), "labels": torch.tensor([[5, 6, 7], [8, 9, -100]])}
    long = {"ids": torch.tensor([[5, 6, 7, 1, 1], [2, 3, 4, 5, 6]]), "labels": torch.full((2, 5), -100)}
    long["labels"][0, :3] = torch.tensor([5, 6, 7])
    long["labels"][1] = 1
    assert digests(short, 2)[0] == digests(long, 2)[0]
    assert digests(short, 2)[1] != digests(long, 2)[1]
    assert len(set(digests({"bits": torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0]])}, 2))) == 2


@pytest.mark.parametrize(
    "batch", [None, 7, {}, "seed", torch.zeros(4, 3), {"x": torch.ones(4), "n": 4}, {"seed": torch.tensor(3)}]
)
def test_a_batch_that_tells_no_samples_apart_has_no_digests(batch: Any) -> None:
    """The task may make its data in `losses`, from a constant batch."""
    assert digests(batch) == []


def test_parts_of_different_lengths_are_not_taken_for_samples() -> None:
    assert digests({"nodes": torch.arange(17), "edges": torch.arange(90)}) == []
    assert len(digests({"nodes": torch.arange(17), "graph": torch.arange(4)})) == 4
    assert len(digests({"x": torch.arange(6), "y": torch.arange(6)})) == 6  # not the number that was asked for


def test_only_some_elements_of_a_large_sample_are_hashed() -> None:
    images = torch.randn(3, 3, 64, 64)
    assert len(set(digests(images, 3))) == 3
    assert sample_digests(images, 3, 2) == digests(images, 3)[:2]


def test_labels_are_integers_by_name_or_with_the_ignored_label() -> None:
    tokens = torch.randint(0, 9, (4, 6))
    ignored = tokens.masked_fill(tokens < 8, -100)
    assert label_columns({"input_ids": tokens, "mask": tokens > 1}, 4) == []
    assert len(label_columns({"input_ids": tokens, "labels": tokens}, 4)) == 1
    assert len(label_columns((tokens, ignored), 4)) == 1
    assert len(label_columns({"bio_tags": tokens, "y": Y, "score": torch.randn(4)}, 4)) == 2


class Tagged:
    """Four samples: one of them has no label."""

    def counts(self, batch: Any) -> float:
        return float((batch["labels"] != -100).sum())

    def sources(self, batch: Any) -> list[str]:
        return ["a", "a", "b", "b"]


def batch_of(offset: int = 0) -> dict[str, Tensor]:
    labels = torch.full((4, 5), -100)
    labels[0, :3], labels[1, :1], labels[3] = 1, 1, 2
    return {"ids": torch.arange(20).view(4, 5) + offset, "labels": labels}


def test_the_first_steps_are_reported_and_then_no_more() -> None:
    first = FirstBatches(Tagged(), make_plan(batch_size=4, micro_batches=2))  # type: ignore[arg-type]  # no model needed
    drawn, labels = first.add(0, [batch_of(), batch_of(100)], ("ce",))
    assert isinstance(drawn, DrawnSamples)
    assert [len(one) for one in drawn.micro_batches] == [4, 4]
    assert labels == SupervisedItems(
        step=0,
        samples={"a": 4, "b": 4},
        empty={"a": 0, "b": 2},
        items={"a": 20, "b": 20},
        labelled={"a": 8, "b": 10},
        counts={"ce": 18.0},
    )
    later = [first.add(step, [batch_of(step), batch_of(step + 100)], ("ce",)) for step in range(1, 60)]
    assert [bool(events) for events in later] == [True] * (STEPS - 1) + [False] * (60 - STEPS)


def test_a_batch_that_cannot_be_read_is_not_reported() -> None:
    class Broken:
        @property
        def shape(self) -> Any:
            raise RuntimeError("released")

    first = FirstBatches(Tagged(), make_plan(batch_size=4))  # type: ignore[arg-type]  # no model needed
    assert first.add(0, [Broken()], ("ce",)) == []
    assert first.add(1, [batch_of()], ("ce",)) == []


def test_an_array_of_objects_is_a_list() -> None:
    texts = numpy.array(["a", None, "b", "c"], dtype=object)
    assert digests({"x": X, "texts": texts}) == digests({"x": X, "texts": texts.tolist()})
