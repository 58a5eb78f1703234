"""Runs that stop training at some time, or never train, and their healthy relatives: real training, real verdicts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.monitor.inprocess import judge

Losses = Callable[["Linear", nn.Module, Any], Tensor]
LATE = 40
"""Step from which on a late fault acts."""


class Linear:
    """Classifies points by a linear teacher; `losses` counts its training calls in `step`, from 1."""

    def __init__(self, fault: Losses | None = None) -> None:
        self.teacher = torch.randn(6, 3, generator=torch.Generator().manual_seed(7))
        self.fault, self.step, self.since = fault, 0, 0
        self.made: list[torch.optim.Optimizer] = []

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        self.made.append(torch.optim.AdamW(model.parameters(), lr=learning_rate))
        return self.made[-1]

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            points = torch.randn(batch_size, 6, generator=generator)
            yield points, (points @ self.teacher).argmax(1)

    @property
    def late(self) -> bool:
        return self.step > LATE

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        self.step += model.training
        return {"ce": self.fault(self, model, batch) if self.fault else ce(model, batch)}


def ce(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def gradients_off(task: Linear, model: Any, batch: Any) -> Tensor:
    loss = ce(model, batch)
    if task.late:
        torch.set_grad_enabled(False)
    return loss


def constant(task: Linear, model: Any, batch: Any) -> Tensor:
    return ce(model, batch) * (not task.late) + 0.01 * task.late


def detached(task: Linear, model: Any, batch: Any) -> Tensor:
    return ce(model, batch).detach() + 0 * model(batch[0]).sum()


def zero(task: Linear, model: Any, batch: Any) -> Tensor:
    return 0 * ce(model, batch)


def zero_late(task: Linear, model: Any, batch: Any) -> Tensor:
    return ce(model, batch) * (not task.late)


def all_ignored(task: Linear, model: Any, batch: Any) -> Tensor:
    labels = torch.full_like(batch[1], -100)
    return F.cross_entropy(model(batch[0]), labels, reduction="sum") / (labels >= 0).sum().clamp(min=1)


def parameter_replaced(task: Linear, model: Any, batch: Any) -> Tensor:
    if task.step == LATE and model.training:
        model[2].weight = nn.Parameter(model[2].weight.detach().clone())
    return ce(model, batch)


def layer_replaced(task: Linear, model: Any, batch: Any) -> Tensor:
    if task.step == LATE and model.training:
        model[0] = copy.deepcopy(model[0])
    return ce(model, batch)


def layer_added(task: Linear, model: Any, batch: Any) -> Tensor:
    if task.step == LATE and model.training:
        model.append(nn.Linear(3, 3))
        nn.init.eye_(model[3].weight)
    return ce(model, batch)


def stops_stepping(task: Linear, model: Any, batch: Any) -> Tensor:
    if task.late:
        task.made[-1].step = lambda closure=None: None  # type: ignore[method-assign]  # that is the fault
    return ce(model, batch)


def body_detached(task: Linear, model: Any, batch: Any) -> Tensor:
    if not task.late:
        return ce(model, batch)
    with torch.no_grad():
        hidden = model[1](model[0](batch[0]))
    return F.cross_entropy(model[2](hidden), batch[1])


def not_in_evaluation(task: Linear, model: Any, batch: Any) -> Tensor:
    """Use a head that does not train in evaluation mode."""
    if model.training:
        return ce(model, batch)
    generator = torch.Generator().manual_seed(1)
    return F.cross_entropy(torch.randn(len(batch[0]), 3, generator=generator), batch[1])


@pytest.mark.parametrize("from_scratch", [False, True])
@pytest.mark.parametrize(
    ("fault", "reason", "fragment"),
    [
        (gradients_off, "zero-gradient", "from step 41 to the end (step 119): the task disabled gradients"),
        (constant, "zero-gradient", "from step 40 to the end"),
        (detached, "zero-gradient", "in all 120 steps: the loss has no gradient with respect to any parameter"),
        (zero, "zero-loss", "the loss and its gradient are exactly 0 in all 120 steps"),
        (zero_late, "zero-loss", "exactly 0 from step 40 to the end"),
        (all_ignored, "zero-loss", "the loss and its gradient are exactly 0 in all 120 steps"),
        (parameter_replaced, "parameter-replaced", "does not hold the new one: 2.weight"),
        (layer_replaced, "parameter-replaced", "does not hold the new ones: 0.weight and 0.bias"),
        (layer_added, "parameter-replaced", "does not hold the new ones: 3.weight and 3.bias"),
        (stops_stepping, "parameters-still", "no parameter changed from step 42 to the end"),
        (body_detached, "parameters-stopped", "2 of 4 trainable parameters stopped changing by step 42"),
        (not_in_evaluation, "constant-probe-loss", "in evaluation mode it does not depend on them"),
    ],
)
def test_a_dead_run_is_held_for_its_true_cause(fault: Losses, reason: str, fragment: str, from_scratch: bool) -> None:
    """From scratch it is not `inconclusive (no-progress)`: the cause explains that there was none."""
    judged = judge(Linear(fault), from_scratch=from_scratch)
    assert (judged.verdict.word, judged.verdict.reason) == ("hold", reason), judged.verdict.text
    assert fragment in judged.verdict.text


class OfACopy(Linear):
    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return super().optimizer(copy.deepcopy(model), learning_rate)


@pytest.mark.parametrize("steps", [10, 30, 120])
def test_an_optimizer_of_another_model_is_named_in_runs_of_any_length(steps: int) -> None:
    judged = judge(OfACopy(), steps=steps, from_scratch=True)
    assert (judged.verdict.word, judged.verdict.reason) == ("hold", "not-in-optimizer")
    assert judged.verdict.text == (
        "the optimizer holds none of the model's 4 trainable parameters: it was made for another model, or for a copy "
        "of this one"
    )
    assert "learning_rate" not in judged.finding("learning").hint.replace("optimizer(model, learning_rate)", "")


def surrogate(task: Linear, model: Any, batch: Any) -> Tensor:
    """Return a sound gradient with a constant value."""
    loss = ce(model, batch)
    return loss - loss.detach() + 0.7123 if task.step > task.since else loss


def test_a_constant_value_with_a_gradient_is_held_if_it_is_so_at_all_steps_and_warns_otherwise() -> None:
    always, late = Linear(surrogate), Linear(surrogate)
    always.since, late.since = -1, LATE
    held, warned = judge(always), judge(late, learning_rate=0.001).finding("learning")
    assert (held.verdict.word, held.verdict.reason) == ("hold", "constant-loss")
    assert held.verdict.text == "the loss is exactly 0.7123 in all 120 steps: it shows nothing about training"
    assert (warned.status, warned.reason, warned.step) == ("warn", "constant-loss", 40)


# healthy relatives


class Experts(Linear):
    """Two thirds of the experts are used once in fifteen steps, and an embedding has rows that are never used."""

    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(6, 3) for _ in range(3))
            self.rows = nn.Embedding(1000, 6)

        def forward(self, points: Tensor, expert: int) -> Tensor:
            return self.experts[expert](points + self.rows(torch.zeros(len(points), dtype=torch.long)))

    def model(self) -> nn.Module:
        return self.Mixture()

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        self.step += model.training
        expert = 1 + self.step // 15 % 2 if self.step % 15 == 0 else 0
        return {"ce": F.cross_entropy(model(batch[0], expert), batch[1])}


class Frozen(Linear):
    def model(self) -> nn.Module:
        model = super().model()
        model[0].requires_grad_(False)  # type: ignore[index]  # a Sequential
        return model


class FrozenLate(Linear):
    """Freezes its body after a while, on purpose."""

    def losses(self, model: Any, batch: Any) -> Mapping[str, Tensor]:
        if self.late:
            model[0].requires_grad_(False)
        return super().losses(model, batch)


class EveryFourthStep(Linear):
    """Accumulates by itself: the optimizer updates at every fourth step."""

    class Sparse(torch.optim.SGD):
        calls = 0

        def step(self, closure: Any = None) -> Any:
            self.calls += 1
            return super().step(closure) if self.calls % 4 == 0 else None

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return self.Sparse(model.parameters(), lr=learning_rate)


class HalfWeights(Linear):
    """bf16 weights, whose normalization layer does not move at a small learning rate."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16, bias=False), nn.Tanh(), nn.Linear(16, 3)).bfloat16()

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        return {"ce": F.cross_entropy(model(batch[0].bfloat16()).float(), batch[1])}


