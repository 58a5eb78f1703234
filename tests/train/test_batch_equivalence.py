"""The gradient of one batch in micro-batches of two sizes."""

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
    """Compare micro-batches of `smoke` samples (smoke run) and `full` samples (full run)."""
    plan = make_plan(batch_size=smoke, full_batch_size=full, **changes)
    stepper = Stepper(plan, task, CPU)
    stepper.learn_terms(next(task.batches(smoke, seed=0)))
    return compare_batch_sizes(plan, task, stepper, stepper.stage, 0), stepper


class Masked(Pair):
    """Batches are (values, weights 0 or 1), with more weights of 1 at the end; the loss is a mean over those."""

    loss_weights: Mapping[str, float] = {}

    def __init__(self, *, counted: bool) -> None:
        super().__init__()
        self.tokens = Tokens()
        if counted:
            self.counts = self.tokens.counts

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for values in super().batches(batch_size, seed=seed, rank=rank, world_size=world_size):
            numbers = torch.arange(batch_size)
            yield values, ((numbers % 5 == 0) | (numbers >= 10)).double()

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        return self.tokens.losses(model, batch)


@given(smoke=st.integers(1, 12), full=st.integers(1, 12))
def test_means_over_samples_have_the_same_gradient_in_micro_batches_of_any_size(smoke: int, full: int) -> None:
    """Also if neither size divides the other."""
    plan, task = make_plan(batch_size=smoke, full_batch_size=full), Pair()
    stepper = Stepper(plan, task, CPU)
    stepper.learn_terms(next(task.batches(smoke, seed=0)))
    event = compare_batch_sizes(plan, task, stepper, stepper.stage, 7)
    assert plan.has_other_batch_size == (smoke != full)
    assert not event.problem
    assert (event.step, event.samples % smoke, event.samples % full) == (7, 0, 0)
    assert event.difference < 1e-12  # double precision
    assert event.smoke_terms == pytest.approx(event.full_terms, rel=1e-6)


def test_a_plan_without_a_full_batch_size_has_no_other_batch_size() -> None:
    assert not make_plan().has_other_batch_size


@pytest.mark.parametrize(("counted", "differs"), [(True, False), (False, True)])
def test_a_mean_over_tokens_needs_counts_to_agree(counted: bool, differs: bool) -> None:
    """The term that is a plain mean over samples agrees without them."""
    event, _ = compared(Masked(counted=counted), 5, 20)
    assert not event.problem
    assert (event.difference > 0.01) is differs
    assert (abs(event.smoke_terms["nll"] / event.full_terms["nll"] - 1) > 0.01) is differs
    assert event.smoke_terms["all"] == pytest.approx(event.full_terms["all"], rel=1e-6)


def test_a_term_of_weight_0_does_not_count() -> None:
    event, _ = compared(Masked(counted=False), 5, 20, loss_weights={"nll": 0.0})
    assert event.difference < 1e-12


class Dropped(Pair):
    """A model with dropout, and with `noisy` a loss that draws random numbers, too."""

    def __init__(self, *, noisy: bool) -> None:
        super().__init__()
        self.noisy = noisy

    def model(self) -> nn.Module:
        model = super().model()
        model["shared"] = nn.Sequential(model["shared"], nn.Dropout(0.5))
        return model

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        return super().losses(model, batch + torch.randn_like(batch) if self.noisy else batch)


def test_dropout_does_not_make_the_gradients_differ() -> None:
    """It is disabled, because its masks depend on the size of the micro-batches."""
    event, stepper = compared(Dropped(noisy=False), 4, 8)
    assert event.difference < 1e-12
    assert all(module.training for module in stepper.model.modules())


def test_losses_that_draw_random_numbers_are_not_compared() -> None:
    """Two passes over the same micro-batches differ as much as passes over different ones."""
    event, _ = compared(Dropped(noisy=True), 4, 8)
    assert "two passes over the same micro-batches differ: in evaluation mode, losses() draws random" in event.problem


class Fails(Pair):
    """Accepts only one batch size."""

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        return super().losses(model, batch.view(4, 3))


def test_an_exception_of_the_task_is_reported_and_not_raised() -> None:
    event, _ = compared(Fails(), 4, 8)
    assert event.problem.startswith("RuntimeError: shape '[4, 3]' is invalid")
    assert "\n" not in event.problem


class Fixed(Pair):
    """Yields eight samples, whatever batch size it is asked for."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Tensor]:
        return super().batches(8, seed=seed)


def test_a_task_that_ignores_the_batch_size_is_reported_unless_it_yields_the_smoke_runs() -> None:
    event, _ = compared(Fixed(), 4, 8)
    assert event.batch_size_ignored
    event, _ = compared(Fixed(), 8, 4)
    assert not event.batch_size_ignored
    assert event.problem == "batches(8) yields as many samples as batches(4)"


class Sums(Pair):
    """A loss that compares samples: in micro-batches of one its gradient is zero."""

    loss_weights: Mapping[str, float] = {}

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        return {"apart": (model["shared"](batch).sum(1) - model["shared"](batch).sum(1).mean()).square().mean()}


def test_a_zero_gradient_in_one_size_is_a_difference_of_1() -> None:
    event, _ = compared(Sums(), 1, 8)
    assert event.difference == pytest.approx(1.0)
    event, _ = compared(Sums(), 8, 1)
    assert event.difference == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_16_bit_weights_are_reported_because_their_gradients_are_rounded(dtype: torch.dtype) -> None:
    event, _ = compared(Pair(dtype), 1, 8)
    assert event.half_precision == (dtype is torch.bfloat16)
    assert event.difference < (0.05 if event.half_precision else 1e-5)


class Sparse(Masked):
    """Nine of ten samples have weight 0, so some micro-batches have no other."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for values, _ in super().batches(batch_size, seed=seed):
            yield values, (torch.arange(batch_size) % 10 == 0).double()


