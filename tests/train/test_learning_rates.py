"""The learning rate that the optimizer used, and what happens if it is not the scheduled one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from pytest_smoke import schedules
from pytest_smoke.events import LearningRateDiffers, Step
from pytest_smoke.train.learning_rates import UsedRates
from pytest_smoke.train.plan import RunPlan
from tests.train.conftest import Pair, RecordingChannel
from tests.train.test_loop import run

Planner = Callable[..., RunPlan]


class OwnScheduler(Pair):
    """Steps a scheduler of its own in `losses`, which drives the learning rate to 0."""

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        optimizer = super().optimizer(model, learning_rate)
        self.scheduler = LambdaLR(optimizer, lambda calls: max(0.0, 1 - calls / 10))
        return optimizer

    def losses(self, model: nn.Module, batch: Any) -> Any:
        losses = super().losses(model, batch)
        if torch.is_grad_enabled():
            self.scheduler.step()
        return losses


class HalvingHook(Pair):
    """Halves the learning rate in a hook of the optimizer."""

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        optimizer = super().optimizer(model, learning_rate)
        optimizer.register_step_pre_hook(lambda this, *_: this.param_groups[0].update(lr=learning_rate / 2))
        return optimizer


class HalvingStep(Pair):
    """Halves the learning rate in `step` of a subclass, as Noam optimizers do."""

    class Halving(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            self.param_groups[0]["lr"] /= 2
            return super().step(closure)

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return self.Halving(model.parameters(), lr=learning_rate)


def differences(channel: RecordingChannel) -> list[LearningRateDiffers]:
    return channel.of(LearningRateDiffers)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_step_has_the_learning_rate_that_was_used(plan: Planner) -> None:
    channel = run(plan(), OwnScheduler())
    assert [step.lr for step in channel.of(Step)] == pytest.approx([max(0.0, 0.1 - n / 100) for n in range(1, 21)])
    (event,) = differences(channel)
    assert (event.step, event.scheduled, event.used) == (0, 0.1, pytest.approx(0.09))
    assert not event.within_step


@pytest.mark.parametrize("task", [HalvingHook, HalvingStep])
def test_a_rate_that_the_optimizer_changes_itself_is_the_one_that_was_used(plan: Planner, task: type[Pair]) -> None:
    channel = run(plan(), task())
    (event,) = differences(channel)
    assert (event.step, event.scheduled, event.used, event.within_step) == (0, 0.1, 0.05, True)
    assert channel.of(Step)[0].lr == 0.05


@pytest.mark.parametrize(("change", "groups"), [("add", 2), ("remove", 0)])
def test_parameter_groups_that_appear_or_vanish_are_reported_and_training_continues(
    plan: Planner, pair: Any, change: str, groups: int
) -> None:
    made: list[torch.optim.Optimizer] = []
    make, losses, calls = pair.optimizer, pair.losses, []

    def changed_losses(model: nn.Module, batch: Any) -> Any:
        calls.append(batch)
        if len(calls) == 10 and change == "add":
            made[0].add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 1.0})
        elif len(calls) == 10:
            made[0].param_groups.clear()
        return losses(model, batch)

    pair.optimizer = lambda model, rate: made.append(make(model, rate)) or made[0]
    pair.losses = changed_losses
    channel = run(plan(), pair)
    (event,) = differences(channel)
    assert (event.groups, event.planned_groups) == (groups, 1)
    assert len(channel.of(Step)) == 20


def tensor_rate(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """Return an optimizer whose rate is a float32 tensor, as capturable ones have it."""
    return torch.optim.AdamW(model.parameters(), lr=torch.tensor(rate), foreach=False)


def two_rates(model: Any, rate: float) -> torch.optim.Optimizer:
    own = {"params": model["own"].parameters(), "lr": rate / 10}
    return torch.optim.SGD([own, {"params": model["shared"].parameters()}], lr=rate)


def unused_scheduler(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    LambdaLR(optimizer, lambda _: 1.0)
    return optimizer


@pytest.mark.parametrize("optimizer", [tensor_rate, two_rates, unused_scheduler])
def test_an_optimizer_that_keeps_to_the_schedule_is_not_reported(plan: Planner, pair: Any, optimizer: Any) -> None:
    pair.optimizer = optimizer
    channel = run(plan(warmup_steps=5), pair)
    assert differences(channel) == []
    warmup = schedules.constant(5)
    assert [step.lr for step in channel.of(Step)] == pytest.approx([0.1 * warmup(n) for n in range(20)])


def test_rates_on_an_accelerator_are_compared_once_they_are_copied() -> None:
    """A tensor on the CPU stands for one on the device: the code reads it from `values` alone."""
    rates = UsedRates(scheduled=(0.1, 0.2), used=(0.1, torch.tensor(float("nan"))), main=1, within_step=False)
    assert len(rates.on_device) == 1
    used = rates.with_values([0.05])
    assert rates.lr(used) == 0.05
    event = rates.difference(used, step=7, stage="A")
    assert event is not None
    assert (event.group, event.scheduled, event.used) == (1, 0.2, 0.05)
    assert rates.difference([0.1, 0.2000000030], step=7, stage="A") is None
