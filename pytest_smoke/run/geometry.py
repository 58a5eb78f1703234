"""One batch's gradient in the smoke's micro-batches and in the full run's, where their sizes are not the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm
from typing import Any

import torch
from torch import Tensor

from pytest_smoke.run.device import quiet, seed_all
from pytest_smoke.run.plan import RunPlan
from pytest_smoke.run.records import Geometries
from pytest_smoke.run.step import Stepper
from pytest_smoke.run.task import Task

GEOMETRY_SEED_OFFSET = 3_000_003
"""Added to the seed for the batch that is cut in two ways, so that it is drawn apart from the training order."""
DRAWS_SEED_OFFSET = 1
"""Added to the seed of a second look at one geometry, which shows whether the losses draw random numbers."""
SUSPICIOUS = 1e-3
"""Difference of two gradients, as a share of their norm, that rounding does not make: 1e-6 in fp32."""


class NoCut(Exception):
    """A batch cannot be cut into smaller ones; the message says what of it cannot."""


def cut(batch: Any, samples: int, size: int) -> list[Any]:
    """`batch` of `samples` samples as micro-batches of `size`, which divides it. Raises NoCut.

    Tensors are cut along their first dimension, and sequences that are as long as the batch; text, flags and None are
    shared. A number may be a sum over the batch, so it cannot be.
    """
    return [_piece(batch, samples, slice(first, first + size), "the batch") for first in range(0, samples, size)]


def _piece(part: Any, samples: int, span: slice, place: str) -> Any:
    if isinstance(part, Tensor):
        if part.ndim and part.shape[0] == samples:
            return part[span]
        raise NoCut(f"{place} has shape {tuple(part.shape)}, and not {samples} samples along its first dimension")
    if part is None or isinstance(part, str | bytes | bool):
        return part
    if isinstance(part, Mapping):
        return {key: _piece(value, samples, span, f"{place}[{key!r}]") for key, value in part.items()}
    if isinstance(part, list | tuple):
        if len(part) == samples and not any(isinstance(value, Tensor | Mapping | list | tuple) for value in part):
            return part[span]
        pieces = [_piece(value, samples, span, f"{place}[{at}]") for at, value in enumerate(part)]
        return type(part)(*pieces) if hasattr(part, "_fields") else type(part)(pieces)
    raise NoCut(f"{place} is {type(part).__name__}, which nobody but the task can cut")


def compare_geometries(plan: RunPlan, task: Task, stepper: Stepper, step: int) -> Geometries | None:
    """The gradient of one batch in both sizes of micro-batches, before `step`; None where they are the same size.

    In evaluation mode, for dropout draws other masks in other geometries, and without autocast, for rounding and a
    loss scale must not decide. Model, gradients and random numbers are left as they were. What goes wrong is told and
    not raised: nothing of this trains.
    """
    smoke, full = plan.batch_size, plan.full_batch_size or plan.batch_size
    if smoke == full:
        return None
    found = Geometries(step=step, samples=lcm(smoke, full), smoke=smoke, full=full, batch_norm=_batch_norm(stepper))
    try:
        with quiet(stepper.model, stepper.device), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            # cuDNN's recurrent layers have no backward pass in evaluation mode
            return _compared(found, plan, task, stepper)
    except NoCut as no:
        return found.but(problem=f"{no}")
    except torch.OutOfMemoryError:
        return found.but(problem=f"{max(smoke, full)} samples do not fit into the device's memory in fp32")
    except Exception as error:
        return found.but(problem=f"{type(error).__name__}: {error}")
    finally:
        stepper.model.zero_grad(set_to_none=True)


def _compared(found: Geometries, plan: RunPlan, task: Task, stepper: Stepper) -> Geometries:
    seed = plan.seed + GEOMETRY_SEED_OFFSET
    batch = next(iter(task.batches(found.samples, seed=seed)))
    ours, theirs = (cut(batch, found.samples, size) for size in (found.smoke, found.full))

    def look(pieces: Sequence[Any], offset: int = 0) -> tuple[list[Tensor | None], list[Tensor]]:
        seed_all(seed + offset)
        stepper.model.zero_grad(set_to_none=True)
        return stepper.gradient(pieces)

    reference, full = look(theirs)
    gradient, smoke = look(ours)
    difference = _distance(gradient, reference)
    if difference > SUSPICIOUS:
        again, _ = look(theirs, DRAWS_SEED_OFFSET)
        if _distance(again, reference) > SUSPICIOUS:
            return found.but(problem="the losses draw random numbers in evaluation mode, so that no two looks agree")
    rows = torch.stack([*smoke, *full]).view(2, -1).tolist()
    smoke_terms, full_terms = (dict(zip(stepper.terms, row, strict=True)) for row in rows)
    return found.but(difference=difference, smoke_terms=smoke_terms, full_terms=full_terms)


def _distance(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> float:
    """2-norm of the difference of two gradients, as a share of the norm of the second; NaN where that is 0."""
    apart = [
        a - b if a is not None and b is not None else a if b is None else b for a, b in zip(left, right, strict=True)
    ]
    difference, norm = (torch.nn.utils.get_total_norm([g for g in one if g is not None]) for one in (apart, right))
    return float(difference / norm)


def _batch_norm(stepper: Stepper) -> int:
    kind = torch.nn.modules.batchnorm._BatchNorm
    return sum(isinstance(module, kind) and module.training for module in stepper.model.modules())
