"""One batch in two geometries, compared as it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pytest_smoke.events import BatchEquivalence
from pytest_smoke.train.batch_equivalence import compare_batch_sizes
from pytest_smoke.train.step import Stepper
from tests.train.conftest import Pair, Tokens, make_plan

CPU = torch.device("cpu")


def compared(task: Any, smoke: int, full: int, **changes: Any) -> tuple[BatchEquivalence, Stepper]:
    """What is seen of `task` where the smoke's micro-batch has `smoke` samples and the full run's `full`."""
    plan = make_plan(batch_size=smoke, full_batch_size=full, **changes)
    stepper = Stepper(plan, task, CPU)
    stepper.learn_terms(next(task.batches(smoke, seed=0)))
    return compare_batch_sizes(plan, task, stepper, stepper.stage, 0), stepper


class Masked(Pair):
    """Batches (values, which of them count), more of them towards the end; the loss is a mean over those."""

    loss_weights: Mapping[str, float] = {}

    def __init__(self, *, counted: bool) -> None:
        super().__init__()
        self.tokens = Tokens()
        if counted:
            self.counts = self.tokens.counts

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for values in super().batches(batch_size, seed=seed, rank=rank, world_size=world_size):
            at = torch.arange(batch_size)
            yield values, ((at % 5 == 0) | (at >= 10)).double()

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        return self.tokens.losses(model, batch)


@given(smoke=st.integers(1, 12), full=st.integers(1, 12))
def test_means_over_samples_have_one_gradient_in_every_geometry(smoke: int, full: int) -> None:
    """Also where neither size divides the other."""
    plan, task = make_plan(batch_size=smoke, full_batch_size=full), Pair()
    stepper = Stepper(plan, task, CPU)
    stepper.learn_terms(next(task.batches(smoke, seed=0)))
    found = compare_batch_sizes(plan, task, stepper, stepper.stage, 7)
    assert plan.folds_otherwise == (smoke != full)
    assert not found.problem
    assert (found.step, found.samples % smoke, found.samples % full) == (7, 0, 0)
    assert found.difference < 1e-12  # double precision
    assert found.smoke_terms == pytest.approx(found.full_terms, rel=1e-6)


def test_a_plan_says_whether_there_is_anything_to_compare() -> None:
    """Nothing is where it knows of no other size."""
    assert not make_plan().folds_otherwise


@pytest.mark.parametrize(("counted", "differs"), [(True, False), (False, True)])
def test_a_mean_over_tokens_needs_its_counts(counted: bool, differs: bool) -> None:
    """With `counts` both geometries agree, without they do not; the term that is a plain mean agrees anyhow."""
    found, _ = compared(Masked(counted=counted), 5, 20)
    assert not found.problem
    assert (found.difference > 0.01) is differs
    assert (abs(found.smoke_terms["nll"] / found.full_terms["nll"] - 1) > 0.01) is differs
    assert found.smoke_terms["all"] == pytest.approx(found.full_terms["all"], rel=1e-6)


def test_weights_of_the_terms_decide_what_counts() -> None:
    """A term of weight 0 pulls at nothing, in whatever geometry."""
    found, _ = compared(Masked(counted=False), 5, 20, loss_weights={"nll": 0.0})
    assert found.difference < 1e-12


class Dropped(Pair):
    """A model with dropout, and where it is asked a loss with noise of its own."""

    def __init__(self, *, noisy: bool) -> None:
        super().__init__()
        self.noisy = noisy

    def model(self) -> nn.Module:
        model = super().model()
        model["shared"] = nn.Sequential(model["shared"], nn.Dropout(0.5))
        return model

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        return super().losses(model, batch + torch.randn_like(batch) if self.noisy else batch)


def test_dropout_does_not_make_two_geometries_differ() -> None:
    """It is off: its masks are others in another geometry by design."""
    found, stepper = compared(Dropped(noisy=False), 4, 8)
    assert found.difference < 1e-12
    assert all(module.training for module in stepper.model.modules())


def test_losses_that_draw_random_numbers_are_told_from_ones_that_differ() -> None:
    """Two looks at one geometry differ as much as two geometries do."""
    found, _ = compared(Dropped(noisy=True), 4, 8)
    assert (
        "two looks at the same micro-batches differ: in evaluation mode the losses draw random numbers" in found.problem
    )


class Fails(Pair):
    """Knows one size of batch only."""

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        return super().losses(model, batch.view(4, 3))


def test_what_the_task_raises_is_told() -> None:
    """The smoke itself may go on."""
    found, _ = compared(Fails(), 4, 8)
    assert found.problem.startswith("RuntimeError: shape '[4, 3]' is invalid")
    assert "\n" not in found.problem


class Fixed(Pair):
    """Eight samples, whatever it is asked for."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Tensor]:
        return super().batches(8, seed=seed)


