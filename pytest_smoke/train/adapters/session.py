"""Measures a run of a trainer that has a training loop of its own, and reports it as our own loop would."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial, update_wrapper
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pytest_smoke import schedules
from pytest_smoke.errors import TaskError
from pytest_smoke.events import (
    SERIES,
    Abort,
    Event,
    InitialMetrics,
    LearningRateDiffers,
    Metrics,
    NotChecked,
    ParameterNorm,
    ProbeLoss,
    Step,
)
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.text import count, listed
from pytest_smoke.train.adapters.samples import LoaderSamples, samples_of
from pytest_smoke.train.batch_equivalence import compare_batch_sizes
from pytest_smoke.train.batch_sizes import SizeCounter
from pytest_smoke.train.channel import CHUNK_SECONDS, CHUNK_STEPS, Channel
from pytest_smoke.train.checkpoints.in_memory import WeightHistory
from pytest_smoke.train.deferred_metrics import DeferredMetrics
from pytest_smoke.train.device import isolated_eval
from pytest_smoke.train.first_batches import FirstBatches
from pytest_smoke.train.gradients import gradients_event
from pytest_smoke.train.learning_rates import LearningRates, UsedRates
from pytest_smoke.train.machine import PeakMemory, Utilization, activity, ended, started, utilization_reader
from pytest_smoke.train.model_mode import ModeWatch, compiled_frames, shared_storage
from pytest_smoke.train.movement import Movement
from pytest_smoke.train.nonfinite import LossWatch
from pytest_smoke.train.plan import RunPlan, gradient_probe_every_steps, probe_every_steps
from pytest_smoke.train.sharding import Unsharded
from pytest_smoke.train.task import PROBE_SAMPLES, PROBE_SEED_OFFSET
from pytest_smoke.train.updates import compare, snapshot

REST = "rest"
"""Name of what a loss has beyond its named terms."""
REST_SHARE = 1e-3
"""Share of the loss from which it is more than rounding."""

OWN_LOOP = (
    "the trainer makes its steps in a loop of its own, which does not report them: train it with `command`, or as a "
    "task"
)

Pass = tuple[list[Tensor | None], list[Tensor]]
"""Gradient by parameter, and the loss terms' means."""


class Trainer(Protocol):
    """What an adapter tells about the trainer that it drives."""

    samples: LoaderSamples
    """The samples of its training data."""

    def losses(self, batch: Any) -> Mapping[str, Tensor]:
        """Return the loss of a micro-batch under the name `loss`, and its named terms, as in training."""

    def score(self, batch: Any) -> Tensor | None:
        """Return the loss of a batch in evaluation mode; None if the trainer has none."""

    def gradient(self, batches: Sequence[Any]) -> Tensor:
        """Add the gradient of a step with these micro-batches to the parameters, and return its loss."""

    def evaluate(self) -> dict[str, float] | None:
        """Return the trainer's own metrics; None if it has nothing to evaluate."""


class _Rerun:
    """The trainer as a task, for the instruments that compute a loss again."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.batches = trainer.samples.batches

    def model(self) -> nn.Module:
        raise NotImplementedError

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        return self._trainer.losses(batch)


class _Stepper:
    """The trainer's model and optimizer, as the instruments see them. See `train.stepping.Rerunning`."""

    keeps_autocast = True

    def __init__(
        self, plan: RunPlan, device: torch.device, model: nn.Module, optimizer: torch.optim.Optimizer, trainer: Trainer
    ) -> None:
        self.plan, self.device, self.model, self.optimizer = plan, device, model, optimizer
        self.stage = plan.stages[0]
        self.terms: tuple[str, ...] = ("loss",)
        self.weights: tuple[float, ...] = (1.0,)
        self.scaler = torch.amp.GradScaler(device.type, enabled=plan.precision == "fp16")
        self.steps_called = self.steps_without_grad = 0
        self.parameters = list(dict.fromkeys(p for group in optimizer.param_groups for p in group["params"]))
        self.parts = Unsharded(model)
        self._trainer = trainer

    def autocast(self) -> AbstractContextManager[object]:
        return nullcontext()  # the trainer enters it by itself

    def gradient(self, batches: Sequence[Any]) -> Pass:
        self.clear_gradients()
        # The trainer's own step switches to training mode, in which dropout masks would differ. `restored`, around
        # this call, removes the attribute.
        self.model.train = lambda mode=True: self.model  # type: ignore[method-assign]
        loss = self._trainer.gradient(batches)
        return [parameter.grad for parameter in self.parameters], [loss.detach().float()]

    def clear_gradients(self) -> None:
        for parameter in {*self.parameters, *self.model.parameters()}:
            parameter.grad = None


