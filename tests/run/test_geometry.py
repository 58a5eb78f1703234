"""One batch in two geometries: cut as it is, compared as it trains, and nothing left behind."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pytest_smoke.run.geometry import compare_geometries
from pytest_smoke.run.plan import RunPlan
from pytest_smoke.run.records import Geometries
from pytest_smoke.run.step import Stepper
from tests.run.conftest import Pair, Tokens, make_plan

CPU = torch.device("cpu")
Planner = Callable[..., RunPlan]


def compared(task: Any, smoke: int, full: int, **changes: Any) -> tuple[Geometries, Stepper]:
    """What is seen of `task` where the smoke's micro-batch has `smoke` samples and the full run's `full`."""
    plan = make_plan(batch_size=smoke, full_batch_size=full, **changes)
    stepper = Stepper(plan, task, CPU)
    stepper.learn_terms(next(task.batches(smoke, seed=0)))
    return compare_geometries(plan, task, stepper, stepper.stage, 0), stepper


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
    found = compare_geometries(plan, task, stepper, stepper.stage, 7)
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


class Keeps(Pair):
    """A buffer that counts, a cache and a hidden state that are made where the first batch comes."""

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


def test_what_model_and_task_keep_is_put_back() -> None:
    """Made with batches of another size, it would break the run, or change it."""
    task = Keeps()
    _, stepper = compared(task, 4, 8)
    assert stepper.model.calls.item() == 0
    assert not hasattr(stepper.model, "hidden")
    assert not hasattr(task, "cache")


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


class Normed(Pair):
    """A batch norm in the middle."""

    def model(self) -> nn.Module:
        model = super().model()
        model["shared"] = nn.Sequential(model["shared"], nn.BatchNorm1d(4, dtype=torch.float64))
        return model


def test_batch_norm_is_counted_and_its_statistics_are_left_alone() -> None:
    """They are of a micro-batch in training, which no cut in evaluation mode can show."""
    found, stepper = compared(Normed(), 4, 8)
    assert (found.batch_norm, found.problem) == (1, "")
    fresh = Stepper(make_plan(), Normed(), CPU)
    for name, value in fresh.model.state_dict().items():
        assert torch.equal(value, stepper.model.state_dict()[name]), name


def test_nothing_of_the_comparison_is_left() -> None:
    """Gradients, and Python's and torch's random numbers."""
    plan, task = make_plan(batch_size=5, full_batch_size=20), Masked(counted=False)
    stepper = Stepper(plan, task, CPU)
    stepper.learn_terms(next(task.batches(5, seed=0)))
    state, python = torch.get_rng_state(), random.getstate()
    compare_geometries(plan, task, stepper, stepper.stage, 0)
    assert all(parameter.grad is None for parameter in stepper.model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_does_not_round_the_comparison(precision: str) -> None:
    """It is made in fp32: bf16 alone would put the two 0.4 % apart, and an unsettled loss scale overflow."""
    task = Pair(torch.float32)
    found, _ = compared(task, 4, 8, precision=precision)
    assert not found.problem
    assert found.difference < 1e-5


class HeadOfItsOwn(Masked):
    """A layer that the task holds, and hands to its optimizer."""

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
    """Which forgets them."""

    counts = None


def test_parameters_that_the_task_holds_are_compared_too() -> None:
    """Their gradients of one look are not those of the next."""
    assert compared(HeadOfItsOwn(counted=False), 5, 20)[0].difference < 1e-12
    found, stepper = compared(Uncounted(counted=False), 5, 20)
    assert found.difference > 0.01
    assert all(parameter.grad is None for parameter in stepper._parameters)


def test_modules_that_the_task_holds_are_in_evaluation_mode_and_put_back() -> None:
    """As those of the model are."""
    plan, task = make_plan(batch_size=5, full_batch_size=20), HeadOfItsOwn(counted=False, norm=nn.BatchNorm1d(1))
    stepper = Stepper(plan, task, CPU)
    stepper.learn_terms(next(task.batches(5, seed=0)))
    before = {name: value.clone() for name, value in task.head.state_dict().items()}
    found = compare_geometries(plan, task, stepper, stepper.stage, 0)
    after = task.head.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert found.difference < 1e-12
    assert all(module.training for module in task.head.modules())


class Expanded(Keeps):
    """A buffer that cannot be written, before one that is."""

    def model(self) -> nn.Module:
        model = super().model()
        model.register_buffer("ones", torch.ones(1).expand(10))
        model.register_buffer("calls", model._buffers.pop("calls"))
        return model


def test_a_buffer_that_cannot_be_written_keeps_no_other_from_being_put_back() -> None:
    found, stepper = compared(Expanded(), 4, 8)
    assert not found.problem
    assert stepper.model.calls.item() == 0


class Ends(Pair):
    """Three micro-batches, and no more."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Tensor]:
        return iter([]) if batch_size == 8 else super().batches(batch_size, seed=seed)


def test_batches_that_end_are_told() -> None:
    assert compared(Ends(), 4, 8)[0].problem.startswith("batches() ended: ")


def test_a_task_that_chose_the_precision_of_convolutions_is_compared() -> None:
    """By the names that `torch.backends.cudnn.flags` does not bear."""
    chosen: Any = torch.backends.cudnn.conv
    before = chosen.fp32_precision
    chosen.fp32_precision = "ieee"
    try:
        assert not compared(Pair(), 4, 8)[0].problem
    finally:
        chosen.fp32_precision = before
    assert torch.backends.cudnn.enabled


class Compiled(Pair):
    """Counts what is compiled, and for which shapes."""

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


def test_the_code_of_the_run_is_compiled_for_the_run_alone() -> None:
    """Not for the sizes that were compared, after which it would be dynamic."""
    torch.compiler.reset()
    task = Compiled()
    plan = make_plan(batch_size=4, full_batch_size=16)
    stepper = Stepper(plan, task, CPU)
    batch = next(task.batches(4, seed=0))
    stepper.learn_terms(batch)
    known = len(task.compiled)
    found = compare_geometries(plan, task, stepper, stepper.stage, 0)
    assert not found.problem
    assert len(task.compiled) == known
    stepper.update([batch], 1.0)
    assert len(task.compiled) > known
    assert all(isinstance(size, int) for shapes in task.compiled for size in shapes)


def test_many_micro_batches_of_sixteen_bits_add_up() -> None:
    """In bf16 itself a sum of 1024 equal parts stands still at a quarter of it."""
    task = Pair(torch.bfloat16)
    stepper = Stepper(make_plan(batch_size=1), task, CPU)
    batch = next(task.batches(1, seed=0))
    stepper.learn_terms(batch)
    one, _ = stepper.update([batch], 0.0)
    many, _ = stepper.update([batch] * 1024, 0.0)
    assert many[0].item() == pytest.approx(one[0].item(), rel=0.01)


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
    found = compare_geometries(plan, task, stepper, stepper.stage, 0)
    assert not found.problem
    assert found.difference < 1e-4
