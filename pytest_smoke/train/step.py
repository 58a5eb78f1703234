"""One optimizer step: accumulation, named terms, precision, clipping, and the gradient probe that is a step too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pytest_smoke.errors import TaskError
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.device import isolated_eval, to_device
from pytest_smoke.train.freezing import ParameterFreezer, call_on_stage_start
from pytest_smoke.train.gradients import TermGradients
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.task import Task, counts_of, optimizer_of

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Stepper:
    """A model, its optimizer, and how one effective batch becomes one update."""

    def __init__(self, plan: RunPlan, task: Task, device: torch.device) -> None:
        self.plan, self.task, self.device = plan, task, device
        model = task.model()
        if not isinstance(model, nn.Module):
            raise TaskError(f"model() returned {type(model).__name__}, not a torch.nn.Module")
        self.model = model.to(device)
        self.model.train()
        self._trainable = ParameterFreezer(self.model)
        self.terms: tuple[str, ...] = ()
        """Names of the loss terms, in the order of every figure by term; known after `learn_terms`."""
        self.weights: tuple[float, ...] = ()
        self._seen: list[tuple[Stage, str]] = []
        self.begin(plan.stages[0])

    def begin(self, stage: Stage) -> None:
        """Enter the stage: choose what trains, and make an optimizer, a loss scaler and their state anew."""
        self.stage = stage
        self._phases_left = max(1, len(stage.phases))
        self._trainable.restore()
        if stage.name:
            self._enter(stage.name, stage.phase_at(stage.first_step), anew=True)
        self._trainable.choose(stage.train, key=self._key("train"))
        self.optimizer = optimizer_of(self.task, self.model, stage.learning_rate)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.plan.precision == "fp16")
        self._peaks = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._parameters = list(dict.fromkeys(p for group in self.optimizer.param_groups for p in group["params"]))
        """What the optimizer holds: what a loss scaler unscales, and so what is measured and clipped."""
        held = set(self._parameters)
        self._others = [parameter for parameter in self.model.parameters() if parameter not in held]

    def enter_phase(self, step: int) -> None:
        """Enter the phase of the stage that begins at `step`; optimizer and schedule go on."""
        self._enter(self.stage.name, self.stage.phase_at(step), anew=False)

    def _enter(self, stage: str, phase: str | None, *, anew: bool) -> None:
        call_on_stage_start(self.task, self.model, stage, phase, anew=anew)
        self.model.to(self.device)  # what the task has added
        self.model.train()

    def _key(self, name: str) -> str:
        """`stages[0].train`, the recipe's key of a setting that the stage has of its own; empty without stages."""
        return f"{self.stage.key}.{name}" if self.stage.name else ""

    def learn_terms(self, batch: Any) -> None:
        """Names, order and weights of the terms, from one micro-batch; leaves model and random numbers as they were."""
        with isolated_eval(self.model, self.device), self._autocast():
            losses = self.task.losses(self.model, to_device(batch, self.device))
        if not isinstance(losses, Mapping) or not losses:
            what = "no term" if isinstance(losses, Mapping) else type(losses).__name__
            raise TaskError(f"losses(model, batch) returned {what}: it must map one name or more to scalars")
        weights = {**(getattr(self.task, "loss_weights", None) or {}), **self.stage.loss_weights}
        self._seen += [(self.stage, name) for name in losses]
        unknown = self._unknown(weights)
        if unknown:
            terms = ", ".join(self.seen_terms)
            own, key = next((name for name in unknown if name in self.stage.loss_weights), None), ""
            if own is not None:  # and not one of the task's own weights
                key = "full.loss_weights" if own in self.plan.loss_weights else self._key("loss_weights")
            raise TaskError(f"loss_weights names {', '.join(unknown)}, but the loss terms are {terms}", key=key)
        self.terms = tuple(losses)
        self.weights = tuple(float(weights.get(term, 1.0)) for term in self.terms)

    def _unknown(self, weights: Mapping[str, float]) -> list[str]:
        """Terms that have a weight and cannot come any more; a phase or a stage may still bring terms of its own."""
        self._phases_left -= 1
        if self._phases_left:
            return []
        if self.stage is self.plan.stages[-1]:
            return [name for name in weights if name not in self.seen_terms]
        known = {name for stage, name in self._seen if stage is self.stage}
        return [name for name in self.stage.loss_weights.keys() - self.plan.loss_weights.keys() if name not in known]

    @property
    def seen_terms(self) -> list[str]:
        """Every term so far, also of earlier stages and phases, each once."""
        return list(dict.fromkeys(name for _, name in self._seen))

    def update(self, batches: Sequence[Any], multiplier: float, *, probe: bool = False) -> tuple[Tensor, Tensor | None]:
        """One optimizer step at `multiplier` times the peak learning rate.

        Returns float32 tensors on the device: [terms' means..., gradient norm before clipping], and for a probe the
        inner products of the terms' gradients [terms * terms].
        """
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * multiplier
        self.forget_gradients()
        gram = None
        if probe:
            gradients, values = self.differentiate(batches)
            gradients.combine()
            gram = self.gram(gradients)
        else:
            values = self._backward(batches)
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return _row([*values, norm]), gram

    def forget_gradients(self) -> None:
        """Of all parameters: the model's, and what the optimizer holds beside them."""
        for parameter in (*self._parameters, *self._others):
            parameter.grad = None

    def differentiate(self, batches: Sequence[Any]) -> tuple[TermGradients, list[Tensor]]:
        """The terms' gradients over the effective batch, one by one, and their means."""
        gradients = TermGradients(self.terms, self.weights, self._parameters)
        values: list[Tensor] = []
        for losses in self._micro_losses(batches):
            gradients.add(losses, self.scaler.scale)
            values = _summed(values, losses)
        return gradients, values

    def gram(self, gradients: TermGradients) -> Tensor:
        """Inner products [terms * terms], free of the loss scaler's factor."""
        scale = self.scaler.scale(torch.ones((), device=self.device))
        return gradients.gram() / (scale * scale)

    def gradient(self, batches: Sequence[Any]) -> tuple[list[Tensor | None], list[Tensor]]:
        """The weighted loss's gradient over some micro-batches by parameter, and the terms' means; in fp32, no step."""
        self.forget_gradients()
        values = self._backward(batches, plain=True)
        return [parameter.grad for parameter in self._parameters], [value.float() for value in values]

    def score(self, batches: Sequence[Any]) -> Tensor:
        """The terms' means over some micro-batches, float32 [terms]; the caller switches gradients off."""
        values: list[Tensor] = []
        for losses in self._micro_losses(batches):
            values = _summed(values, losses)
        return _row(values)

    def weighted_sum(self, means: Sequence[float]) -> float:
        """The loss: the weighted sum of the terms' means, on the host, where it costs the device nothing."""
        return sum(weight * mean for weight, mean in zip(self.weights, means, strict=True))

    def parameter_norm(self) -> Tensor:
        """2-norm of all trained parameters, [1]; not finite if one of them is not."""
        return nn.utils.get_total_norm([p.detach() for p in self._parameters]).view(1)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.plan.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=AUTOCAST[self.plan.precision])

    def _losses(self, batch: Any, *, autocast: bool) -> list[Tensor]:
        with self._autocast() if autocast else nullcontext():
            losses = self.task.losses(self.model, to_device(batch, self.device))
        if losses.keys() != set(self.terms):
            raise TaskError(f"losses(model, batch) named {', '.join(losses)} after {', '.join(self.terms)}")
        for term, loss in losses.items():
            if not isinstance(loss, Tensor):
                raise TaskError(f"loss term {term!r} is {type(loss).__name__}, not a tensor")
            if loss.ndim:
                raise TaskError(f"loss term {term!r} has shape {tuple(loss.shape)}: it must be a scalar")
        if torch.is_grad_enabled() and not any(loss.requires_grad for loss in losses.values()):
            raise TaskError(f"no gradient reaches the model from {', '.join(losses)}: is a loss detached?")
        return [losses[term] for term in self.terms]

    def _micro_losses(self, batches: Sequence[Any], *, autocast: bool = True) -> Any:
        """Each micro-batch's terms, times its share of the step's mean: summed, they are the loss of one big batch."""
        counts = [counts_of(self.task, batch, self.terms) for batch in batches]
        totals = [sum(column) for column in zip(*counts, strict=True)]
        if 0.0 in totals:
            raise TaskError(f"counts(batch) says that term {self.terms[totals.index(0.0)]!r} averages over nothing")
        for batch, row in zip(batches, counts, strict=True):
            shares = [count / total for count, total in zip(row, totals, strict=True)]
            losses = self._losses(batch, autocast=autocast)
            yield [_shared(loss, share) for loss, share in zip(losses, shares, strict=True)]

    def _backward(self, batches: Sequence[Any], *, plain: bool = False) -> list[Tensor]:
        """Differentiate the weighted loss; the terms' means. `plain`: without autocast and without the loss scaler."""
        values: list[Tensor] = []
        for losses in self._micro_losses(batches, autocast=not plain):
            total: Tensor | None = None
            for loss, weight in zip(losses, self.weights, strict=True):
                part = loss if weight == 1.0 else loss * weight  # two kernels less, forward and back
                total = part if total is None else total + part
            assert total is not None
            if total.requires_grad:  # not where all of its terms average over nothing
                (total if plain else self.scaler.scale(total)).backward()  # type: ignore[no-untyped-call]  # torch types it so
            values = _summed(values, losses)
        return values

    def _clip(self) -> Tensor:
        norm = nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        if self.plan.grad_clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self.plan.grad_clip_norm, norm)
        return norm


def _shared(loss: Tensor, share: float) -> Tensor:
    """The term times the micro-batch's share; a mean over nothing, NaN as torch has it, is no part of the step's."""
    return loss if share == 1.0 else loss * share if share else torch.zeros_like(loss)


def _summed(earlier: list[Tensor], losses: Sequence[Tensor]) -> list[Tensor]:
    # In 16 bits the sum of many micro-batches stands still: 256 equal parts add up to too little in bf16.
    values = [loss.detach().float() if loss.dtype.itemsize < 4 else loss.detach() for loss in losses]
    return [a + b for a, b in zip(earlier, values, strict=True)] if earlier else values


def _row(values: Sequence[Tensor]) -> Tensor:
    return torch.stack([value.float() for value in values])
