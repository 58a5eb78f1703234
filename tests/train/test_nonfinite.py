"""Where a loss that is not finite comes from: real runs, and what their hint says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pytest_smoke.events import LossDiagnosis, Step
from pytest_smoke.train.checkpoints.in_memory import WeightHistory
from pytest_smoke.train.nonfinite import LossWatch
from pytest_smoke.train.step import Stepper
from tests.monitor.inprocess import Judged, judge
from tests.monitor.test_dead_runs import Linear, ce
from tests.train.conftest import make_plan

HERE = "tests/train/test_nonfinite.py:"


class Scaled(Linear):
    """Multiplies the weights of the last layer at the start."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def model(self) -> nn.Module:
        model = super().model()
        with torch.no_grad():
            model[2].weight.mul_(self.scale)  # type: ignore[index]  # a Sequential
        return model


class BadBatch(Linear):
    """Changes one micro-batch of training, the `at`-th."""

    def __init__(self, change: Callable[[Tensor, Tensor], Any], at: int = 0) -> None:
        super().__init__()
        self.change, self.at = change, at

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for number, batch in enumerate(super().batches(batch_size, seed=seed)):
            yield self.change(*batch) if seed == 0 and number == self.at else batch


def logarithm(task: Linear, model: Any, batch: Any) -> Tensor:
    masked = model(batch[0]).masked_fill(batch[1][:, None] == 0, -math.inf)  # a mask is no fault
    return ce(model, batch) + 0 * masked.softmax(-1).nan_to_num().sum() + (0 * batch[0]).log().exp().sum().log()


def square_root(task: Linear, model: Any, batch: Any) -> Tensor:
    return ce(model, batch) + (0 * model[2].weight).square().sum().sqrt()


def smoothing(task: Linear, model: Any, batch: Any) -> Tensor:
    """Smooth labels over classes that a mask excludes."""
    logits = model(batch[0]) + torch.tensor([0.0, 0.0, -math.inf])
    return F.cross_entropy(logits, batch[1] % 2, label_smoothing=0.1)


def excluded(task: Linear, model: Any, batch: Any) -> Tensor:
    """Exclude all classes of a row: its softmax is not defined."""
    logits = model(batch[0]).masked_fill(batch[1][:, None] == 0, -math.inf)
    return logits.softmax(-1).square().sum()


