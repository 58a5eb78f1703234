"""Try what would otherwise break late: the largest batch before the first step, and one batch over and over again."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pytest_smoke.events import LargestBatch, Overfit
from pytest_smoke.task import Task
from pytest_smoke.train.crash import crash_of
from pytest_smoke.train.data import next_micro_batches
from pytest_smoke.train.device import generator_states, isolated_eval, seed_all, set_generator_states
from pytest_smoke.train.hooks import hook_of
from pytest_smoke.train.in_place import write_
from pytest_smoke.train.out_of_range import explain
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.sharding import local
from pytest_smoke.train.step import Stepper

UPDATES = 40
"""Updates on one repeated batch: enough for a loss to fall also at the small learning rates of fine-tuning."""
WARMUP_UPDATES = 10
"""Updates over which the learning rate rises to its peak: a full rate at once may blow up an untrained model."""
STATES = {
    torch.optim.Adam: 2,
    torch.optim.AdamW: 2,
    torch.optim.NAdam: 2,
    torch.optim.RAdam: 2,
    torch.optim.Adamax: 2,
    torch.optim.Adagrad: 1,
}
"""Tensors of a parameter's size that an optimizer keeps from its first step on; those of SGD depend on its momentum."""


def try_largest_batch(plan: RunPlan, task: Task, stepper: Stepper) -> LargestBatch | None:
    """Make a forward and a backward pass on the task's largest batch; None if it names none.

    Memory for the state of torch's own optimizers is reserved meanwhile, because they allocate it at their first step.
    Weights, buffers, gradients and random number generators are restored; what goes wrong is returned in the event.
    """
    make = hook_of(task, "largest_batch")
    if make is None:
        return None
    with _restored(stepper, weights=False):
        reserved: list[torch.Tensor] = []
        try:
            batch = make()
            reserved = _optimizer_memory(stepper)
            stepper.backward([batch])
        except Exception as error:
            explain(error, stepper, task, ())
            crash = crash_of(error, plan.root)
            return LargestBatch(reason=crash.reason, text=crash.summary, place=crash.place)
        finally:
            del reserved
            stepper.clear_gradients()
        peak = torch.cuda.max_memory_allocated(stepper.device) if stepper.device.type == "cuda" else 0
    return LargestBatch(peak_memory_gib=peak / 2**30 if peak else None)


def overfit_one_batch(plan: RunPlan, task: Task, stepper: Stepper, step: int) -> Overfit:
    """Train on one micro-batch for some updates, and return its loss before and after, in evaluation mode.

    The same random numbers are drawn for both losses, so that a loss with noise of its own can be compared. Model,
    optimizer and random number generators are restored.
    """
    try:
        batch = next_micro_batches([iter(task.batches(plan.batch_size, seed=plan.seed))], 1)[0]
        with _restored(stepper, weights=True):
            before = _loss(stepper, batch, plan.seed)
            for update in range(1, UPDATES + 1):
                stepper.update([batch], min(1.0, update / WARMUP_UPDATES))
            after = _loss(stepper, batch, plan.seed)
    except Exception as error:
        crash = crash_of(error, plan.root)
        return Overfit(
            step=step, updates=UPDATES, problem=f"{crash.text} at {crash.place}" if crash.place else crash.text
        )
    return Overfit(step=step, updates=UPDATES, before=before, after=after)


def _loss(stepper: Stepper, batch: Any, seed: int) -> float:
    with isolated_eval(stepper.model, stepper.device):
        seed_all(seed)
        return stepper.weighted_sum(stepper.score([batch]).tolist())


def _optimizer_memory(stepper: Stepper) -> list[torch.Tensor]:
    """Allocate what the optimizer will keep, if it is known and not there yet."""
    optimizer = stepper.optimizer
    if optimizer.state:
        return []
    tensors = []
    for group in optimizer.param_groups:
        copies = STATES.get(type(optimizer), int(bool(group.get("momentum"))))
        for parameter in group["params"]:
            if parameter.requires_grad:
                tensors += [torch.empty_like(parameter) for _ in range(copies)]
    return tensors


@contextmanager
def _restored(stepper: Stepper, *, weights: bool) -> Iterator[None]:
    """Restore buffers and random number generators on exit; with `weights` also parameters, optimizer and loss scaler.

    The copies are on the host.
    """
    model, device = stepper.model, stepper.device
    kept = [local(tensor.detach()) for tensor in (*model.buffers(), *(model.parameters() if weights else ()))]
    copies = [tensor.to("cpu", copy=True) for tensor in kept]
    generators = generator_states(device)
    optimizer = copy.deepcopy(stepper.optimizer.state_dict()) if weights else None
    scaler = stepper.scaler.state_dict()
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(kept, copies, strict=True):
                write_(tensor, value)
        if optimizer is not None:
            stepper.optimizer.load_state_dict(optimizer)
            stepper.scaler.load_state_dict(scaler)
        stepper.clear_gradients()
        set_generator_states(generators, device)