class TermProbe:
    """Gradients of the named loss terms of a step, differentiated one by one while its graph is alive.

    The weight of a term is the derivative of the loss with respect to it. What the loss has beyond its weighted terms
    is a term of its own, `rest`.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = [p for p in parameters if p.requires_grad]
        self._sums: dict[str, list[Tensor | None]] = {}
        self.weights: dict[str, float] = {}
        """Weight by term, once a micro-batch was seen; empty if no term is a part of the loss."""

    def add(self, loss: Tensor, values: Mapping[str, Tensor], share: float) -> None:
        """Differentiate the terms of one micro-batch, whose share of the step is `share`. Keeps the graph."""
        if not self._sums:
            self._learn(loss, values, share)
        whole = loss / share
        rest = whole - sum(self.weights[term] * values[term] for term in self.weights if term != REST)
        for term, sums in self._sums.items():
            value = rest if term == REST else values[term]
            found = torch.autograd.grad(value * share, self._parameters, retain_graph=True, allow_unused=True)
            for at, gradient in enumerate(found):
                earlier = sums[at]
                if gradient is not None:
                    sums[at] = gradient if earlier is None else earlier + gradient

    def _learn(self, loss: Tensor, values: Mapping[str, Tensor], share: float) -> None:
        candidates = {term: value for term, value in values.items() if value.requires_grad and term != REST}
        derivatives = torch.autograd.grad(loss, list(candidates.values()), retain_graph=True, allow_unused=True)
        for term, derivative in zip(candidates, derivatives, strict=True):
            if derivative is not None and float(derivative):
                self.weights[term] = float(derivative) / share
        total = float(loss.detach()) / share
        known = sum(weight * float(values[term].detach()) for term, weight in self.weights.items())
        if self.weights and abs(total - known) > REST_SHARE * abs(total):
            self.weights[REST] = 1.0
        self._sums = {term: [None] * len(self._parameters) for term in self.weights}

    def gram(self) -> Tensor:
        """Return the inner products of the terms' weighted gradients: float32 [N * N], row by row."""
        weights = torch.tensor(list(self.weights.values()), device=self._parameters[0].device)
        size = len(weights)
        gram = torch.zeros(size, size, device=weights.device)
        for at, parameter in enumerate(self._parameters):
            rows = [sums[at] for sums in self._sums.values()]
            if any(row is not None for row in rows):
                flat = torch.stack([torch.zeros_like(parameter) if row is None else row for row in rows])
                flat = flat.reshape(size, -1).float()
                gram += flat @ flat.T
        return (gram * weights[:, None] * weights[None, :]).flatten()