def nan_input(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return points.index_fill(0, torch.tensor(2), math.nan), labels


def infinite_input(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return points.index_fill(0, torch.tensor(2), math.inf), labels


def all_ignored(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return points, torch.full_like(labels, -100)


def hint_of(judged: Judged) -> str:
    assert (judged.verdict.word, judged.verdict.reason) == ("unstable", "non-finite"), judged.verdict.text
    return judged.finding("finite").hint


@pytest.mark.parametrize(
    ("task", "settings", "fragments"),
    [
        (Linear(logarithm), {}, ["the outputs of the model are finite", f"that of log ({HERE}"]),
        (Linear(smoothing), {}, [f"that of cross_entropy ({HERE}", ": its inputs hold infinite values"]),
        (Linear(excluded), {}, [f"that of softmax ({HERE}", ": its inputs hold infinite values"]),
        (Scaled(math.nan), {}, ["2.weight is not finite before the first update"]),
        (Scaled(1e30), {"precision": "fp16"}, ["linear in 2 (Linear)", "finite in fp32: it overflows in 16 bits"]),
        (Scaled(3e38), {"precision": "bf16"}, ["not finite in fp32 either"]),
        (Linear(square_root), {}, ["the loss is finite and the backward pass of sqrt is not"]),
        (BadBatch(nan_input), {}, ["batch[0]: 6 values of 48 are NaN"]),
        (BadBatch(infinite_input), {}, ["batch[0]: it holds an infinite value"]),
        (
            BadBatch(all_ignored),
            {},
            ["all 8 labels are -100, which the loss ignores (tests/monitor/test_dead_runs.py:"],
        ),
        (BadBatch(all_ignored, at=2), {"grad_accum_steps": 4}, [", micro-batch 3 of 4"]),
    ],
)
def test_before_any_update_the_hint_names_the_source_and_not_the_learning_rate(
    task: Linear, settings: dict[str, Any], fragments: list[str]
) -> None:
    judged = judge(task, **settings)
    hint = hint_of(judged)
    assert [fragment for fragment in fragments if fragment not in hint] == [], hint
    assert "learning_rate" not in hint
    assert judged.finding("finite").key == "task"


@pytest.mark.parametrize(
    ("task", "fragment"),
    [
        (BadBatch(nan_input, at=30), "batch[0]: 6 values of 48 are NaN"),
        (BadBatch(all_ignored, at=30), "all 8 labels are -100"),
    ],
)
def test_a_bad_batch_later_is_named_and_the_learning_rate_is_not_blamed(task: Linear, fragment: str) -> None:
    judged = judge(task)
    assert judged.verdict.step == 30
    assert fragment in hint_of(judged)
    assert "learning_rate" not in hint_of(judged)


def test_a_loss_that_overflows_after_updates_names_its_source_and_the_learning_rate() -> None:
    def overflows(task: Linear, model: Any, batch: Any) -> Tensor:
        return ce(model, batch) + (1e4 * task.late * model(batch[0]).square()).exp().mean()

    hint = hint_of(judge(Linear(overflows)))
    assert f"that of exp ({HERE}" in hint
    assert hint.endswith("Otherwise reduce learning_rate (0.01)")


def test_the_probe_batch_is_diagnosed_as_well() -> None:
    task = Linear()
    task.probe_batch = lambda: (torch.full((8, 6), math.nan), torch.zeros(8).long())  # type: ignore[attr-defined]  # a hook
    judged = judge(task)
    assert judged.verdict.text == "loss on the probe batch is NaN at step 0"
    assert hint_of(judged) == "batch[0] in the probe batch: 48 values of 48 are NaN; clean the data"


def test_a_zero_loss_names_labels_that_are_all_ignored() -> None:
    def summed(task: Linear, model: Any, batch: Any) -> Tensor:
        labels = torch.full_like(batch[1], -100)
        return F.cross_entropy(model(batch[0]), labels, reduction="sum") / 1

    judged = judge(Linear(summed))
    assert judged.verdict.text == (
        "the loss and its gradient are exactly 0 in all 120 steps: all 8 labels are -100, which the loss ignores"
    )
    assert judged.finding("learning").hint.startswith(f"all 8 labels are -100, which the loss ignores ({HERE}")


# the watch itself


class Drawing(Linear):
    """Draws random numbers, counts its calls and has batch norm: nothing of it may be left behind by a rerun."""

    calls = 0

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))

    def losses(self, model: nn.Module, batch: Any) -> Any:
        self.calls += 1
        return {"ce": ce(model, batch) / 0 + torch.rand(())}


def test_a_diagnosis_leaves_model_gradients_task_and_generators_as_they_were() -> None:
    task = Drawing()
    stepper = Stepper(make_plan(), task, torch.device("cpu"))
    batches = [next(task.batches(8, seed=0))]
    stepper.learn_terms(batches[0])
    weights, watch = WeightHistory(stepper.model), LossWatch(stepper, task, ".")
    weights.save(0)
    watch.keep(0, batches)
    stepper.update(batches, 1.0)
    stepper.model[1].eval()  # type: ignore[operator]  # a Sequential
    state = {name: value.clone() for name, value in stepper.model.state_dict().items()}
    gradients = [p.grad for p in stepper.model.parameters()]
    generator, calls = torch.get_rng_state(), task.calls
    watch.see([Step(0, math.inf, {"ce": math.inf}, math.nan, 0.1)])
    (found,) = watch.diagnose(weights, [])
    assert isinstance(found, LossDiagnosis)
    assert (found.kind, found.operation, found.weights_step) == ("operation", "div", 0)
    after = stepper.model.state_dict()
    assert [
        name for name, value in state.items() if not torch.equal(value.nan_to_num(7), after[name].nan_to_num(7))
    ] == []
    assert all(p.grad is gradient for p, gradient in zip(stepper.model.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), generator)
    assert (task.calls, stepper.model[1].training) == (calls, False)  # type: ignore[index]  # a Sequential


def test_only_the_batches_of_steps_that_were_not_reported_are_kept() -> None:
    task = Linear()
    watch = LossWatch(Stepper(make_plan(), task, torch.device("cpu")), task, ".")
    for step in range(300):
        watch.keep(step, [torch.zeros(4)])
    assert len(watch._recent) == 128
    watch.see([Step(250, 1.0, {"ce": 1.0}, 1.0, 0.1)])
    assert [step for step, _ in watch._recent] == list(range(251, 300))
    assert watch.diagnose(WeightHistory(nn.Linear(1, 1)), []) == []
