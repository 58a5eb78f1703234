"""Comparing two sizes of micro-batches leaves model, task, torch and compiled code as they were."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pytest_smoke.train.batch_equivalence import compare_batch_sizes
from pytest_smoke.train.step import Stepper
from tests.train.conftest import Pair, make_plan
from tests.train.test_batch_equivalence import CPU, Masked, compared


class Keeps(Pair):
    """A buffer that counts calls, and a cache and a hidden state made from the first batch."""

    def model(self) -> nn.Module:
        model = super().model()
        model.register_buffer("calls", torch.zeros(1))
        return model

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        if torch.is_grad_enabled():
            model.calls += 1
            model.hidden = batch
            self.cache = batch
        return super().losses(model, batch)


def test_buffers_and_attributes_of_model_and_task_are_restored() -> None:
    task = Keeps()
    _, stepper = compared(task, 4, 8)
    assert stepper.model.calls.item() == 0
    assert not hasattr(stepper.model, "hidden")
    assert not hasattr(task, "cache")


class Normed(Pair):
    """A model with batch norm."""

    def model(self) -> nn.Module:
        model = super().model()
        model["shared"] = nn.Sequential(model["shared"], nn.BatchNorm1d(4, dtype=torch.float64))
        return model


def test_batch_norm_layers_are_counted_and_their_statistics_are_unchanged() -> None:
    event, stepper = compared(Normed(), 4, 8)
    assert (event.batch_norm_layers, event.problem) == (1, "")
    fresh = Stepper(make_plan(), Normed(), CPU)
    for name, value in fresh.model.state_dict().items():
        assert torch.equal(value, stepper.model.state_dict()[name]), name


def test_gradients_and_random_number_generators_are_restored() -> None:
    plan, task = make_plan(batch_size=5, full_batch_size=20), Masked(counted=False)
    stepper = Stepper(plan, task, CPU)
    stepper.learn_terms(next(task.batches(5, seed=0)))
    state, python = torch.get_rng_state(), random.getstate()
    compare_batch_sizes(plan, task, stepper, stepper.stage, 0)
    assert all(parameter.grad is None for parameter in stepper.model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python


class HeadOfItsOwn(Masked):
    """A layer that the task holds and gives to its optimizer."""

    def __init__(self, *, counted: bool, norm: nn.Module | None = None) -> None:
        super().__init__(counted=counted)
        self.head = nn.Sequential(nn.Linear(3, 1), norm or nn.Identity()).double()

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.SGD([*model.parameters(), *self.head.parameters()], lr=learning_rate)

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        values, counted = batch
        each = (self.head(values) - 1).square().squeeze(-1)
        return {"own": (each * counted).sum() / counted.sum() + 0 * model["own"].bias.sum()}

    def counts(self, batch: Any) -> Mapping[str, float]:
        return {"own": float(batch[1].sum())}


class Uncounted(HeadOfItsOwn):
    """The same without `counts`."""

    counts = None


def test_parameters_that_the_task_holds_are_compared_too() -> None:
    assert compared(HeadOfItsOwn(counted=False), 5, 20)[0].difference < 1e-12
    event, stepper = compared(Uncounted(counted=False), 5, 20)
    assert event.difference > 0.01
    assert all(parameter.grad is None for parameter in stepper._parameters)


def test_modules_that_the_task_holds_are_in_evaluation_mode_and_restored() -> None:
    plan, task = make_plan(batch_size=5, full_batch_size=20), HeadOfItsOwn(counted=False, norm=nn.BatchNorm1d(1))
    stepper = Stepper(plan, task, CPU)
    stepper.learn_terms(next(task.batches(5, seed=0)))
    before = {name: value.clone() for name, value in task.head.state_dict().items()}
    event = compare_batch_sizes(plan, task, stepper, stepper.stage, 0)
    after = task.head.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert event.difference < 1e-12
    assert all(module.training for module in task.head.modules())


class Expanded(Keeps):
    """An expanded buffer, which cannot be written, before one that can."""

    def model(self) -> nn.Module:
        model = super().model()
        model.register_buffer("ones", torch.ones(1).expand(10))
        model.register_buffer("calls", model._buffers.pop("calls"))
        return model


def test_other_buffers_are_restored_if_one_cannot_be_written() -> None:
    event, stepper = compared(Expanded(), 4, 8)
    assert not event.problem
    assert stepper.model.calls.item() == 0


def test_a_task_that_sets_the_precision_of_convolutions_is_compared() -> None:
    """`torch.backends.cudnn.flags` raises if it is set by the newer names."""
    settings: Any = torch.backends.cudnn.conv
    before = settings.fp32_precision
    settings.fp32_precision = "ieee"
    try:
        assert not compared(Pair(), 4, 8)[0].problem
    finally:
        settings.fp32_precision = before
    assert torch.backends.cudnn.enabled


class Compiled(Pair):
    """Records the input sizes of every graph that is compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.compiled: list[list[Any]] = []

    def model(self) -> nn.Module:
        def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
            self.compiled.append([size for one in inputs for size in one.shape])
            return graph.forward

        model = super().model()
        model["shared"] = torch.compile(model["shared"], backend=backend)
        return model


def test_the_model_is_not_compiled_for_the_sizes_that_are_compared() -> None:
    """It would be compiled for dynamic sizes afterwards."""
    torch.compiler.reset()
    task = Compiled()
    plan = make_plan(batch_size=4, full_batch_size=16)
    stepper = Stepper(plan, task, CPU)
    batch = next(task.batches(4, seed=0))
    stepper.learn_terms(batch)
    known = len(task.compiled)
    event = compare_batch_sizes(plan, task, stepper, stepper.stage, 0)
    assert not event.problem
    assert len(task.compiled) == known
    stepper.update([batch], 1.0)
    assert len(task.compiled) > known
    assert all(isinstance(size, int) for shapes in task.compiled for size in shapes)