def test_a_micro_batch_that_counts_nothing_has_no_part_in_the_step() -> None:
    """Its mean is NaN, its share is 0."""
    task = Sparse(counted=True)
    event, stepper = compared(task, 2, 20)
    assert event.problem == ""
    assert event.difference < 1e-12
    assert event.smoke_terms == pytest.approx(event.full_terms)
    values, counted = next(task.batches(20, seed=1))
    parts = [(values[n : n + 2], counted[n : n + 2]) for n in range(0, 20, 2)]
    row, _ = stepper.update(parts, 0.0)
    whole, _ = stepper.update([(values, counted)], 0.0)
    torch.testing.assert_close(row, whole)
    probed, _ = stepper.update(parts, 0.0, probe=True)
    torch.testing.assert_close(probed, whole)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_comparison_is_made_in_fp32(precision: str) -> None:
    """In bf16, rounding alone makes a difference of 0.4 %; in fp16, the initial loss scale may overflow."""
    task = Pair(torch.float32)
    event, _ = compared(task, 4, 8, precision=precision)
    assert not event.problem
    assert event.difference < 1e-5


class Ends(Pair):
    """Yields nothing for batches of 8."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Tensor]:
        return iter([]) if batch_size == 8 else super().batches(batch_size, seed=seed)


def test_batches_that_end_are_reported() -> None:
    assert compared(Ends(), 4, 8)[0].problem.startswith("batches() ended: ")


@pytest.mark.gpu
def test_a_recurrent_model_is_compared_on_cuda() -> None:
    """cuDNN has no backward pass for it in evaluation mode."""

    class Recurrent(Pair):
        def model(self) -> nn.Module:
            return nn.LSTM(3, 4, batch_first=True)

        def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
            return {"first": model(batch[:, None])[0].square().mean()}

        loss_weights: Mapping[str, float] = {}

    plan, task = make_plan(batch_size=4, full_batch_size=8, device="cuda"), Recurrent(torch.float32)
    stepper = Stepper(plan, task, torch.device("cuda"))
    stepper.learn_terms(next(task.batches(4, seed=0)))
    event = compare_batch_sizes(plan, task, stepper, stepper.stage, 0)
    assert not event.problem
    assert event.difference < 1e-4


# The same micro-batches in both runs.


class Varying(Pair):
    """Batches are (values, weights 0 or 1); two of three samples have a weight, at random."""

    loss_weights: Mapping[str, float] = {}

    def __init__(self, *, counts: str = "") -> None:
        super().__init__()
        self.tokens = Tokens()
        if counts:
            self.counts = self.tokens.counts if counts == "right" else lambda batch: float(len(batch[1]))

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(seed)
        for values in super().batches(batch_size, seed=seed, rank=rank, world_size=world_size):
            kept = torch.rand(batch_size, 4, generator=generator) < torch.rand(batch_size, 1, generator=generator)
            yield values, (kept.sum(1) + 1).double()

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        return self.tokens.losses(model, batch)


def halved(task: Any, size: int) -> BatchEquivalence:
    return compared(task, size, size, micro_batches=4)[0]


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_mean_over_items_is_named_with_the_share_of_a_half_even_if_both_runs_split_alike(size: int) -> None:
    event = halved(Varying(), size)
    assert (event.halves, event.problem, event.has_counts) == (True, "", False)
    assert (event.smoke_batch_size, event.full_batch_size) == ((size // 2, size) if size == 8 else (size, 2 * size))
    assert list(event.uneven) == ["nll"]
    assert 0.0 < event.uneven["nll"] < 1.0
    assert event.uneven["nll"] != pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_with_the_right_counts_the_halves_agree_and_with_wrong_ones_they_do_not(size: int) -> None:
    right, wrong = halved(Varying(counts="right"), size), halved(Varying(counts="wrong"), size)
    assert (right.uneven, right.difference < 1e-12) == ({}, True)
    assert (list(wrong.uneven), wrong.has_counts) == (["nll"], True)


def test_a_term_of_weight_0_is_not_looked_at() -> None:
    assert compared(Varying(), 8, 8, micro_batches=4, loss_weights={"nll": 0.0})[0].uneven == {}


class Summed(Pair):
    """The first term is a sum over the micro-batch, the second compares its samples."""

    loss_weights: Mapping[str, float] = {}

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        hidden = model["shared"](batch)
        return {"sum": hidden.square().sum(), "contrast": (hidden @ hidden.T).logsumexp(1).mean()}


def test_sums_and_contrasts_are_no_means_over_items() -> None:
    """They are the same in both runs."""
    event = halved(Summed(), 8)
    assert event.difference > 0.1
    assert event.uneven == {}


def test_what_cannot_be_split_is_a_problem_and_no_exception() -> None:
    class Fixed(Pair):
        def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
            return super().batches(8, seed=seed)

    event = halved(Fixed(), 8)
    assert "yields as many samples as" in event.problem
    assert "two passes" in halved(Dropped(noisy=True), 8).problem


def test_weights_and_gradients_are_as_before_after_terms_were_looked_at_one_by_one() -> None:
    event, stepper = compared(Varying(), 8, 8, micro_batches=4, loss_weights={"all": 0.25})
    assert event.uneven
    assert stepper.weights == (1.0, 0.25)
    assert all(parameter.grad is None for parameter in stepper.model.parameters())
