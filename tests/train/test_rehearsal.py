"""The largest batch before the first step, and one repeated batch at the end of a wiring run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_smoke.events import LargestBatch, Overfit, Step
from pytest_smoke.train import rehearsal
from pytest_smoke.train.rehearsal import UPDATES, overfit_one_batch, try_largest_batch
from pytest_smoke.train.step import Stepper
from tests.train.conftest import Pair, make_plan
from tests.train.test_loop import run

CPU = torch.device("cpu")


class Noisy(Pair):
    """With dropout, batch norm, momentum, and noise in its loss."""

    def __init__(self, *, sign: float = 1.0) -> None:
        super().__init__(torch.float32)
        self.sign = sign

    def model(self) -> nn.Module:
        model = super().model()
        model["shared"] = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2))
        return model

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        values = super().losses(model, batch + 0.1 * torch.randn_like(batch))
        return {name: (1 + self.sign) * value.detach() - self.sign * value for name, value in values.items()}


def stepper_of(task: Any, **changes: Any) -> Stepper:
    stepper = Stepper(make_plan(**{"learning_rate": 0.02, **changes}), task, CPU)
    batch = next(task.batches(8, seed=0))
    stepper.learn_terms(batch)
    stepper.update([batch], 1.0)
    return stepper


def state_of(stepper: Stepper) -> list[Tensor]:
    optimizer = stepper.optimizer.state_dict()
    momenta = [value for state in optimizer["state"].values() for value in state.values() if value is not None]
    tensors = [*stepper.model.state_dict().values(), *momenta, torch.get_rng_state()]
    return [torch.tensor(optimizer["param_groups"][0]["lr"]), *(tensor.clone() for tensor in tensors)]


@pytest.mark.parametrize(("sign", "falls"), [(-1.0, True), (1.0, False)])
def test_the_loss_of_one_repeated_batch_falls_unless_a_sign_is_wrong(sign: float, falls: bool) -> None:
    task = Noisy(sign=sign)
    event = overfit_one_batch(make_plan(), task, stepper_of(task), 10)
    assert (event.step, event.updates, event.problem) == (10, UPDATES, "")
    assert (event.after < 0.9 * event.before) is falls


def test_a_loss_that_does_not_learn_stays_the_same_in_spite_of_its_noise() -> None:
    """Both losses are computed with the same random numbers."""
    task = Noisy(sign=-1.0)
    stepper = stepper_of(task, learning_rate=1e-30)
    stepper.model["shared"][1].momentum = 0.0  # the statistics of batch norm would move it, too
    event = overfit_one_batch(make_plan(), task, stepper, 10)
    assert event.after == event.before


def test_everything_is_as_before_after_the_updates() -> None:
    task = Noisy(sign=-1.0)
    stepper = stepper_of(task)
    before = state_of(stepper)
    overfit_one_batch(make_plan(), task, stepper, 10)
    assert all(map(torch.equal, before, state_of(stepper)))
    assert all(parameter.grad is None for parameter in stepper.model.parameters())
    assert stepper.model.training


def test_an_exception_is_a_problem_and_no_crash() -> None:
    task = Noisy()
    stepper = stepper_of(task)
    calls = iter(range(100))
    task.counts = lambda batch: 1 / (next(calls) < 5)  # type: ignore[attr-defined]  # an optional hook
    before = state_of(stepper)
    event = overfit_one_batch(make_plan(), task, stepper, 10)
    assert event.problem.startswith("ZeroDivisionError: division by zero")
    assert all(map(torch.equal, before, state_of(stepper)))


def test_only_a_plan_that_asks_for_it_overfits_and_its_steps_are_the_same(pair: Any) -> None:
    plain, wiring = run(make_plan(), pair), run(make_plan(overfit=True), pair)
    assert plain.of(Overfit) == []
    assert [event.step for event in wiring.of(Overfit)] == [20]
    assert plain.of(Step) == wiring.of(Step)


# the largest batch


class WithLargest(Noisy):
    def __init__(self, largest: Any) -> None:
        super().__init__(sign=-1.0)
        self.largest, self.sizes = largest, [0]

    def largest_batch(self) -> Any:
        return self.largest() if callable(self.largest) else self.largest

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        if torch.is_grad_enabled():
            self.sizes.append(len(batch))
        if len(batch) > 500:
            torch.empty(2**60)
        return super().losses(model, batch)


def test_a_forward_and_a_backward_pass_on_the_largest_batch_leave_nothing_behind() -> None:
    task = WithLargest(torch.ones(100, 3))
    stepper = stepper_of(task)
    before = state_of(stepper)
    assert try_largest_batch(make_plan(), task, stepper) == LargestBatch()
    assert task.sizes[-1] == 100
    assert all(map(torch.equal, before, state_of(stepper)))
    assert all(parameter.grad is None for parameter in stepper.model.parameters())


@pytest.mark.parametrize(
    ("largest", "reason", "text"),
    [
        (torch.ones(501, 3), "out-of-memory", "can't allocate memory"),
        (torch.ones(9, 4), "exception", "mat1 and mat2 shapes cannot be multiplied"),
        (lambda: 1 / 0, "exception", "ZeroDivisionError"),
    ],
)
def test_what_goes_wrong_on_the_largest_batch_is_reported_before_the_first_step(
    largest: Any, reason: str, text: str
) -> None:
    events = run(make_plan(), WithLargest(largest)).events
    (event,) = (event for event in events if isinstance(event, LargestBatch))
    assert (event.reason, text in event.text) == (reason, True)
    assert not any(isinstance(earlier, Step) for earlier in events[: events.index(event)])


def test_a_run_with_a_largest_batch_makes_the_same_steps() -> None:
    def steps(task: Any) -> list[Step]:
        torch.manual_seed(0)
        return run(make_plan(), task).of(Step)

    assert steps(WithLargest(torch.ones(100, 3))) == steps(Noisy(sign=-1.0))


@pytest.mark.parametrize(
    ("optimizer", "copies"),
    [
        (torch.optim.AdamW, 2),
        (torch.optim.SGD, 0),
        (lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9), 1),
        (torch.optim.Adafactor, 0),  # smaller than its parameters, and not known
    ],
)
def test_memory_is_reserved_for_the_state_that_the_optimizer_allocates_at_its_first_step(
    optimizer: Any, copies: int
) -> None:
    stepper = Stepper(make_plan(), Pair(), CPU)
    stepper.optimizer = optimizer(stepper.model.parameters())
    reserved = rehearsal._optimizer_memory(stepper)
    size = sum(parameter.numel() for parameter in stepper.model.parameters())
    assert sum(tensor.numel() for tensor in reserved) == copies * size
