"""Evaluate metrics and the probe batch during training, and the gradient of each loss term after a failure."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pytest_smoke.errors import TaskError
from pytest_smoke.events import SERIES, Abort, InitialMetrics, Metrics, PredictionsFailed, ProbeLoss
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.task import Task
from pytest_smoke.text import listed
from pytest_smoke.train.batch_equivalence import compare_batch_sizes
from pytest_smoke.train.channel import Send
from pytest_smoke.train.checkpoints.in_memory import WeightHistory
from pytest_smoke.train.checkpoints.manager import CheckpointManager
from pytest_smoke.train.crash import crash_of
from pytest_smoke.train.data import BatchStream
from pytest_smoke.train.deferred_metrics import DeferredMetrics
from pytest_smoke.train.device import isolated_eval, seed_all, to_device
from pytest_smoke.train.gradients import gradients_event
from pytest_smoke.train.hooks import hook_of
from pytest_smoke.train.machine import PeakMemory, activity
from pytest_smoke.train.model_mode import ModeWatch, compiled_frames
from pytest_smoke.train.movement import Movement
from pytest_smoke.train.plan import RunPlan, probe_every_steps
from pytest_smoke.train.predictions import write_predictions
from pytest_smoke.train.rehearsal import overfit_one_batch, try_largest_batch
from pytest_smoke.train.step import Stepper
from pytest_smoke.train.task import metrics_of, probe_batches_of

ANNOUNCE_SECONDS = 1.0
"""Time between two reports of what the process does."""
POSTMORTEM_SEED_OFFSET = 2_000_003
"""Added to the seed of the batches on which the last good weights are probed."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What is made at the start of each stage and phase, because the model and its loss may change there."""

    probe_batches: list[Any]
    """The probe batch as the task yielded it, for its `counts`."""
    probe_on_device: list[Any]
    """The same on the device."""
    weights: WeightHistory
    """Recent weights, all of the same structure."""
    modes: ModeWatch
    """Watches in which mode the model trains."""
    movement: Movement
    """Which parameters moved between two of these copies."""


