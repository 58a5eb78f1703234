"""One optimizer step: gradient accumulation, named loss terms, precision, clipping, gradient probes."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pytest_smoke.errors import TaskError
from pytest_smoke.events import NotSharded
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.task import Task
from pytest_smoke.text import listed
from pytest_smoke.train.device import isolated_eval, to_device
from pytest_smoke.train.freezing import ParameterFreezer, call_on_stage_start
from pytest_smoke.train.gradients import TermGradients
from pytest_smoke.train.hooks import hook_of
from pytest_smoke.train.learning_rates import LearningRates
from pytest_smoke.train.model_mode import shared_storage
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.ranks import Ranks
from pytest_smoke.train.sharding import Sharding, Unsharded, clip_, is_sharded, sharded_by_task, total_norm
from pytest_smoke.train.stepping import Parts
from pytest_smoke.train.task import closure_fault, counts_of, loss_weights_of, optimizer_of

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
TERMS_SHOWN = 20
"""Loss terms that a message lists before it counts the rest."""


class Stepper:
    """A model with its optimizer, and how one effective batch becomes one update."""

    keeps_autocast = False

    def __init__(self, plan: RunPlan, task: Task, device: torch.device, ranks: Ranks | None = None) -> None:
        """`ranks`: the processes of the run; None for one process."""
        self.plan, self.task, self.device, self._ranks = plan, task, device, ranks
        model = task.model()
        if not isinstance(model, nn.Module):
            raise TaskError(f"model() returned {type(model).__name__}, not a torch.nn.Module")
        if "_parameters" not in vars(model):
            raise TaskError(f"model() returned {type(model).__name__}, whose __init__ does not call super().__init__()")
        parallelize = hook_of(task, "parallelize") if ranks is not None else None
        _check_values(model, meta=parallelize is not None)
        self.shared_storage = shared_storage(model)  # a move to another device separates what `.data` has joined
        self.sharding: Sharding | None = None
        """How the processes of the run share the parameters; None: each has all of them."""
        self.not_sharded: NotSharded | None = None
        """The event of a `parallelize` that has sharded nothing."""
        self._unsharded: nn.Module | None = None
        """A copy of the model without values, from which a whole one is made; None without sharding."""
        self._to_parallelize = parallelize
        """The task's `parallelize`, until it has been called."""
        self.model = model if parallelize is not None else model.to(device)  # it may not fit there as a whole
        self.model.train()
        self._freezer = ParameterFreezer(self.model)
        self.terms: tuple[str, ...] = ()
        """Names of the loss terms, in the order of every tensor with one value per term; set by `learn_terms`."""
        self.weights: tuple[float, ...] = ()
        """Weights of the loss terms, in the same order."""
        self.steps_called = 0
        """Updates in which the `step` of the optimizer ran."""
        self.steps_without_grad = 0
        """Updates after whose losses gradients were disabled."""
        self.last_batch: Any = None
        """The last micro-batch that was given to the task's `losses`, as it was before it was moved."""
        self._is_marked = False
        """Whether a backward pass of this process alone has marked parameters as used in DistributedDataParallel, which
        raises if the next step of all does not use them."""
        self.counts: list[list[float]] = []
        """Items of the last step by micro-batch and term, of this process."""
        self.totals: list[float] = []
        """Items of the last step by term, of all processes."""
        self.empty = 0.0
        """Micro-batches of the last step without an item of any term, of all processes."""
        self._seen: list[tuple[Stage, str]] = []
        """Every loss term so far, with its stage."""
        self.start_stage(plan.stages[0])

    def start_stage(self, stage: Stage) -> None:
        """Start a stage: freeze parameters, and make a new optimizer and loss scaler."""
        self.stage = stage
        self._phases_left = max(1, len(stage.phases))
        self._freezer.restore()
        if stage.name:
            self._call_on_stage_start(stage.phase_at(stage.first_step), new_stage=True)
        if self._to_parallelize is not None:
            self._shard(self._to_parallelize)
        self._freezer.apply(stage.train, key=self._key("train"))
        self.optimizer = optimizer_of(self.task, self.model, stage.learning_rate)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.plan.precision == "fp16")
        self.rates = LearningRates(self.optimizer, stage.learning_rate)
        """Learning rates of the optimizer's parameter groups."""
        self._parameters = list(dict.fromkeys(p for group in self.optimizer.param_groups for p in group["params"]))
        """Parameters in the optimizer: those that the loss scaler unscales, and so those that are measured and
        clipped."""
        held = set(self._parameters)
        self._others = [parameter for parameter in self.model.parameters() if parameter not in held]
        self._parallelize(in_step=False)

    def _shard(self, parallelize: Callable[..., Any]) -> None:
        """Let the task shard its model over the processes of the run, and move to the device what it left whole."""
        assert self._ranks is not None, "`parallelize` is called in a run with processes"
        self._to_parallelize = None
        if self._ranks.rank == 0 and self.plan.pipeline is not None:
            self._unsharded = copy.deepcopy(self.model).to("meta")
        is_sharded = sharded_by_task(parallelize, self.model, self._ranks, self.device)
        _check_values(self.model)
        if is_sharded:
            self.sharding = Sharding(self.model, self._ranks)
        else:
            self.not_sharded = NotSharded(parameters=len(list(self.model.parameters())))
        self._to_device()
        self.model.train()

    def _to_device(self) -> None:
        """Move what is not there yet: modules that the task has added, say. FSDP2 has placed what it shards."""
        if self._to_parallelize is not None:
            return
        if self.sharding is None:
            self.model.to(self.device)
            return
        for module in self.model.modules():
            for p in module.parameters(recurse=False):
                if not is_sharded(p):
                    p.data = p.data.to(self.device)
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = buffer.to(self.device)
        self.sharding.spread_whole()

    def _parallelize(self, *, in_step: bool) -> None:
        """Let the processes of the run average the gradients of what trains now.

        `in_step`: whether they have the same weights already.
        """
        self._is_marked = False
        if self._ranks is not None and self.sharding is None:
            inside = set(self.model.parameters())
            outside = nn.ParameterList([p for p in self._parameters if p not in inside and isinstance(p, nn.Parameter)])
            trained = nn.ModuleList([self.model, outside])
            self._parallel = self._ranks.parallel(self._weighted_losses, trained, in_step=in_step)

    def start_phase(self, step: int) -> None:
        """Start the later phase of the stage that begins at `step`; optimizer and schedule continue."""
        self._call_on_stage_start(self.stage.phase_at(step), new_stage=False)
        self._parallelize(in_step=False)

    def _call_on_stage_start(self, phase: str, *, new_stage: bool) -> None:
        call_on_stage_start(self.task, self.model, self.stage.name, phase, new_stage=new_stage)
        self._to_device()
        self.model.train()

    def _key(self, name: str) -> str:
        """Return the recipe key of a setting of the stage, `stages[0].train`; empty if no stages are declared."""
        return f"{self.stage.key}.{name}" if self.stage.name else ""

    def learn_terms(self, batch: Any) -> None:
        """Learn names, order and weights of the loss terms from one micro-batch.

        Leaves the model and the random number generators unchanged. Raises TaskError.
        """
        self.last_batch = batch
        with isolated_eval(self.model, self.device), self.autocast():
            losses = _as_terms(self.task.losses(self.model, to_device(batch, self.device)))
        weights = {**loss_weights_of(self.task), **self.stage.loss_weights}
        self._seen += [(self.stage, name) for name in losses]
        unknown = self._unknown(weights)
        if unknown:
            from_recipe = next((name for name in unknown if name in self.stage.loss_weights), None)
            key = ""
            if from_recipe is not None:
                key = "full.loss_weights" if from_recipe in self.plan.loss_weights else self._key("loss_weights")
            raise TaskError(
                f"loss_weights names {_listed(unknown)}, but the loss terms are {_listed(self.seen_terms)}", key=key
            )
        self.terms = tuple(losses)
        self.weights = tuple(float(weights.get(term, 1.0)) for term in self.terms)

    def _unknown(self, weights: Mapping[str, float]) -> list[str]:
        """Return the names with a weight that no loss term has, as far as later phases and stages cannot bring it."""
        self._phases_left -= 1
        if self._phases_left:
            return []
        if self.stage is self.plan.stages[-1]:
            return [name for name in weights if name not in self.seen_terms]
        known = {name for stage, name in self._seen if stage is self.stage}
        return [name for name in self.stage.loss_weights.keys() - self.plan.loss_weights.keys() if name not in known]

    @property
    def seen_terms(self) -> list[str]:
        """Every loss term so far, each once; stages and phases may have different ones."""
        return list(dict.fromkeys(name for _, name in self._seen))

    def update(self, batches: Sequence[Any], multiplier: float, *, probe: bool = False) -> tuple[Tensor, Tensor | None]:
        """Make one optimizer step at `multiplier` times the peak learning rate.

        Returns float32 tensors on the device: [means of the terms..., gradient norm before clipping], and with `probe`
        the inner products [terms * terms] of the terms' weighted gradients. With several processes the means are to be
        added up over them.
        """
        self.rates.set(multiplier)
        self.clear_gradients()
        gram = None
        if probe:
            gradients, values = self.differentiate(batches)
            gradients.combine()
            gram = self.gram(gradients)
        else:
            values = self._backward(batches, synchronized=True)
        self.steps_without_grad += not torch.is_grad_enabled()
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        self.rates.watch()
        self._make_step()
        self.rates.unwatch()
        self.steps_called += self.rates.stepped
        self.scaler.update()
        return self._row([*values, norm]), gram

    def _make_step(self) -> None:
        """Let the optimizer step, unless the loss scaler found an overflow. Raises TaskError if it needs a closure."""
        try:
            self.scaler.step(self.optimizer)
        except TypeError as error:
            innermost = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
            if str(error) == "'NoneType' object is not callable" and innermost.f_locals.get("closure", 0) is None:
                raise TaskError(closure_fault(self.optimizer)) from error
            raise

    def clear_gradients(self) -> None:
        """Set the gradients of all parameters to None: those of the model, and others that the optimizer holds."""
        for parameter in (*self._parameters, *self._others):
            parameter.grad = None

    def differentiate(self, batches: Sequence[Any]) -> tuple[TermGradients, list[Tensor]]:
        """Return the gradient of each loss term over an effective batch, and the terms' means.

        In a run with several processes, what this one adds to the means.
        """
        gradients = TermGradients(self.terms, self.weights, self._parameters)
        values: list[Tensor] = []
        self._is_marked = True
        sharding = self.sharding

        def scale(loss: Tensor) -> Tensor:
            scaled: Tensor = self.scaler.scale(loss)
            return scaled if sharding is None else scaled * sharding.size  # FSDP2 averages over the processes

        for losses in self._micro_losses(batches, of_all_ranks=True):
            gradients.add(losses, scale, None if sharding is None else sharding.average_whole)
            values = _summed(values, losses)
        if self._ranks is not None and sharding is None:
            gradients.add_up(self._ranks.add_up)
        return gradients, values

    def gram(self, gradients: TermGradients) -> Tensor:
        """Return the inner products [terms * terms] of the weighted gradients, without the loss scale."""
        scale = self.scaler.scale(torch.ones((), device=self.device))
        return gradients.gram(self.sharding).to(self.device) / (scale * scale)

    def gradient(self, batches: Sequence[Any]) -> tuple[list[Tensor | None], list[Tensor]]:
        """Return the gradient of the weighted loss over micro-batches by parameter, and the terms' means.

        Without autocast and loss scale, and without a step.
        """
        self.clear_gradients()
        values = self._backward(batches, full_precision=True)
        return [parameter.grad for parameter in self._parameters], [value.float() for value in values]

    def backward(self, batches: Sequence[Any]) -> None:
        """Make the forward and backward passes of a step as in training, but not the step."""
        self.clear_gradients()
        self._backward(batches)

    def score(self, batches: Sequence[Any], *, counted: Sequence[Any] | None = None) -> Tensor:
        """Return the terms' means over micro-batches, float32 [terms]; the caller disables gradients.

        `counted`: the same micro-batches as the task yielded them, if `batches` are on the device. `counts` gets those,
        as in a step: it may use tensors of its own, which are on the CPU, and reads values.
        """
        values: list[Tensor] = []
        for losses in self._micro_losses(batches, counted=counted):
            values = _summed(values, losses)
        return self._row(values)

    def weighted_sum(self, means: Sequence[float]) -> float:
        """Return the loss, the weighted sum of the terms' means. Computed on the host, at no cost to the device."""
        return sum(weight * mean for weight, mean in zip(self.weights, means, strict=True))

    def parameter_norm(self) -> Tensor:
        """Return the 2-norm of all parameters in the optimizer, [1]; not finite if one of them is not."""
        # Those of integers, such as quantized weights, do not train.
        trainable = [p.detach() for p in self._parameters if p.is_floating_point() or p.is_complex()]
        return total_norm(trainable).view(1).to(self.device)

    @property
    def parts(self) -> Parts:
        """How the processes of the run share the parameters."""
        return Unsharded(self.model) if self.sharding is None else self.sharding

    def whole_model(self) -> nn.Module | None:
        """Return a model that is not sharded: this one, or a copy on the CPU; None where the first process has it.

        For the end of a run with an export pipeline; all processes call it.
        """
        if self.sharding is None:
            return self.model
        weights = self.sharding.whole_weights()
        if self._unsharded is None:
            return None
        made = self._unsharded
        made.load_state_dict(weights, assign=True)
        for name, buffer in self.model.named_buffers():  # also those that are not in a state_dict
            owner, _, own_name = name.rpartition(".")
            made.get_submodule(owner)._buffers[own_name] = buffer.detach().to("cpu", copy=True)
        return made

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the plan's precision applies."""
        if self.plan.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=AUTOCAST[self.plan.precision])

    def _losses(self, batch: Any, *, autocast: bool) -> list[Tensor]:
        self.last_batch = batch
        with self.autocast() if autocast else nullcontext():
            losses = _as_terms(self.task.losses(self.model, to_device(batch, self.device)))
        if losses.keys() != set(self.terms):
            raise TaskError(
                f"losses(model, batch) returned other terms than before ({_listed(losses)}; before: "
                f"{_listed(self.terms)}): every batch of a stage or phase must have the same terms"
            )
        for term, loss in losses.items():
            if not isinstance(loss, Tensor):
                raise TaskError(f"loss term {term!r} is {type(loss).__name__}, not a tensor")
            if loss.ndim:
                raise TaskError(f"loss term {term!r} has shape {tuple(loss.shape)}: it must be a scalar")
            if loss.is_meta:
                raise TaskError(f"loss term {term!r} is on the meta device and has no value")
            if loss.is_complex():
                raise TaskError(f"loss term {term!r} is a complex number: take its real part or its absolute value")
        if torch.is_grad_enabled() and not any(loss.requires_grad for loss in losses.values()):
            raise TaskError(f"no loss term has a gradient ({_listed(losses)}): is a loss detached?")
        return [losses[term] for term in self.terms]

    def _micro_losses(
        self,
        batches: Sequence[Any],
        *,
        autocast: bool = True,
        counted: Sequence[Any] | None = None,
        of_all_ranks: bool = False,
        synchronized: bool = False,
    ) -> Iterator[list[Tensor]]:
        """Yield the terms of each micro-batch, times its share of the step: their sum is the loss of one big batch.

        `of_all_ranks`: the step has the micro-batches of all processes. `synchronized`: the backward pass of the last
        one averages the gradients over them.
        """
        self.counts = counts = [counts_of(self.task, batch, self.terms) for batch in counted or batches]
        self.totals = totals = [sum(column) for column in zip(*counts, strict=True)]
        self.empty = sum(not any(row) for row in counts)
        if of_all_ranks and self._ranks is not None:
            # Without `counts`, every micro-batch counts the same, and every process has as many.
            if hook_of(self.task, "counts") is None:
                self.totals = totals = [self._ranks.size * total for total in totals]
            else:
                *self.totals, self.empty = self._ranks.totals([*totals, self.empty])
                totals = self.totals
        if 0.0 in totals:
            term = self.terms[totals.index(0.0)]
            raise TaskError(
                f"counts(batch) is 0 for the loss term {term!r} in a whole step, so its mean is not defined"
            )
        for number, (batch, row) in enumerate(zip(batches, counts, strict=True), 1):
            shares = [count / total for count, total in zip(row, totals, strict=True)]
            is_last = number == len(batches)
            if self.sharding is not None:
                partial = of_all_ranks and 0.0 in shares
                ends = is_last or (of_all_ranks and not synchronized)
                yield self.sharding.call(
                    self._weighted_losses, batch, shares, autocast, synchronized=ends, partial=partial
                )
            elif synchronized and self._ranks is not None:
                yield self._parallel(batch, shares, autocast, synchronized=is_last)
            else:
                yield self._weighted_losses(batch, shares, autocast)

    def _weighted_losses(self, batch: Any, shares: Sequence[float], autocast: bool) -> list[Tensor]:
        losses = self._losses(batch, autocast=autocast)
        return [_times_share(loss, share) for loss, share in zip(losses, shares, strict=True)]

    def _backward(
        self, batches: Sequence[Any], *, full_precision: bool = False, synchronized: bool = False
    ) -> list[Tensor]:
        """Differentiate the weighted loss; return the terms' means.

        `full_precision`: without autocast and without the loss scaler. `synchronized`: over the micro-batches of all
        processes; what is returned are this one's parts of the means.
        """
        values: list[Tensor] = []
        # Gradients are averaged over the processes, and the shares are those of the whole step: their sum is needed.
        ranks = self._ranks.size if synchronized and self._ranks is not None else 1
        if synchronized and self._is_marked:
            self._parallelize(in_step=True)
        self._is_marked = self._is_marked or not synchronized
        for losses in self._micro_losses(
            batches, autocast=not full_precision, of_all_ranks=synchronized, synchronized=synchronized
        ):
            total: Tensor | None = None
            for loss, weight in zip(losses, self.weights, strict=True):
                part = loss if weight == 1.0 else loss * weight  # saves two kernels, forward and backward
                total = part if total is None else total + part
            assert total is not None
            if total.requires_grad:  # false if all of its terms are means over nothing
                scaled = total if full_precision else self.scaler.scale(total)
                scaled = scaled if ranks == 1 else scaled * ranks
                scaled.backward()  # type: ignore[no-untyped-call]  # torch types it so
            values = _summed(values, losses)
        if self.sharding is not None:
            self.sharding.average_whole(self._parameters)
        return values

    def _row(self, values: Sequence[Tensor]) -> Tensor:
        """Stack scalars, float32 on the device. A term may be a constant on the CPU, and so is the norm of nothing."""
        return torch.stack([value.to(self.device, torch.float32) for value in values])

    def _clip(self) -> Tensor:
        norm = total_norm([p.grad for p in self._parameters if p.grad is not None])
        if self.plan.grad_clip_norm is not None:
            clip_(self._parameters, self.plan.grad_clip_norm, norm)
        return norm


