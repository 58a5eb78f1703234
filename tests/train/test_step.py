"""One optimizer step: gradients, probes, clipping, precision, and what a task may not return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pytest_smoke.errors import TaskError
from pytest_smoke.train.gradients import gradients_event
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.step import Stepper
from tests.train.conftest import Pair, host_must_not_wait

CPU = torch.device("cpu")
Planner = Callable[..., RunPlan]


def train(
    plan: RunPlan, task: Any, steps: list[list[Any]], *, probe: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters after `steps`, each a list of micro-batches, and the row that each step returned."""
    stepper = Stepper(plan, task, CPU)
    stepper.learn_terms(steps[0][0])
    rows = [stepper.update(batches, 1.0, probe=probe)[0] for batches in steps]
    return [p.detach().clone() for p in stepper.model.parameters()], rows


def assert_close(left: list[Tensor], right: list[Tensor], *, atol: float = 1e-12) -> None:
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_probed_step_trains_like_an_ordinary_one(plan: Planner, pair: Any, clip: float | None) -> None:
    steps = [[torch.randn(4, 3, dtype=torch.float64) for _ in range(3)] for _ in range(4)]
    ordinary, rows = train(plan(grad_clip_norm=clip), pair, steps)
    probed, probed_rows = train(plan(grad_clip_norm=clip), pair, steps, probe=True)
    assert_close(ordinary, probed)
    assert_close(rows, probed_rows, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_probed_step_trains_like_an_ordinary_one_in_half_precision(plan: Planner, precision: str) -> None:
    task = Pair(torch.float32)
    steps = [[torch.randn(8, 3)] for _ in range(3)]
    ordinary, _ = train(plan(precision=precision), task, steps)
    probed, _ = train(plan(precision=precision), task, steps, probe=True)
    start = [p.detach() for p in task.model().parameters()]
    change = max(float((a - b).abs().max()) for a, b in zip(start, ordinary, strict=True))
    assert change > 0.01
    assert_close(ordinary, probed, atol=0.02 * change)


def test_norms_and_cosine_of_a_probe_are_those_of_separate_backward_calls(plan: Planner, pair: Any) -> None:
    batch = torch.randn(8, 3, dtype=torch.float64)
    stepper = Stepper(plan(), pair, CPU)
    stepper.learn_terms(batch)
    gradients, _ = stepper.differentiate([batch])
    probe = gradients_event(0, stepper.terms, stepper.weights, stepper.gram(gradients).tolist())
    flat = {}
    for term in ("first", "second"):
        model = pair.model()
        pair.losses(model, batch)[term].backward()
        flat[term] = torch.cat(
            [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.parameters()]
        )
    assert probe.raw["first"] == pytest.approx(float(flat["first"].norm()), rel=1e-6)
    assert probe.raw["second"] == pytest.approx(float(flat["second"].norm()), rel=1e-6)
    assert probe.weighted["second"] == pytest.approx(0.5 * probe.raw["second"], rel=1e-6)
    cosine = torch.nn.functional.cosine_similarity(flat["first"], flat["second"], dim=0)
    assert probe.cosines["first/second"] == pytest.approx(float(cosine), abs=1e-6)


def test_norms_of_a_probe_do_not_include_the_loss_scale(plan: Planner) -> None:
    batch = torch.randn(8, 3)
    norms = []
    for precision in ("fp32", "fp16"):
        stepper = Stepper(plan(precision=precision), Pair(torch.float32), CPU)
        stepper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=precision == "fp16")
        stepper.learn_terms(batch)
        gradients, _ = stepper.differentiate([batch])
        norms.append(stepper.gram(gradients)[0].item() ** 0.5)
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


