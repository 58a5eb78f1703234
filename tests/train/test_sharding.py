"""FSDP2 in a process group of one: what is checked, and what every process sees of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_smoke.errors import TaskError
from pytest_smoke.train.device import isolated_eval
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.ranks import Ranks
from pytest_smoke.train.sharding import Sharding, copies_of, is_sharded, local, sharded_by_task, total_norm, whole
from pytest_smoke.train.step import Stepper
from pytest_smoke.train.task import optimizer_of
from tests.train.conftest import host_must_not_wait, joined
from tests.train.launched_task import Regression, Sharded

CPU = torch.device("cpu")
Planner = Callable[..., RunPlan]


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    yield from joined(CPU)


def sharded(ranks: Ranks, task: Sharded) -> nn.Module:
    torch.manual_seed(0)
    model = task.model()
    assert sharded_by_task(task.parallelize, model, ranks, CPU)
    return model


def batch() -> dict[str, Tensor]:
    return next(Regression().batches(8, seed=1))


def test_model_that_the_task_leaves_whole_is_not_sharded(ranks: Ranks) -> None:
    task = Sharded(how="nothing")
    assert not sharded_by_task(task.parallelize, task.model(), ranks, CPU)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (
            "tensor",
            r"made 0.weight a DTensor \(.*\) on 1 device, not one that fully_shard splits among all 1: .* tensor",
        ),
        ("copy", r"parallelize\(model, mesh\) returned a new Sequential: it must change the model in place"),
    ],
)
def test_parallelize_that_does_something_else_than_shard_is_refused(ranks: Ranks, how: str, text: str) -> None:
    with pytest.raises(TaskError, match=text):
        Sharding(sharded(ranks, Sharded(how=how)), ranks)


def test_model_that_was_sharded_elsewhere_is_refused_and_its_parameter_named(ranks: Ranks) -> None:
    model = sharded(ranks, Sharded())
    with pytest.raises(
        TaskError, match=r"the parameter 0.weight is sharded, .* call fully_shard in the task's paralleli"
    ):
        ranks.parallel(list, nn.ModuleList([model]), in_step=True)


def test_parts_and_norms_of_a_sharded_model_are_those_of_the_model(ranks: Ranks) -> None:
    torch.manual_seed(0)
    plain, model = Regression().model(), sharded(ranks, Sharded())
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        assert is_sharded(other)
        assert copies_of(other) == 1
        assert torch.equal(local(other.detach()), one)
        assert torch.equal(whole(other.detach()), one)
    mixed = [*model.parameters(), nn.Parameter(torch.ones(3, dtype=torch.float64))]
    norm = total_norm([p.detach() for p in mixed])
    expected = total_norm([*(p.detach() for p in plain.parameters()), torch.ones(3, dtype=torch.float64)])
    torch.testing.assert_close(norm, expected)


def test_parameters_are_those_of_the_optimizer_after_an_evaluation(ranks: Ranks) -> None:
    """FSDP2 keeps what the outermost module has gathered until the next backward pass."""
    model = sharded(ranks, Sharded())
    before = list(model.parameters())
    with isolated_eval(model, CPU):
        model(batch()["x"])
    assert all(one is other for one, other in zip(before, model.parameters(), strict=True))


def test_passes_of_one_process_alone_see_whole_parameters_and_leave_no_gradient(ranks: Ranks) -> None:
    model = sharded(ranks, Sharded())
    sharding = Sharding(model, ranks)
    model(batch()["x"]).sum().backward()
    expected = [whole(p.grad) for p in model.parameters() if p.grad is not None]
    with sharding.gathered():
        assert not any(map(is_sharded, model.parameters()))
        for _ in range(2):
            model(batch()["x"]).square().sum().backward()
    for p in model.parameters():
        p.grad = None
    model(batch()["x"]).sum().backward()
    torch.testing.assert_close([whole(p.grad) for p in model.parameters() if p.grad is not None], expected)


def test_term_without_items_gets_a_gradient_of_0_that_nan_does_not_reach(ranks: Ranks) -> None:
    model = sharded(ranks, Sharded())
    sharding = Sharding(model, ranks)

    def losses() -> list[Tensor]:
        mean = model(batch()["x"][:0]).mean()
        assert mean.isnan()
        return [torch.zeros_like(mean)]

    (term,) = sharding.call(losses, synchronized=True, partial=True)
    term.backward()  # type: ignore[no-untyped-call]  # torch types it so
    assert all(p.grad is not None and not whole(p.grad).any() for p in model.parameters())


def test_default_optimizer_has_sharded_and_other_parameters_in_groups_of_their_own(ranks: Ranks) -> None:
    """Its fused kernel, on CUDA, does not take both in one call."""
    model = sharded(ranks, Sharded(how="part"))
    optimizer = optimizer_of(SimpleNamespace(), model, 0.1)  # type: ignore[arg-type]  # a task without `optimizer`
    assert [{is_sharded(p) for p in group["params"]} for group in optimizer.param_groups] == [{False}, {True}]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_optimizer_state_is_loaded_though_a_parameter_never_had_a_gradient(ranks: Ranks) -> None:
    model = sharded(ranks, Sharded())
    sharding, optimizer = Sharding(model, ranks), torch.optim.AdamW(model.parameters())
    model(batch()["x"]).sum().backward()
    unused = model[2].bias
    unused.grad = None
    optimizer.step()
    saved = sharding.whole_optimizer(optimizer)
    optimizer.zero_grad()
    other = torch.optim.AdamW(model.parameters())
    sharding.load(sharding.whole_weights(), other, saved)
    assert other.state.keys() == optimizer.state.keys() == set(model.parameters()) - {unused}
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            assert torch.equal(whole(other.state[parameter][name]), whole(value)), name


def test_half_precision_of_fully_shard_counts_as_such(ranks: Ranks) -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    fully_shard(model, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    sharding = Sharding(model, ranks)
    model(torch.zeros(2, 4))
    assert sharding.computes_in_half


@pytest.mark.gpu
@pytest.mark.parametrize("task", [Regression(), Sharded()], ids=["ddp", "fsdp2"])
def test_no_step_of_a_launched_process_waits_for_the_device(plan: Planner, task: Regression) -> None:
    """CUDA's sync debug mode raises on a host synchronization within a step, with accumulation and clipping."""
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)

    def steps(one: RunPlan, ranks: Ranks, batches: Sequence[Any]) -> None:
        stepper = Stepper(one, task, device, ranks)
        assert (stepper.sharding is not None) == isinstance(task, Sharded)
        stepper.learn_terms(batches[0])
        for probe in (True, False, False, False):  # after a probe, DistributedDataParallel is built again
            stepper.update(batches, 1.0, probe=probe)
        with host_must_not_wait():
            for step in range(10):
                stepper.update(batches, 1.0, probe=stepper.sharding is not None and step % 3 == 0)

    task.counts = None  # type: ignore[assignment,method-assign]  # `items` would be read from the device here
    micro = {"x": torch.randn(8, 4, dtype=torch.float64), "y": torch.randn(8, dtype=torch.float64), "items": 4}
    on_device = {name: part.to(device) if isinstance(part, Tensor) else part for name, part in micro.items()}
    for ranks in joined(device):
        for precision in ("fp32", "bf16"):
            steps(plan(precision=precision, grad_clip_norm=1.0, learning_rate=0.01), ranks, [on_device, on_device])
