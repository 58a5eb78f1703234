"""A label, id or target out of range ends a run: its finding names the value, the range, the tensor and the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from pytest_smoke.monitor.child import run_here
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.train.out_of_range import explain, find_cause
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.step import Stepper
from tests.monitor.inprocess import judge
from tests.train.conftest import make_plan

CLASSES, WORDS = 10, 50
Batch = dict[str, Tensor]
HERE = "tests/train/test_out_of_range.py:"


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(WORDS, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.tokens(ids))


def change(batch: Batch, name: str, value: float, *at: int) -> None:
    batch[name] = batch[name].clone()
    batch[name][at] = value


def tokens(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch["ids"]).flatten(0, 1), batch["labels"].flatten())


def module_loss(model: nn.Module, batch: Batch) -> Tensor:
    return nn.CrossEntropyLoss()(model(batch["ids"]).transpose(1, 2), batch["labels"])


def derived(model: nn.Module, batch: Batch) -> Tensor:
    return F.nll_loss(model(batch["ids"]).log_softmax(-1).flatten(0, 1), (batch["labels"] + 0).flatten())


def shifted(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch["ids"]).flatten(0, 1), (batch["labels"] + 1).flatten())


def gathered(model: nn.Module, batch: Batch) -> Tensor:
    return -model(batch["ids"]).log_softmax(-1).gather(-1, batch["labels"][..., None]).mean()


def indexed(model: nn.Module, batch: Batch) -> Tensor:
    rows = model(batch["ids"]).log_softmax(-1).flatten(0, 1)
    return -rows[torch.arange(len(rows)), batch["labels"].flatten()].mean()


def one_hot(model: nn.Module, batch: Batch) -> Tensor:
    return -(F.one_hot(batch["labels"], CLASSES) * model(batch["ids"]).log_softmax(-1)).mean()


def wide_one_hot(model: nn.Module, batch: Batch) -> Tensor:
    target = F.one_hot(batch["labels"].flatten(), CLASSES + 2).float()
    return F.cross_entropy(model(batch["ids"]).flatten(0, 1), target)


def weighted(model: nn.Module, batch: Batch) -> Tensor:
    weight = torch.ones(CLASSES - 1)
    return F.cross_entropy(model(batch["ids"]).flatten(0, 1), batch["labels"].flatten(), weight=weight)


def binary(model: nn.Module, batch: Batch) -> Tensor:
    return F.binary_cross_entropy(model(batch["ids"])[..., 0].sigmoid(), batch["scores"])


def without_sigmoid(model: nn.Module, batch: Batch) -> Tensor:
    return nn.BCELoss()(1 + model(batch["ids"])[..., 0].exp(), batch["scores"])


LOSSES = {
    loss.__name__: loss
    for loss in (
        *(tokens, module_loss, derived, shifted, gathered, indexed, one_hot, wide_one_hot, weighted, binary),
        without_sigmoid,
    )
}


class Task:
    """Changes one value of one micro-batch of training."""

    def __init__(self, *, loss: str, name: str = "labels", value: float | None = None, at_batch: int = 0) -> None:
        self.loss, self.name, self.value, self.at_batch = LOSSES[loss], name, value, at_batch

    def model(self) -> nn.Module:
        return Words()

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        number = 0
        while True:
            ids = torch.randint(WORDS, (batch_size, 6), generator=generator)
            batch = {"ids": ids, "labels": ids % CLASSES, "scores": (ids % 2).float()}
            if self.value is not None and seed == 0 and number == self.at_batch:
                change(batch, self.name, self.value, 3, 5)
            number += 1
            yield batch

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        return {"ce": self.loss(model, batch)}


class Largest(Task):
    """Names a largest batch with an id beyond the embedding."""

    def __init__(self, **args: Any) -> None:
        super().__init__(loss="tokens", **args)

    def largest_batch(self) -> Batch:
        batch = next(self.batches(16, seed=1))
        change(batch, "ids", WORDS, 15, 0)
        return batch


def run(**args: Any) -> Finding:
    """Run the task in this process, two micro-batches a step; return its `run` finding."""
    settings = {"batch_size": 8, "grad_accum_steps": 2, "learning_rate": 0.01, "max_steps": 400}
    recipe = Recipe.model_validate(
        {"task": "tests.train.test_out_of_range:Task", "args": args, "full": settings, "smoke": {"max_steps": 20}}
    )
    case = Case(path="a.smoke.yaml", recipe=recipe, mode="constant")
    monitor = RunMonitor(case, early_stop=True)
    return run_here(RunPlan.of(case, root=str(Path.cwd()), device="cpu"), monitor, None).finding


LATE = {"at_batch": 7}
AT = "batch['labels'][3, 5] is"


@pytest.mark.parametrize(
    ("args", "text", "hint"),
    [
        (
            {"loss": "tokens", "value": 12, **LATE},
            f"{AT} 12, but cross_entropy over 10 classes takes 0 to 9 or -100 (ignored) (step 3, micro-batch 2 of 2): "
            f"IndexError: Target 12 is out of bounds. at {HERE}",
            "one output per class",
        ),
        (
            {"loss": "module_loss", "value": 10},
            f"{AT} 10, but cross_entropy over 10 classes takes 0 to 9",
            "one output",
        ),
        ({"loss": "tokens", "value": -1}, f"{AT} -1, but cross_entropy", "if -1 marks padding, pass ignore_index=-1"),
        ({"loss": "derived", "value": 12}, f"{AT} 12, but nll_loss over 10 classes takes 0 to 9", "clean the labels"),
        ({"loss": "shifted"}, "the target of cross_entropy[", "the labels start at 1: subtract 1"),
        (
            {"loss": "gathered", "value": 12},
            f"{AT} 12, but gather along dimension 2 of (8, 6, 10) takes 0 to 9",
            "look",
        ),
        (
            {"loss": "indexed", "value": -11},
            f"{AT} -11, but indexing along dimension 1 of (48, 10) takes -10 to 9 (step 0, micro-batch 1 of 2)",
            "used as an index",
        ),
        ({"loss": "one_hot", "value": 10}, f"{AT} 10, but one_hot takes 0 to 9", "raise num_classes"),
        (
            {"loss": "wide_one_hot"},
            "the target of cross_entropy has the shape (48, 12), and its input (48, 10)",
            "class probabilities need the shape of the logits",
        ),
        (
            {"loss": "weighted"},
            "the class weights of cross_entropy are 9 values, but its input has 10 classes",
            "pass one weight per class",
        ),
        (
            {"loss": "binary", "name": "scores", "value": 2},
            "batch['scores'][3, 5] is 2, but the target of binary_cross_entropy takes 0 to 1",
            "labels must be 0 or 1",
        ),
        (
            {"loss": "without_sigmoid"},
            "but the input of binary_cross_entropy takes 0 to 1; 48 of 48 values are out of range",
            "apply a sigmoid",
        ),
        (
            {"loss": "tokens", "name": "ids", "value": WORDS, **LATE},
            "batch['ids'][3, 5] is 50, but tokens (an embedding of 50 rows) takes 0 to 49 (step 3, micro-batch 2 of 2)",
            "raise num_embeddings",
        ),
    ],
)
def test_a_value_out_of_range_is_named(args: dict[str, Any], text: str, hint: str) -> None:
    finding = run(**args)
    assert finding.status == "fail"
    assert text in finding.text
    assert hint in finding.hint
    assert finding.place.startswith(HERE)


def test_a_value_in_the_largest_batch_is_named() -> None:
    finding = judge(Largest(), steps=40).finding("memory")
    assert "batch['ids'][15, 0] is 50, but tokens (an embedding of 50 rows) takes 0 to 49: IndexError" in finding.text


def test_an_exception_with_another_cause_keeps_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(model: nn.Module, batch: Batch) -> Tensor:
        raise IndexError("list index out of range")

    monkeypatch.setitem(LOSSES, "tokens", raises)
    finding = run(loss="tokens")
    assert finding.text.startswith(f"IndexError: list index out of range at {HERE}")
    assert finding.hint == ""


@pytest.mark.parametrize("resized", [False, True])
def test_after_an_error_of_the_device_the_batches_on_the_host_are_rerun_with_a_new_model(resized: bool) -> None:
    """A model of another shape would allow other ids."""
    task = Task(loss="tokens", value=12, at_batch=3)
    stepper = Stepper(make_plan(), task, torch.device("cpu"))
    stream = task.batches(4, seed=0)
    steps = [(step, [next(stream), next(stream)]) for step in range(3)]
    stepper.last_batch = steps[-1][1][-1]
    stepper.device = torch.device("cuda")
    if resized:
        stepper.model.tokens = nn.Embedding(WORDS + 1, 8)
    error = RuntimeError("CUDA error: device-side assert triggered")
    explain(error, stepper, task, steps)
    notes = getattr(error, "__notes__", [])
    assert bool(notes) != resized
    assert all(f"{AT} 12" in note and "(step 1, micro-batch 2 of 2)" in note for note in notes)


@given(
    labels=st.lists(st.integers(-105, 15), min_size=1, max_size=12),
    classes=st.integers(2, 12),
    ignored=st.sampled_from([-100, -1, 0]),
)
def test_a_label_is_out_of_range_exactly_if_torch_refuses_it(labels: list[int], classes: int, ignored: int) -> None:
    target, logits = torch.tensor(labels), torch.zeros(len(labels), classes)

    def loss(_: nn.Module, batch: Tensor) -> Tensor:
        return F.cross_entropy(logits, batch, ignore_index=ignored)

    try:
        loss(nn.Identity(), target)
        refused = False
    except IndexError:
        refused = True
    cause = find_cause(loss, nn.Identity(), [("", target)], ".")
    assert (cause is not None) == refused
    if cause is not None:
        bad = next(label for label in labels if label != ignored and not 0 <= label < classes)
        assert cause.text.startswith(f"batch[{labels.index(bad)}] is {bad}, but ")