def test_the_reported_gradient_norm_is_the_one_before_clipping_and_is_computed_once(
    plan: Planner, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = nn.utils.get_total_norm

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(nn.utils, "get_total_norm", counted)
    batch = torch.randn(8, 3, dtype=torch.float64)
    stepper = Stepper(plan(grad_clip_norm=0.01), pair, CPU)
    stepper.learn_terms(batch)
    row, _ = stepper.update([batch], 1.0)
    model = pair.model()
    losses = pair.losses(model, batch)
    (losses["first"] + 0.5 * losses["second"]).backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    clipped = torch.cat([p.grad.flatten() for p in stepper.model.parameters()]).norm()
    assert len(calls) == 1
    assert row[-1].item() == pytest.approx(float(expected), rel=1e-6)
    assert float(clipped) == pytest.approx(0.01, rel=1e-3)


def test_an_overflowing_fp16_gradient_skips_the_update_and_is_reported_as_infinite(plan: Planner) -> None:
    """The initial loss scale, 2^16, overflows here; the next one is half of it."""

    class Steep(Pair):
        def losses(self, model: Any, batch: Any) -> Any:
            return {name: 1e4 * loss for name, loss in super().losses(model, batch).items()}

    stepper = Stepper(plan(precision="fp16"), Steep(torch.float32), CPU)
    batch = torch.randn(8, 3)
    stepper.learn_terms(batch)
    before = [p.detach().clone() for p in stepper.model.parameters()]
    row, _ = stepper.update([batch], 1.0)
    assert_close(before, [p.detach() for p in stepper.model.parameters()], atol=0)
    assert torch.isfinite(row[:-1]).all()
    assert not torch.isfinite(row[-1])
    assert stepper.scaler.get_scale() == 2.0**15


def test_the_learning_rate_of_every_group_follows_the_schedule(plan: Planner, pair: Any) -> None:

    def two_groups(model: Any, learning_rate: float) -> torch.optim.Optimizer:
        groups = [{"params": model["shared"].parameters()}, {"params": model["own"].parameters(), "lr": 0.3}]
        return torch.optim.SGD(groups, lr=learning_rate)

    pair.optimizer = two_groups
    stepper = Stepper(plan(learning_rate=0.1), pair, CPU)
    batch = torch.randn(8, 3, dtype=torch.float64)
    stepper.learn_terms(batch)
    stepper.update([batch], 0.5)
    assert [group["lr"] for group in stepper.optimizer.param_groups] == [0.05, 0.15]


def no_terms(task: Any) -> None:
    task.losses = lambda model, batch: {}


def unknown_weight(task: Any) -> None:
    task.loss_weights = {"thrid": 1.0}


def vector_term(task: Any) -> None:
    task.losses = lambda model, batch: {"first": model["shared"](batch).sum(1), "second": model["own"].bias.sum()}


def other_rate(task: Any) -> None:
    task.optimizer = lambda model, learning_rate: torch.optim.SGD(model.parameters(), lr=7.0)


def frozen(task: Any) -> None:
    model = task.model().requires_grad_(False)
    task.model = lambda: model


def negative_count(task: Any) -> None:
    task.counts = lambda batch: -1.0


def no_count(task: Any) -> None:
    task.counts = lambda batch: {"first": 1.0}


def counts_none(task: Any) -> None:
    task.counts = lambda batch: None


def counts_each(task: Any) -> None:
    task.counts = lambda batch: torch.ones(len(batch))


def nothing_counted(task: Any) -> None:
    task.counts = lambda batch: 0.0


def terms_change(task: Any) -> None:
    real, calls = task.losses, []

    def losses(model: Any, batch: Any) -> Any:
        calls.append(1)
        losses = real(model, batch)
        return losses if len(calls) < 2 else {"first": losses["first"]}

    task.losses = losses


def bare_tensor(task: Any) -> None:
    task.losses = lambda model, batch: model["own"].bias.sum()


def plain_float(task: Any) -> None:
    task.losses = lambda model, batch: {"first": 1.0, "second": 2.0}


def detached(task: Any) -> None:
    real = task.losses
    task.losses = lambda model, batch: {name: loss.detach() for name, loss in real(model, batch).items()}


def no_optimizer(task: Any) -> None:
    task.optimizer = lambda model, learning_rate: None


def no_model(task: Any) -> None:
    task.model = lambda: None


@pytest.mark.parametrize(
    ("spoil", "fragments"),
    [
        (no_terms, ["no term"]),
        (unknown_weight, ["thrid", "first and second"]),
        (vector_term, ["'first'", "(8,)", "scalar"]),
        (other_rate, ["lr 7", "0.1", "at least one"]),
        (frozen, ["no parameter that requires a gradient"]),
        (negative_count, ["-1.0", "not negative"]),
        (no_count, ["'second'", "first"]),
        (counts_none, ["counts(batch) returned None", "one number, or one number per loss term"]),
        (counts_each, ["counts(batch) returned tensor([1.,", "one number, or one number per loss term"]),
        (nothing_counted, ["'first'", "so its mean is not defined"]),
        (terms_change, ["returned other terms than before (first; before: first and second)"]),
        (bare_tensor, ["returned Tensor", "map"]),
        (plain_float, ["'first' is float, not a tensor"]),
        (detached, ["no loss term has a gradient (first and second)", "detached"]),
        (no_optimizer, ["returned NoneType, not a torch.optim.Optimizer"]),
        (no_model, ["returned NoneType, not a torch.nn.Module"]),
    ],
)
def test_an_invalid_task_raises_a_task_error_that_says_why(
    plan: Planner, pair: Any, spoil: Callable[[Any], None], fragments: list[str]
) -> None:
    spoil(pair)
    batch = torch.randn(8, 3, dtype=torch.float64)
    with pytest.raises(TaskError) as caught:
        train(plan(), pair, [[batch]])
    assert all(fragment in str(caught.value) for fragment in fragments), str(caught.value)


class Shapes(Pair):
    """Two loss terms over a model whose gradients are hard to separate."""

    def __init__(self, build: Callable[[], nn.Module], forward: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.build, self.forward = build, forward

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.build().double()

    def losses(self, model: Any, batch: Tensor) -> Any:
        out = self.forward(model, batch)
        return {"first": out.square().mean(), "second": (out - 1).abs().mean()}


def shared_sum() -> Shapes:
    """Return a task with two weights that are added before use: autograd gives both the same gradient tensor."""
    build = lambda: nn.ParameterDict({"base": torch.randn(3, 3), "delta": torch.randn(3, 3)})  # noqa: E731  # one line
    return Shapes(build, lambda model, x: x @ (model["base"] + model["delta"]))


def reentrant() -> Shapes:
    """Return a task with a module under reentrant activation checkpointing, after a trained layer."""
    build = lambda: nn.ModuleDict({"first": nn.Linear(3, 4), "body": nn.Linear(4, 4)})  # noqa: E731  # one line

    def forward(model: Any, x: Tensor) -> Tensor:
        output: Tensor = checkpoint(model["body"], model["first"](x), use_reentrant=True)
        return output

    return Shapes(build, forward)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch, of a forward without gradients
@pytest.mark.parametrize("make", [shared_sum, reentrant])
def test_a_probed_step_trains_like_an_ordinary_one_with_shared_gradients_and_reentrant_checkpoints(
    plan: Planner, make: Callable[[], Shapes]
) -> None:
    task = make()
    steps = [[torch.randn(4, 3, dtype=torch.float64) for _ in range(3)] for _ in range(3)]
    ordinary, _ = train(plan(), task, steps)
    probed, _ = train(plan(), task, steps, probe=True)
    assert_close(ordinary, probed)
    assert all(not torch.equal(a, b) for a, b in zip(ordinary, task.model().parameters(), strict=True))


def test_a_large_term_with_a_small_weight_does_not_overflow_a_probe(plan: Planner) -> None:
    """A probe scales the weighted term, as a step does; the raw norm is the term's own."""

    class Large(Pair):
        def losses(self, model: Any, batch: Any) -> Any:
            return {
                "first": super().losses(model, batch)["first"],
                "second": 1e4 * super().losses(model, batch)["second"],
            }

    norms = []
    for precision in ("fp32", "fp16"):
        stepper = Stepper(plan(precision=precision, loss_weights={"second": 1e-5}), Large(torch.float32), CPU)
        batch = torch.randn(8, 3, generator=torch.Generator().manual_seed(5))
        stepper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=precision == "fp16")
        stepper.learn_terms(batch)
        _, gram = stepper.update([batch], 1.0, probe=True)
        assert gram is not None
        norms.append(gradients_event(0, stepper.terms, stepper.weights, gram.tolist()).raw["second"])
    assert norms[1] == pytest.approx(norms[0], rel=0.05)


def test_a_parameter_outside_the_optimizer_is_not_measured_and_its_gradient_does_not_accumulate(
    plan: Planner, pair: Any
) -> None:
    """A loss scaler would not unscale its gradient."""
    pair.optimizer = lambda model, learning_rate: torch.optim.SGD(model["shared"].parameters(), lr=learning_rate)
    stepper = Stepper(plan(), pair, CPU)
    batch = torch.randn(8, 3, dtype=torch.float64)
    stepper.learn_terms(batch)
    for _ in range(3):
        row, _ = stepper.update([batch], 0.0)
    norm = torch.cat([p.grad.flatten() for p in stepper.model["shared"].parameters()]).norm()
    assert row[-1].item() == pytest.approx(float(norm), rel=1e-6)
    model = pair.model()
    losses = pair.losses(model, batch)
    (losses["first"] + 0.5 * losses["second"]).backward()
    torch.testing.assert_close(stepper.model["own"].weight.grad, model["own"].weight.grad)


@pytest.mark.gpu
def test_no_step_waits_for_the_device(plan: Planner) -> None:
    """CUDA's sync debug mode raises on a host synchronization within a step, with clipping and with probes."""
    device = torch.device("cuda")
    task = Pair(torch.float32)
    for precision in ("fp32", "bf16"):
        stepper = Stepper(plan(precision=precision, grad_clip_norm=1.0), task, device)
        batch = torch.randn(8, 3, device=device)
        stepper.learn_terms(batch)
        stepper.update([batch], 1.0)
        with host_must_not_wait():
            for step in range(10):
                stepper.update([batch], 1.0, probe=step % 3 == 0)