def _check_values(model: nn.Module, *, meta: bool = False) -> None:
    """Raise TaskError if a parameter or buffer has no values yet; with `meta` it may be on the meta device."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise TaskError(
                f"{name} belongs to a lazy module and has no shape yet: let model() pass one batch through the model"
            )
        if tensor.is_meta and not meta:
            raise TaskError(
                f"{name} is on the meta device and has no values: let model() call to_empty(device='cpu') and "
                "initialize the parameters"
            )


def _as_terms(losses: object) -> Mapping[str, Tensor]:
    """Return what `losses` returned. Raises TaskError unless it is a mapping with at least one term, all named."""
    if isinstance(losses, Mapping) and losses:
        for name in losses:
            if not isinstance(name, str) or not name:
                kind = "" if name == "" else f" ({type(name).__name__})"
                raise TaskError(f"losses(model, batch) named a term {name!r:.200}{kind}: names must be text, not empty")
        return losses
    returned = "no term" if isinstance(losses, Mapping) else type(losses).__name__
    raise TaskError(f"losses(model, batch) returned {returned}: it must map at least one name to a scalar")


def _times_share(loss: Tensor, share: float) -> Tensor:
    """Return the term times the micro-batch's share; 0 for a mean over nothing, which is NaN in torch."""
    return loss if share == 1.0 else loss * share if share else torch.zeros_like(loss)


def _summed(earlier: list[Tensor], losses: Sequence[Tensor]) -> list[Tensor]:
    # In 16 bits a sum of many equal values stops growing: 256 of them in bf16.
    values = [loss.detach().float() if loss.dtype.itemsize < 4 else loss.detach() for loss in losses]
    return [a + b for a, b in zip(earlier, values, strict=True)] if earlier else values


def _listed(terms: Iterable[str]) -> str:
    return listed(terms, limit=TERMS_SHOWN)