def test_a_task_that_ignores_the_batch_size_is_found_out() -> None:
    """Unless what it gives is what the smoke asks for."""
    found, _ = compared(Fixed(), 4, 8)
    assert found.ignored
    found, _ = compared(Fixed(), 8, 4)
    assert not found.ignored
    assert found.problem == "batches(8) gives as many samples as batches(4)"


class Sums(Pair):
    """Of two samples only: in micro-batches of one the gradient is zero."""

    loss_weights: Mapping[str, float] = {}

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        return {"apart": (model["shared"](batch).sum(1) - model["shared"](batch).sum(1).mean()).square().mean()}


def test_a_gradient_against_none_is_as_far_apart_as_can_be() -> None:
    """The full run would learn nothing, or the smoke."""
    found, _ = compared(Sums(), 1, 8)
    assert found.difference == pytest.approx(1.0)
    found, _ = compared(Sums(), 8, 1)
    assert found.difference == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_of_sixteen_bits_are_told(dtype: torch.dtype) -> None:
    """Their gradients are rounded to it, whatever is done."""
    found, _ = compared(Pair(dtype), 1, 8)
    assert found.half == (dtype is torch.bfloat16)
    assert found.difference < (0.05 if found.half else 1e-5)


class Sparse(Masked):
    """Nine of ten samples do not count, and so not all micro-batches have one that does."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for values, _ in super().batches(batch_size, seed=seed):
            yield values, (torch.arange(batch_size) % 10 == 0).double()


def test_a_micro_batch_that_counts_nothing_is_no_part_of_the_step() -> None:
    """Its mean is NaN, and its share 0."""
    task = Sparse(counted=True)
    found, stepper = compared(task, 2, 20)
    assert found.problem == ""
    assert found.difference < 1e-12
    assert found.smoke_terms == pytest.approx(found.full_terms)
    pieces = [(values, counted) for values, counted in [next(task.batches(20, seed=1))]]
    parts = [(pieces[0][0][n : n + 2], pieces[0][1][n : n + 2]) for n in range(0, 20, 2)]
    row, _ = stepper.update(parts, 0.0)
    whole, _ = stepper.update(pieces, 0.0)
    torch.testing.assert_close(row, whole)
    probed, _ = stepper.update(parts, 0.0, probe=True)
    torch.testing.assert_close(probed, whole)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_does_not_round_the_comparison(precision: str) -> None:
    """It is made in fp32: bf16 alone would put the two 0.4 % apart, and an unsettled loss scale overflow."""
    task = Pair(torch.float32)
    found, _ = compared(task, 4, 8, precision=precision)
    assert not found.problem
    assert found.difference < 1e-5


class Ends(Pair):
    """Three micro-batches, and no more."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Tensor]:
        return iter([]) if batch_size == 8 else super().batches(batch_size, seed=seed)


def test_batches_that_end_are_told() -> None:
    assert compared(Ends(), 4, 8)[0].problem.startswith("batches() ended: ")


@pytest.mark.gpu
def test_the_geometries_of_a_recurrent_model_are_compared_on_cuda() -> None:
    """cuDNN has no backward pass of it in evaluation mode."""

    class Recurrent(Pair):
        def model(self) -> nn.Module:
            return nn.LSTM(3, 4, batch_first=True)

        def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
            return {"first": model(batch[:, None])[0].square().mean()}

        loss_weights: Mapping[str, float] = {}

    plan, task = make_plan(batch_size=4, full_batch_size=8, device="cuda"), Recurrent(torch.float32)
    stepper = Stepper(plan, task, torch.device("cuda"))
    stepper.learn_terms(next(task.batches(4, seed=0)))
    found = compare_batch_sizes(plan, task, stepper, stepper.stage, 0)
    assert not found.problem
    assert found.difference < 1e-4