class Instrumentation:
    """Evaluates the model of `stepper` without any effect on its training."""

    def __init__(
        self,
        plan: RunPlan,
        task: Task,
        stepper: Stepper,
        memory: PeakMemory,
        send: Send,
        deferred: DeferredMetrics,
        announce: Send,
    ) -> None:
        """`announce` reports what the process does now, past the journal of events."""
        self._announce, self._announced_at = announce, 0.0
        self._plan, self._task, self._stepper, self._device = plan, task, stepper, stepper.device
        self._memory, self._send, self._deferred = memory, send, deferred
        self._has_compiled = False
        """Whether torch compiled code in a step of this run."""

    def on_phase_start(self) -> Phase:
        """Make the probe batch and the history of weights of a stage or phase that starts."""
        batches = probe_batches_of(self._task, self._plan.batch_size, seed=self._plan.seed)
        weights = WeightHistory(self._stepper.model)
        return Phase(
            batches,
            to_device(batches, self._device),
            weights,
            ModeWatch(self._stepper.model),
            Movement(self._stepper, weights),
        )

    def keep_weights(self, stage: Stage, phase: Phase, step: int) -> None:
        """Keep the weights before `step` if it is time, and report whether they changed since the copy before.

        Not at the start of a stage or phase, whose copies are of a new history.
        """
        if (step - stage.first_step) % probe_every_steps(stage) or stage.starts_at(step):
            return
        phase.weights.save(step)
        if window := phase.movement.at_copy():
            # After the steps before it, and in a resumed run as in an uninterrupted one.
            self._deferred.put(lambda _: window, torch.empty(0, device=self._device))

    def before_step(self, stage: Stage, phase: Phase, step: int) -> None:
        """Score the probe batch and evaluate metrics before `step`, each at its own interval.

        Before the first step, the largest batch is tried and the metrics are evaluated. At the start of a stage or
        phase the smoke run's micro-batches are compared with the full run's, or with their halves.
        """
        starts, offset = stage.starts_at(step), step - stage.first_step
        if step == 0:
            self._tell("trying the largest batch")
            with self._memory.excluded():
                largest = try_largest_batch(self._plan, self._task, self._stepper)
            self._send([] if largest is None else [largest])
        if starts and (self._plan.has_other_batch_size or self._plan.accumulates):
            self._tell("comparing batch sizes")
            with self._memory.excluded():
                event = compare_batch_sizes(self._plan, self._task, self._stepper, stage, step)
            self._send([event])
        if starts:
            phase.weights.save(step)
        if offset % probe_every_steps(stage) == 0 or step == stage.end - 1:
            self._score_probe_batch(phase, step)
        if step == 0:
            self.evaluate_initially()
        every = self._plan.evaluate_every_steps
        if every and offset and offset % every == 0:
            self.evaluate(step)

    @contextlib.contextmanager
    def during_step(self, stage: Stage, phase: Phase, step: int) -> Iterator[None]:
        """Watch in which mode the model trains in the first two steps of a phase and when the probe batch is scored."""
        starts, offset, frames = stage.starts_at(step), step - stage.first_step, compiled_frames()
        is_watched = starts or offset == 1 or offset % probe_every_steps(stage) == 0
        with phase.modes.over(hooks=not starts and not self._has_compiled) if is_watched else contextlib.nullcontext():
            yield
        self._has_compiled = self._has_compiled or compiled_frames() > frames
        if not is_watched:
            return
        event = phase.modes.event(step, stage.name)
        if event is not None:
            self._deferred.put(lambda _: event, torch.empty(0, device=self._device))

    def _tell(self, doing: str) -> None:
        """Report what comes next and may take long; more often than once a second, nobody could read it."""
        now = time.monotonic()
        if now - self._announced_at >= ANNOUNCE_SECONDS:
            self._announced_at = now
            self._announce([activity(self._device, doing)])

    def _score_probe_batch(self, phase: Phase, step: int) -> None:
        if self._device.type != "cpu":
            self._announce([activity(self._device)])
        with isolated_eval(self._stepper.model, self._device):
            means = self._stepper.score(phase.probe_on_device, counted=phase.probe_batches)
        self._deferred.put(lambda values: ProbeLoss(step, self._stepper.weighted_sum(values)), means)

    def evaluate_initially(self) -> None:
        """Report the metrics of the untrained model: what is wrong with `evaluate` then shows before the first step.

        Raises TaskError.
        """
        values, terms = self._metrics(), tuple(self._stepper.seen_terms)
        self._send([InitialMetrics(values=values or {}, terms=terms, evaluates=values is not None)])

    def evaluate(self, step: int) -> dict[str, float] | None:
        """Report and return the task's metrics before `step`; None if it has no `evaluate`. Raises TaskError."""
        values = self._metrics()
        if values is not None:
            self._send([*self._deferred.flush(wait=True), Metrics(step, values)])
        return values

    def _metrics(self) -> dict[str, float] | None:
        evaluate = hook_of(self._task, "evaluate")
        if evaluate is None:
            return None
        self._tell("evaluating")
        with isolated_eval(self._stepper.model, self._device):
            values = metrics_of(evaluate(self._stepper.model))
        taken = sorted(values.keys() & {*SERIES, *self._stepper.seen_terms})
        if taken:
            raise TaskError(
                f"evaluate(model) returned {listed(taken)}: the smoke run records its own series under these names; "
                "rename the metrics"
            )
        return values

    def overfit(self, step: int) -> None:
        """Report how the loss of one repeated batch falls, after `step` steps."""
        self._tell("overfitting one batch")
        with self._memory.excluded():
            event = overfit_one_batch(self._plan, self._task, self._stepper, step)
        self._send([event])

    def predict(self, path: Path | None) -> None:
        """Write the task's predictions, if it makes any. They decide nothing, so an exception is only reported.

        `path`: None in a process that only takes part in the forward passes of a sharded model.
        """
        self._tell("writing predictions")
        try:
            with isolated_eval(self._stepper.model, self._device):
                is_sharded = self._stepper.sharding is not None
                write_predictions(self._task, self._stepper.model, path, makes_all_rows=is_sharded)
        except Exception as error:
            crash = crash_of(error, self._plan.root)
            self._send([PredictionsFailed(f"{crash.text} at {crash.place}" if crash.place else crash.text)])

    def postmortem_probe(
        self, abort: Abort, phase: Phase, batches: BatchStream, checkpoints: CheckpointManager
    ) -> None:
        """Restore the last good weights, save them, and report a gradient probe on them."""
        terms = self._stepper.terms
        if abort.last_good_step is None:  # the weights are not saved: the number of steps made depends on timing
            checkpoints.discard()
            return
        if len(terms) < 2 and not checkpoints.enabled:
            return
        step = phase.weights.restore(abort.last_good_step)
        self._send(checkpoints.save_last_good(step))
        if len(terms) < 2:
            return
        seed_all(self._plan.seed)  # so that the number of steps made before the command has no effect
        batches.restart(self._plan.seed + POSTMORTEM_SEED_OFFSET)
        gradients, _ = self._stepper.differentiate(batches.draw())
        make = partial(gradients_event, step, terms, self._stepper.weights, postmortem=True)
        self._deferred.put(make, self._stepper.gram(gradients))
        self._send(self._deferred.flush(wait=True))