class DecayOnly(Linear):
    """A parameter without a gradient that only weight decay moves."""

    def model(self) -> nn.Module:
        model = super().model()
        model.register_parameter("spare", nn.Parameter(torch.ones(3)))
        return model

    def losses(self, model: Any, batch: Any) -> Mapping[str, Tensor]:
        return {"ce": ce(model, batch) + 0 * model.spare.sum()}


class Converged(Linear):
    """Starts at a minimum: the gradient is tiny, but not 0."""

    def losses(self, model: Any, batch: Any) -> Mapping[str, Tensor]:
        return {"mse": 1e-9 * model(batch[0]).square().mean() + 1 + 0.01 * torch.rand(())}


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        (Linear, {}),
        (Linear, {"warmup_steps": 30}),
        (Linear, {"learning_rate": 1e-7}),
        (Linear, {"grad_clip_norm": 1e-6}),
        (Frozen, {}),
        (FrozenLate, {}),
        (Experts, {}),
        (EveryFourthStep, {}),
        (HalfWeights, {"learning_rate": 1e-4}),
        (DecayOnly, {}),
        (Converged, {}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_a_healthy_run_is_not_called_dead(task: type[Linear], settings: Mapping[str, Any]) -> None:
    judged = judge(task(), **settings)
    assert judged.finding("learning").status == "pass", judged.finding("learning").text
    assert judged.finding("updates").status in ("pass", "warn"), judged.finding("updates").text
    assert judged.verdict.word == "promote", judged.verdict.text


def test_an_update_that_is_lost_in_rounding_is_a_warning() -> None:
    finding = judge(HalfWeights(), learning_rate=1e-4).finding("updates")
    assert (finding.status, finding.reason) == ("warn", "lost-in-rounding")
    assert "trainable parameters did not change, because their updates are smaller" in finding.text
    assert "1.weight" in finding.observed
