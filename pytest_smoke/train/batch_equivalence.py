"""One batch's gradient in the smoke's micro-batches and in the full run's, where their sizes are not the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn

from pytest_smoke.errors import UnsplittableBatchError
from pytest_smoke.events import BatchEquivalence
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.batch_splitter import BatchSplitter
from pytest_smoke.train.crash import crash_of
from pytest_smoke.train.data import one_step
from pytest_smoke.train.device import isolated_eval, seed_all
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.step import Stepper
from pytest_smoke.train.task import Task

GEOMETRY_SEED_OFFSET = 3_000_003
"""Added to the seed for the batch that is cut in two ways, so that it is drawn apart from the training order."""
SUSPICIOUS = 1e-3
"""Difference of two gradients, as a share of their norm, that rounding in fp32 does not make: that is 1e-6."""
Look = tuple[list[Tensor | None], list[Tensor]]
"""Gradient by parameter, and the terms' means."""


def compare_batch_sizes(plan: RunPlan, task: Task, stepper: Stepper, stage: Stage, step: int) -> BatchEquivalence:
    """The gradient of one batch in both sizes of micro-batches, before `step`.

    In evaluation mode, for dropout draws other masks in other geometries, and without autocast, for rounding and a
    loss scale must not decide. Model, task, gradients and random numbers are left as they were. What goes wrong is
    told and not raised: nothing of this trains.
    """
    smoke, full, model = plan.batch_size, plan.full_batch_size or plan.batch_size, stepper.model
    found = BatchEquivalence(
        step=step,
        stage=stage.name,
        phase=stage.phase_at(step),
        samples=lcm(smoke, full),
        smoke=smoke,
        full=full,
        batch_norm=_batch_norm(model),
        half=any(p.is_floating_point() and p.dtype.itemsize < 4 for p in model.parameters()),
    )
    try:
        with (
            isolated_eval(model, stepper.device),
            torch.enable_grad(),
            torch.compiler.set_stance("force_eager"),  # or the run's own code would be compiled for these sizes, too
            _without_cudnn(),
            _unchanged(model, task),
        ):
            return _compared(found, plan, task, stepper)
    except UnsplittableBatchError as no:
        return found.but(problem=f"{no}")
    except torch.OutOfMemoryError:
        return found.but(problem=f"{max(smoke, full)} samples do not fit into the device's memory in fp32")
    except Exception as error:
        crash = crash_of(error, plan.root)
        first = (crash.text.splitlines() or [""])[0]
        where = f" at {crash.place}" if crash.place else ""
        return found.but(problem=f"{first:.200}{where} (in evaluation mode, without autocast)")
    finally:
        stepper.forget_gradients()


def _compared(found: BatchEquivalence, plan: RunPlan, task: Task, stepper: Stepper) -> BatchEquivalence:
    seed, few = plan.seed + GEOMETRY_SEED_OFFSET, min(found.smoke, found.full)
    batch, like = (one_step([iter(task.batches(size, seed=seed))], 1)[0] for size in (found.samples, few))
    cutter = BatchSplitter(batch, like, samples=found.samples, few=few)
    if not cutter.grows:
        if cutter.lengths and found.smoke not in cutter.lengths:
            return found.but(ignored=True)
        raise UnsplittableBatchError(f"batches({found.samples}) gives as many samples as batches({few})")
    ours, theirs = cutter.pieces(found.smoke), cutter.pieces(found.full)

    def look(pieces: Sequence[Any], seed: int) -> Look:
        seed_all(seed)
        return stepper.gradient(pieces)

    full, smoke = look(theirs, seed), look(ours, seed)
    if _differ(smoke, full) and _differ(look(theirs, seed + 1), full):
        return found.but(
            problem="two looks at the same micro-batches differ: in evaluation mode the losses draw random numbers, or "
            "they keep something from call to call"
        )
    smoke_terms, full_terms = (
        dict(zip(stepper.terms, torch.stack(values).tolist(), strict=True)) for _, values in (smoke, full)
    )
    weights = dict(zip(stepper.terms, stepper.weights, strict=True))
    difference = _distance(smoke[0], full[0])
    return found.but(difference=difference, weights=weights, smoke_terms=smoke_terms, full_terms=full_terms)


def _differ(one: Look, other: Look) -> bool:
    """Whether the gradients or the terms of two looks are apart by more than rounding."""
    if _distance(one[0], other[0]) > SUSPICIOUS:
        return True
    return any(float((a - b).abs()) > SUSPICIOUS * float(b.abs()) for a, b in zip(one[1], other[1], strict=True))


def _distance(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> float:
    """2-norm of the difference of two gradients, as a share of the larger norm; NaN where both are 0."""
    apart = [
        a - b if a is not None and b is not None else a if b is None else b for a, b in zip(left, right, strict=True)
    ]
    norms = [nn.utils.get_total_norm([g for g in one if g is not None]) for one in (apart, left, right)]
    return float(norms[0] / torch.maximum(norms[1], norms[2]))


def _batch_norm(model: nn.Module) -> int:
    kind = nn.modules.batchnorm._BatchNorm
    return sum(isinstance(module, kind) and module.training for module in model.modules())


@contextmanager
def _without_cudnn() -> Iterator[None]:
    """Its recurrent layers have no backward in evaluation mode. Not `cudnn.flags`, which raises where a task has set
    the precision of convolutions by the newer names."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


@contextmanager
def _unchanged(model: nn.Module, task: Task) -> Iterator[None]:
    """Buffers and attributes of the model, and the task's attributes, are put back: a cache that was filled with
    another size of batch, a hidden state, a running mean. What is changed in place within them is not. Modules that the
    task itself holds are in evaluation mode meanwhile, as the model is."""
    own = vars(task) if hasattr(task, "__dict__") else {}
    held = [value for value in own.values() if isinstance(value, nn.Module)]
    modules = list(dict.fromkeys(part for root in (model, *held) for part in root.modules()))
    values = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers(recurse=False)]
    holders = [own, *map(vars, modules), *(module._buffers for module in modules)]
    before = [(holder, dict(holder)) for holder in holders]
    try:
        for module in held:
            module.eval()
        yield
    finally:
        for holder, kept in before:
            for name in holder.keys() - kept.keys():
                del holder[name]
            for name, value in kept.items():
                if holder.get(name) is not value:  # what did not change is not written: compiled code watches it
                    holder[name] = value
        with torch.no_grad():
            for buffer, value in values:
                if not torch.equal(buffer, value):  # an expanded buffer cannot be written, and is not
                    buffer.copy_(value)