class Session:
    """One run: called by an adapter at the start of training, around each step and micro-batch, and at the end."""

    def __init__(self, plan: RunPlan, device: torch.device, channel: Channel, trainer: Trainer) -> None:
        self._plan, self._device, self._channel, self._trainer = plan, device, channel, trainer
        self._stage: Stage = plan.stages[0]
        self._schedule = schedules.named(self._stage.lr_schedule, self._stage.warmup_steps, self._stage.max_steps)
        self._deferred = DeferredMetrics(device)
        self._memory = PeakMemory(device)
        self._utilization = Utilization(utilization_reader(device))
        self._sizes = SizeCounter(plan)
        self._first_batches = FirstBatches(_Rerun(trainer), plan)
        self._rows_per_sample = 1
        self._in_step = ExitStack()
        self._rates_differ = False
        self.step = 0
        """Steps made, and the number of the one that is being made."""
        self._is_attached = False
        self.aborted = False
        """Whether a command stopped the run."""
        self._skipped = 0
        """Steps in which a loss scaler skipped the optimizer: a trainer's scheduler waits for it."""
        self.terms: tuple[str, ...] = ()
        """Named loss terms of a micro-batch."""
        self.term_problem = ""
        """Why the terms cannot be differentiated one by one, as a clause."""
        self._train_seconds = 0.0
        self._flushed_at = self._step_started = time.perf_counter()
        self._not_checked: dict[str, str] = {}
        self._weights_of_terms: dict[str, float] = {}
        self._last_gradients: list[tuple[Tensor, Tensor | None]] = []
        self._probe: list[Any] = []
        self._begin_micro_batches()

    def _begin_micro_batches(self) -> None:
        self._batches: list[Any] = []
        self._counts: list[int | str] = []
        self._losses: list[Tensor] = []
        self._terms: dict[str, list[Tensor]] = {}
        self._logged: dict[str, float] = {}
        self._norm: Tensor | None = None
        self._term_probe: TermProbe | None = None

    # the run

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer, peaks: Sequence[float]) -> None:
        """Attach to a model and the optimizer that trains it, right before the first step.

        `peaks`: the peak learning rate of each parameter group. Raises TaskError.
        """
        if not any(p.requires_grad for p in model.parameters()):
            raise TaskError("the model has no parameter that requires a gradient: there is nothing to train")
        self._is_attached = True
        self._stepper = _Stepper(self._plan, self._device, model, optimizer, self._trainer)
        self._rates = LearningRates(optimizer, self._stage.learning_rate, peaks)
        self._weights = WeightHistory(model)
        self._modes: ModeWatch | None = None
        self._frames_before = compiled_frames()
        self._movement = Movement(self._stepper, self._weights)
        self._before = snapshot(model)
        self._loss_watch = LossWatch(self._stepper, _Rerun(self._trainer), self._plan.root)

    def start(self, *, not_checked: Mapping[str, str]) -> None:
        """Report the start of the run, and what is measured before its first step."""
        model = self._stepper.model
        self._send([started(model, self._device)])
        if (shared := shared_storage(model)) is not None:
            self._send([shared])
        self.not_checked(dict(not_checked))
        if self._plan.world_size > 1:
            why = "the trainer's one data loader draws the samples of all ranks, so they cannot be told apart"
            self.not_checked({"ranks": why})
        if self._plan.overfit:
            self.not_checked({"overfit": "one repeated batch is trained only with a task"})
        with self._memory.excluded():
            self._rows_per_sample = self._trainer.samples.rows_per_sample()
            self._make_probe_batch()
            if self._plan.has_other_batch_size or self._plan.accumulates:
                rerun = _Rerun(self._trainer)
                self._send([compare_batch_sizes(self._plan, rerun, self._stepper, self._stage, 0)])
        self._weights.save(0)
        self._utilization.__enter__()

    def not_checked(self, reasons: dict[str, str]) -> None:
        """Report checks that the trainer gives no data for, each once, with a clause why."""
        new = {check: why for check, why in reasons.items() if check not in self._not_checked}
        self._not_checked |= new
        if new:
            self._send([NotChecked(reasons=new)])

    def _make_probe_batch(self) -> None:
        """Collate the probe batch from samples of the training data."""
        samples, size = self._trainer.samples, self._plan.batch_size
        if samples.problem:
            return
        drawn = samples.batches(size, seed=self._plan.seed + PROBE_SEED_OFFSET)
        with isolated_eval(self._stepper.model, self._device), contextlib.suppress(Exception):
            self._probe = [next(drawn) for _ in range(-(-PROBE_SAMPLES // size))]

    # a step

    def begin_step(self) -> None:
        """Score and keep what is due before a step."""
        step, stage = self.step, self._stage
        self._channel.begin(step)
        every = probe_every_steps(stage)
        if step and step % every == 0:
            self._weights.save(step)
            if window := self._movement.at_copy():
                self._put(window)
        if self._probe and (step % every == 0 or step == stage.end - 1):
            self._score_probe_batch()
        if step == 0:
            self.evaluate_initially()
        elif (interval := self._plan.evaluate_every_steps) and step % interval == 0:
            self.evaluate(step)
        self._begin_micro_batches()
        if self._modes is None:
            self._modes = ModeWatch(self._stepper.model)
        self._in_step = ExitStack()
        if step <= 1 or step % every == 0:
            hooks = step > 0 and compiled_frames() == self._frames_before
            self._in_step.enter_context(self._modes.over(hooks=hooks))
        self._watched_mode = step <= 1 or step % every == 0
        every = gradient_probe_every_steps(stage, len(self.terms) + 2)  # as many passes as terms, and one for the rest
        if self.terms and not self.term_problem and step % every == 0:
            self._term_probe = TermProbe(self._stepper.parameters)
        self._step_started = time.perf_counter()

    @property
    def probes_terms(self) -> bool:
        """Whether the terms of this step's micro-batches are differentiated one by one."""
        return self._term_probe is not None

    def on_backward(self, loss: Tensor, values: Mapping[str, Tensor], share: float) -> None:
        """Differentiate the terms of a micro-batch, right before its backward pass."""
        if self._term_probe is None:
            return
        problem = ""
        try:
            self._term_probe.add(loss, values, share)
            self._weights_of_terms = self._term_probe.weights
            if len(self._weights_of_terms) < 2:
                problem = self._too_few_terms(values)
        except Exception as error:  # a term that is missing here, a reentrant checkpoint
            problem = f"the loss terms cannot be differentiated one by one: {type(error).__name__}"
        if problem:
            self._term_probe, self.term_problem = None, problem
            self.not_checked({"grad-ratio": problem})

    def _too_few_terms(self, values: Mapping[str, Tensor]) -> str:
        """Return why there are no two terms whose gradients can be compared, as a clause."""
        if constant := [term for term, value in values.items() if not value.requires_grad]:
            have = "have" if len(constant) > 1 else "has"
            return f"{listed(constant)} {have} no gradient, so there are no two terms to compare (log without detach())"
        if self._weights_of_terms:
            return f"{listed(self._weights_of_terms)} is the whole loss, so there is no other term to compare with"
        return "no named loss is a part of the loss with a gradient of its own"

    def on_micro_batch(
        self, batch: Any, loss: Tensor, terms: Mapping[str, Tensor], *, trained_samples: int | None = None
    ) -> None:
        """Take in a micro-batch that was trained on, its part of the step's loss, and its named terms.

        `trained_samples`: samples that the loss was computed on, if the adapter has seen that.
        """
        samples = samples_of(batch, self._plan.batch_size, self._rows_per_sample)
        if trained_samples is not None and isinstance(samples, int):
            samples = min(samples, trained_samples)
        self._batches.append(batch)
        self._counts.append(samples)
        self._losses.append(loss.detach())
        for name, value in terms.items():
            self._terms.setdefault(name, []).append(value.detach())

    def samples_of(self, batch: Any) -> int | None:
        """Return the number of samples in a batch; None if it cannot be told."""
        samples = samples_of(batch, self._plan.batch_size, self._rows_per_sample)
        return samples if isinstance(samples, int) else None

    def on_logged(self, values: Mapping[str, float]) -> None:
        """Take in losses that the trainer logged during this step."""
        self._logged |= values

    def on_gradient_norm(self, norm: Tensor) -> None:
        """Take in the norm of the whole gradient before clipping."""
        self._norm = norm.detach()

    def watch_rates(self) -> None:
        """Start to read the learning rates of the update that follows."""
        self._rates.expect(self._schedule(max(0, self.step - self._skipped)))
        self._rates.watch()

    def before_update(self) -> None:
        """Measure the gradient right before the update, if the adapter has not told its norm."""
        if self._norm is None:
            gradients = [p.grad for p in self._stepper.parameters if p.grad is not None]
            self._norm = nn.utils.get_total_norm(gradients)
        if self.step == self._stage.end - 1:
            self._last_gradients = [(p, p.grad) for p in self._stepper.parameters]
        self._stepper.steps_without_grad += not torch.is_grad_enabled()

    def after_update(self, *, skipped: bool = False) -> None:
        """Read the learning rates again. `skipped`: a loss scaler skipped the update, and the schedule waits."""
        self._rates.unwatch()
        self._stepper.steps_called += self._rates.stepped
        self._skipped += skipped

    def without_update(self) -> None:
        """End a step in which a loss scaler skipped the optimizer, but the schedule continues."""
        self._rates.cancel()

    def end_step(self) -> bool:
        """Report a step; return whether training has to stop. Raises TaskError if nothing was seen of it."""
        self._in_step.close()
        step, stage = self.step, self._stage
        if not self._losses:
            raise TaskError(OWN_LOOP)
        if self._norm is None:
            raise TaskError("the trainer made a step without calling its optimizer")
        self._train_seconds += time.perf_counter() - self._step_started
        if self._watched_mode and self._modes is not None and (mode := self._modes.event(step, stage.name)) is not None:
            self._put(mode)
        self._loss_watch.keep(step, self._batches)
        terms = {name: len(values) for name, values in self._terms.items()}
        rates = self._rates.used()
        parts = [*self._losses, *(value for values in self._terms.values() for value in values), self._norm]
        row = torch.stack([self._scalar(part) for part in (*parts, *rates.on_device)])
        self._deferred.put(partial(self._step_event, step, len(self._losses), terms, dict(self._logged), rates), row)
        if rates.on_device:
            self._deferred.put(partial(self._rate_event, step, rates), row[-len(rates.on_device) :])
        elif difference := self._rate_event(step, rates, []):
            self._put(difference)
        if (step + 1) % CHUNK_STEPS == 0 or step == stage.end - 1:
            norm = nn.utils.get_total_norm([p.detach() for p in self._stepper.parameters]).view(1)
            self._deferred.put(lambda values: ParameterNorm(step, values[0]), norm)
        if (probe := self._term_probe) is not None and probe.weights:
            make = partial(gradients_event, step, tuple(probe.weights), tuple(probe.weights.values()))
            self._deferred.put(make, probe.gram())
        if problem := next((size for size in self._counts if isinstance(size, str)), ""):
            self.not_checked({"batch-drawn": f"the samples in a batch cannot be counted: {problem}"})
        elif (sizes := self._sizes.add_sizes(step, self._counts)) is not None:
            self._put(sizes)
        for event in self._first_batches.add(step, self._batches, ("loss",)):
            self._put(event)
        self.step += 1
        self._begin_micro_batches()
        now = time.perf_counter()
        if step == 0 or now - self._flushed_at >= CHUNK_SECONDS or self.step % CHUNK_STEPS == 0:
            self._flushed_at = now
            self._report()
            if isinstance(self._channel.poll(), Abort):
                self._report(wait=True)
                self.aborted = True
                return True
        return self.step >= self._plan.run_steps

    # evaluation

    def _score_probe_batch(self) -> None:
        step = self.step
        if self._device.type != "cpu":
            self._channel.send([activity(self._device)])
        with isolated_eval(self._stepper.model, self._device):
            losses = [self._trainer.score(batch) for batch in self._probe]
        found = [loss.detach().float().mean() for loss in losses if loss is not None]
        if len(found) < len(losses):
            self._probe = []
            return
        mean = torch.stack(found).mean().view(1)
        self._deferred.put(lambda values: ProbeLoss(step, values[0]), mean)

    def evaluate_initially(self) -> None:
        """Report the trainer's metrics before the first step, and the names of its loss terms. Raises TaskError."""
        values = self._metrics() if self._plan.evaluates else None
        self._send([InitialMetrics(values=values or {}, terms=self.terms, evaluates=values is not None)])

    def evaluate(self, step: int) -> None:
        """Report the trainer's metrics before `step`. Raises TaskError."""
        if self._plan.evaluates and (values := self._metrics()) is not None:
            self._send([*self._deferred.flush(wait=True), Metrics(step, values)])

    def _metrics(self) -> dict[str, float] | None:
        self._channel.send([activity(self._device, "evaluating")])
        with isolated_eval(self._stepper.model, self._device):
            values = self._trainer.evaluate()
        taken = sorted((values or {}).keys() & {*SERIES, *self.terms})
        if taken:
            raise TaskError(
                f"the trainer's evaluation returned {listed(taken)}: the smoke run records its own series under these "
                "names; rename the metrics"
            )
        return values

    # the end

    def finish(self) -> None:
        """Report the end of training. Raises TaskError if the trainer has stopped by itself."""
        if not self._is_attached:
            raise TaskError(OWN_LOOP)
        self._utilization.__exit__(None, None, None)
        if not self.aborted and self.step < self._plan.run_steps:
            self._report(wait=True)
            made = count(self.step, "step")
            raise TaskError(
                f"the trainer stopped by itself after {made} of {self._plan.run_steps:,}: look for a callback that "
                "stops training, and for training data that end"
            )
        if not self.aborted:
            self._report(wait=True)
            self.evaluate(self.step)
            window = self._movement.at_end(self._stage.end)
            stopped = self._movement.stopped(self._stage)
            for parameter, gradient in self._last_gradients:
                parameter.grad = gradient  # trainers clear them after the update
            changes = compare(self._before, self._stepper.model, self._stepper.optimizer, stopped=stopped)
            self._send([*([window] if window else []), changes])
        self._send([ended(self.step, self._train_seconds, self._memory, self._utilization)])
        if not self.aborted:
            self._channel.wait()

    def fail(self) -> None:
        """Report the figures that are still on the device, before an exception is raised."""
        self._in_step.close()
        with contextlib.suppress(Exception):  # after a device error nothing can be copied
            self._send(self._deferred.flush(wait=True))

    # reports

    def _send(self, events: Sequence[Event]) -> None:
        self._loss_watch.see(events)
        self._channel.send(list(events))

    def _report(self, *, wait: bool = False) -> None:
        self._send(self._deferred.flush(wait=wait))
        if found := self._loss_watch.diagnose(self._weights, self._probe):
            self._send(found)

    def _put(self, event: Event) -> None:
        """Report an event that needs no copy from the device, but has to follow the steps before it."""
        self._deferred.put(lambda _: event, torch.empty(0, device=self._device))

    def _scalar(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor as float32 on the run's device."""
        if value.ndim:
            value = value.float().mean()
        return (
            value if value.dtype == torch.float32 and value.device == self._device else value.to(self._device).float()
        )

    def _step_event(
        self,
        step: int,
        losses: int,
        term_values: Mapping[str, int],
        logged: Mapping[str, float],
        rates: UsedRates,
        values: Sequence[float],
    ) -> Step:
        """Make the event of a step from its losses, the values of each term, the norm and the rates, in this order."""
        loss, at = sum(values[:losses]), losses
        terms = {}
        for name, amount in term_values.items():
            terms[name] = sum(values[at : at + amount]) / amount
            at += amount
        weights = self._weights_of_terms
        if REST in weights and weights.keys() - {REST} <= terms.keys():
            terms[REST] = loss - sum(weights[term] * terms[term] for term in weights.keys() - {REST})
        return Step(
            step=step,
            loss=loss,
            terms={**terms, **logged},
            grad_norm=values[at],
            lr=rates.lr(rates.with_values(values[at + 1 :])),
        )

    def _rate_event(self, step: int, rates: UsedRates, values: Sequence[float]) -> LearningRateDiffers | None:
        if self._rates_differ:
            return None
        event = rates.difference(rates.with_values(values), step=step, stage="")
        self._rates_differ = event is not None
        return event


def named_losses(outputs: Any) -> dict[str, Tensor]:
    """Return the scalar tensors of a mapping that are named as losses, but for `loss` itself.

    A name that ends in `loss` is one, and so is any scalar that has a gradient.
    """
    if not isinstance(outputs, Mapping):
        return {}
    found = {}
    for name, value in outputs.items():
        is_scalar = isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()
        if name != "loss" and is_scalar and (str(name).lower().endswith("loss") or value.requires_grad):
            found[str(name)] = value
    return found


def logged_losses(logs: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that a trainer logged under a name that ends in `loss`, but for its own total."""
    return {
        str(name): float(value)
        for name, value in logs.items()
        if isinstance(value, int | float)
        and str(name).lower().endswith("loss")
        and str(name) not in ("loss", "train_loss")
        and not str(name).startswith("eval_")
    }


Wrapped = Callable[..., Any]


@contextlib.contextmanager
def replaced(owner: Any, name: str, make: Callable[[Wrapped], Wrapped]) -> Iterator[None]:
    """Replace a method of one object by `make(method)`, and remove the replacement on exit.

    The replacement shows the signature of the method, by which trainers choose the arguments.
    """
    original = getattr(owner, name)
    setattr(owner, name, update_wrapper(make(original), original))
    try:
        yield
    finally:
        with contextlib.suppress(AttributeError):
            delattr(owner, name)
