"""The training loop of a smoke run. It replaces the user's own, so that schedule and accumulation are known exactly."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pytest_smoke import schedules
from pytest_smoke.events import (
    Abort,
    Command,
    Continue,
    Ended,
    Event,
    LearningRateDiffers,
    ParameterNorm,
    StageEnded,
    Step,
)
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.task import Task
from pytest_smoke.train.batch_sizes import BatchSizeCounter
from pytest_smoke.train.channel import CHUNK_SECONDS, CHUNK_STEPS, Channel
from pytest_smoke.train.checkpoints.io import StateFile
from pytest_smoke.train.checkpoints.manager import CheckpointManager
from pytest_smoke.train.data import BatchStream, SourceCounter
from pytest_smoke.train.deferred_metrics import DeferredMetrics
from pytest_smoke.train.device import set_generator_states
from pytest_smoke.train.drawn_items import ItemCounter
from pytest_smoke.train.export.pipeline import Evaluate, check_needs, run_pipeline
from pytest_smoke.train.first_batches import FirstBatches
from pytest_smoke.train.gradients import gradients_event
from pytest_smoke.train.instrumentation import Instrumentation, Phase
from pytest_smoke.train.learning_rates import UsedRates
from pytest_smoke.train.machine import PeakMemory, Utilization, ended, started, utilization_reader
from pytest_smoke.train.nonfinite import LossWatch
from pytest_smoke.train.out_of_range import explain
from pytest_smoke.train.plan import RunPlan, gradient_probe_every_steps
from pytest_smoke.train.ranks import Ranks, is_first
from pytest_smoke.train.step import Stepper
from pytest_smoke.train.updates import Snapshot, compare, snapshot

ALIVE_SECONDS = 1.0
"""Time between two signs of life while a resumed run draws the batches of earlier steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStart:
    """A stage that was started, and what was known then."""

    stage: Stage
    schedule: schedules.Schedule
    """Multiplier of the peak learning rate by step of the stage."""
    before: Snapshot
    """Parameters before its first step."""
    seconds_before: float
    """Wall time of the steps of earlier stages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where training starts or continues."""

    step: int
    start: StageStart
    phase: Phase | None
    """None if a stage or phase starts at `step`."""


class Loop:
    """Runs `plan` with `task` on `device`: reports events to `channel` and follows its commands."""

    def __init__(
        self,
        plan: RunPlan,
        task: Task,
        device: torch.device,
        channel: Channel,
        ranks: Ranks | None = None,
        data_files: Mapping[str, Any] | None = None,
    ) -> None:
        """`ranks`: the processes of the run, all of which run this loop; None for one process.

        `data_files`: as for `CheckpointManager`.
        """
        self._plan, self._task, self._device, self._channel = plan, task, device, channel
        self._ranks, self._is_first = ranks, is_first(ranks)
        self._stepper = Stepper(plan, task, device, ranks)
        if plan.pipeline is not None:
            check_needs(task, self._stepper.model, device)
        self._checkpoints = CheckpointManager(plan, task, self._stepper, device, channel.send, ranks, data_files)
        self._loss_watch = LossWatch(self._stepper, task, plan.root)
        self._batches = BatchStream(task, plan, seed=plan.seed)
        self._source_counter = SourceCounter(task, plan, ranks)
        self._first_batches = FirstBatches(task, plan)
        self._batch_sizes = BatchSizeCounter(task, plan, self._stepper)
        self._items = ItemCounter(task, plan, self._stepper)
        self._deferred = DeferredMetrics(device, ranks.across if ranks is not None else None)
        self._memory = PeakMemory(device)
        self._instrumentation = Instrumentation(
            plan, task, self._stepper, self._memory, self._send, self._deferred, announce=self._checkpoints.replay
        )
        self._utilization = Utilization(utilization_reader(device))
        self._rates_differ: set[str] = set()
        """Stages in which a difference from the schedule was reported."""
        self._train_seconds = 0.0
        """Wall time of the steps so far, without probes and evaluations."""
        self._started_at = time.perf_counter()
        """Start of the run; for a resumed one, as if the earlier processes had run without a pause."""

    def _send(self, events: list[Event]) -> None:
        self._loss_watch.see(events)
        self._checkpoints.send(events)

    def run(self) -> None:
        """Train and report until the last step, or until a command ends the run.

        Before an exception is raised, the figures that are still on the device are reported, and the label or id that
        caused it is searched.
        """
        try:
            with self._utilization:
                self._run()
        except BaseException as error:
            if isinstance(error, Exception):
                explain(error, self._stepper, self._task, self._loss_watch.unreported)
            if self._ranks is not None:
                raise  # the other processes would have to report with this one
            with contextlib.suppress(Exception):  # after a device error nothing can be copied
                self._send(self._deferred.flush(wait=True))
            raise

    def _run(self) -> None:
        start = self._start_stage(self._plan.stages[0])
        self._send([started(self._stepper.model, self._device)])
        for event in (self._stepper.shared_storage, self._stepper.not_sharded):
            if event is not None:
                self._send([event])
        state = self._checkpoints.latest()
        position = Position(step=0, start=start, phase=None) if state is None else self._resume(state, start)
        if position is None:
            return
        start, phase = position.start, position.phase
        for stage in self._plan.stages:
            if stage.end <= position.step:
                continue
            if stage != start.stage:
                start = self._start_stage(stage)
            phase = self._train(start, phase, max(stage.first_step, position.step))
            if phase is None:
                return
            if self._checkpoints.is_resume_run:
                self._send([*self._deferred.flush(wait=True), self._ended(self._checkpoints.end_step)])
                return
            if stage.end < self._plan.run_steps and not self._should_continue(start, phase):
                return
        assert phase is not None, "the last stage has at least one step"
        self._finish(start, phase)

    def _resume(self, state: StateFile, start: StageStart) -> Position | None:
        """Load a checkpoint, report earlier events again and restore the rest; None if a command ends the run.

        `start` is that of the first stage.
        """
        training = self._checkpoints.training_of(state)
        start, phase = self._fast_forward(state.step, training["loaders"], start)
        loaded = self._checkpoints.load(state, training)
        command = self._replay(loaded.events)
        self._send([loaded.resumed])
        if not isinstance(command, Continue):  # the criteria of an earlier stage were changed, for example
            self._checkpoints.discard()
            self._send([self._ended(state.step)])
            return None
        self._train_seconds = training["train_seconds"]
        self._started_at -= training["wall_seconds"]
        self._source_counter.load_state_dict(training["source_counter"])
        self._first_batches.load_state_dict(training["first_batches"])
        self._batch_sizes.load_state_dict(training["batch_sizes"])
        self._items.load_state_dict(training["items"])
        set_generator_states(training["generators"], self._device)
        if phase is not None and training["movement"] is not None:
            phase.movement.load_state_dict(training["movement"])
        before = Snapshot(**training["before"])
        start = replace(start, before=before, seconds_before=training["seconds_before"])
        return Position(step=state.step, start=start, phase=phase)

    def _replay(self, events: Sequence[Event]) -> Command:
        """Report events of earlier processes again, and ask for a command at the end of each stage, as they did.

        Returns the first command that is not to continue, else Continue. The events are in the journal already, so they
        go straight to the pytest process.
        """
        pending: list[Event] = []
        for event in events:
            pending.append(event)
            if isinstance(event, StageEnded):
                self._checkpoints.replay(pending)
                pending = []
                command = self._channel.wait()
                if not isinstance(command, Continue):
                    return command
        self._checkpoints.replay(pending)
        return Continue()

    def _fast_forward(
        self, step: int, loader_states: Sequence[Any] | None, start: StageStart
    ) -> tuple[StageStart, Phase | None]:
        """Start every stage and phase before `step` and draw their batches, as a run does, but make no step.

        With `loader_states` the batches are not drawn: the loaders continue from their states.
        """
        phase: Phase | None = None
        alive_at = time.perf_counter()
        for stage in self._plan.stages:
            if stage.first_step > step:
                break
            if stage != start.stage:
                start, phase = self._start_stage(stage), None
            for earlier in range(stage.first_step, min(stage.end, step)):
                if stage.starts_at(earlier):
                    phase, _ = self._start_phase(stage, earlier)
                elif loader_states is None:
                    self._batches.draw()
                if time.perf_counter() - alive_at >= ALIVE_SECONDS:
                    alive_at = time.perf_counter()
                    self._send([])
        if loader_states is not None:
            self._batches.restart(self._plan.seed, states=loader_states)
        return start, phase

    def _progress(self, start: StageStart, phase: Phase | None) -> dict[str, Any]:
        """Return the loop's own state for a checkpoint."""
        return {
            "train_seconds": self._train_seconds,
            "seconds_before": start.seconds_before,
            "wall_seconds": time.perf_counter() - self._started_at,
            "before": {"trainable": start.before.trainable, "frozen": start.before.frozen},
            "source_counter": self._source_counter.state_dict(),
            "first_batches": self._first_batches.state_dict(),
            "batch_sizes": self._batch_sizes.state_dict(),
            "items": self._items.state_dict(),
            "movement": phase.movement.state_dict() if phase is not None else None,
        }

    def _start_stage(self, stage: Stage) -> StageStart:
        if stage.first_step:  # the stepper starts the first stage when it makes the model
            self._stepper.start_stage(stage)
            self._batch_sizes.start_stage(stage)
        return StageStart(
            stage=stage,
            schedule=schedules.named(stage.lr_schedule, stage.warmup_steps, stage.max_steps),
            before=snapshot(self._stepper.model, frozen=stage.train is not None),
            seconds_before=self._train_seconds,
        )

    def _train(self, start: StageStart, phase: Phase | None, first_step: int) -> Phase | None:
        """Make the steps of a stage from `first_step` on; return its last phase, or None if the run was aborted."""
        stage, flushed_at = start.stage, time.perf_counter()
        for step in range(first_step, min(stage.end, self._checkpoints.end_step)):
            self._channel.begin(step)
            if phase is not None:
                self._instrumentation.keep_weights(stage, phase, step)
            if self._checkpoints.should_save(step):
                self._send(self._deferred.flush(wait=True))
                self._checkpoints.save(step, self._batches, self._progress(start, phase))
            batches: list[Any] = []
            if stage.starts_at(step):
                phase, batches = self._start_phase(stage, step)
            assert phase is not None, "a stage starts with a phase, and a resumed run has started its own"
            self._instrumentation.before_step(stage, phase, step)
            step_started = time.perf_counter()
            self._step(start, phase, step, batches or self._batches.draw())
            now = time.perf_counter()
            self._train_seconds += now - step_started
            if self._ends_chunk(step, now - flushed_at):
                flushed_at = now
                if self._is_aborted(phase, step):
                    return None
        return phase

    def _ends_chunk(self, step: int, seconds: float) -> bool:
        """Tell whether to report after `step`, `seconds` after the newest report."""
        if self._ranks is not None:
            return self._ranks.ends_chunk(step)
        return step == 0 or seconds >= CHUNK_SECONDS or (step + 1) % CHUNK_STEPS == 0

    def _start_phase(self, stage: Stage, step: int) -> tuple[Phase, list[Any]]:
        """Start the phase of `stage` that begins at `step`; also return its first micro-batches."""
        if step > stage.first_step:
            self._send(self._deferred.flush(wait=True))  # the figures still pending are of the terms so far
            self._stepper.start_phase(step)
            self._batch_sizes.start_phase()
        phase = self._instrumentation.on_phase_start()
        batches = self._batches.draw()
        self._loss_watch.keep(step, batches)
        self._stepper.learn_terms(batches[0])
        return phase, batches

    def _step(self, start: StageStart, phase: Phase, step: int, batches: list[Any]) -> None:
        stepper, stage, terms = self._stepper, start.stage, self._stepper.terms
        offset = step - stage.first_step
        if digests := self._checkpoints.digests(step, batches):
            self._send(digests)
        self._loss_watch.keep(step, batches)
        multiplier = start.schedule(offset)
        probe = len(terms) > 1 and offset % gradient_probe_every_steps(stage, len(terms)) == 0
        with self._instrumentation.during_step(stage, phase, step):
            row, gram = stepper.update(batches, multiplier, probe=probe)
        rates = stepper.rates.used()
        on_device = rates.on_device
        if on_device:
            row = torch.cat([row, torch.stack(on_device).to(row)])
        self._deferred.put(partial(self._step_event, stage, step, rates), row, partial=len(terms))
        if on_device:
            self._deferred.put(partial(self._rate_event, stage, step, rates), row[-len(on_device) :])
        elif difference := self._rate_event(stage, step, rates, []):
            self._put(difference)
        if (step + 1) % CHUNK_STEPS == 0 or step == stage.end - 1:
            norm = stepper.parameter_norm()
            self._deferred.put(lambda values: ParameterNorm(step, values[0]), norm)
        if gram is not None:
            self._deferred.put(partial(gradients_event, step, terms, stepper.weights), gram)
        counters = (self._source_counter, self._batch_sizes, self._items)
        counted = [counter.add(step, batches) for counter in counters]
        for event in [*self._first_batches.add(step, batches, terms), *counted]:
            if event is not None:
                self._put(event)

    def _put(self, event: Event) -> None:
        """Report an event that needs no copy from the device, but has to follow the steps before it."""
        self._deferred.put(lambda _: event, torch.empty(0, device=self._device))

    def _report(self, phase: Phase, *, wait: bool = False) -> None:
        """Report what is on the host already, with `wait` all there is, and the cause of a loss that is not finite."""
        self._send(self._deferred.flush(wait=wait))
        if found := self._loss_watch.diagnose(phase.weights, phase.probe_batches):
            self._send(found)

    def _is_aborted(self, phase: Phase, step: int) -> bool:
        """Report what is on the host already; if the run is aborted, probe the last good weights and end it."""
        self._report(phase)
        command = self._channel.poll()
        if not isinstance(command, Abort):
            return False
        self._report(phase, wait=True)
        self._postmortem_probe(command, phase)
        self._send([self._ended(step + 1)])
        return True

    def _should_continue(self, start: StageStart, phase: Phase) -> bool:
        """Report the end of a stage that is not the last, and wait for a command; end the run if it says so."""
        last = start.stage.end - 1
        self._end_stage(start, phase, last)
        command = self._channel.wait()
        if isinstance(command, Continue):
            return True
        if isinstance(command, Abort):
            self._postmortem_probe(command, phase)
        else:
            self._save_trained(last + 1)
        self._send([self._ended(last + 1)])
        return False

    def _end_stage(
        self, start: StageStart, phase: Phase, step: int, *, evaluate: bool = True
    ) -> dict[str, float] | None:
        """Report what follows the last step of a stage or run; return its metrics, labelled with `step`."""
        self._report(phase, wait=True)
        metrics = self._instrumentation.evaluate(step) if evaluate else None
        movement = phase.movement
        window = movement.at_end(start.stage.end)
        stopped = movement.stopped(start.stage)
        changes = compare(
            start.before,
            self._stepper.model,
            self._stepper.optimizer,
            stopped=stopped,
            anywhere=self._stepper.parts.anywhere,
        )
        self._send([*([window] if window else []), changes])
        if start.stage.name:
            self._send([StageEnded(start.stage.name, self._train_seconds - start.seconds_before)])
        return metrics

    def _finish(self, start: StageStart, phase: Phase) -> None:
        """Report the end of the run, run the export pipeline, and save the state that the command asks for."""
        plan = self._plan
        steps, has_stages = plan.run_steps, plan.has_named_stages
        # A stage's criteria are judged before the pipeline, so its metrics cannot wait for it.
        pipeline_evaluates = plan.pipeline is not None and not has_stages
        metrics = self._end_stage(start, phase, steps - 1 if has_stages else steps, evaluate=not pipeline_evaluates)
        command: Command | None = None
        if plan.pipeline is not None and (command := self._channel.poll()) is None:
            evaluate: Evaluate = (
                partial(self._instrumentation.evaluate, steps) if pipeline_evaluates else lambda: metrics
            )
            model = self._stepper.whole_model()
            if self._is_first and model is not None:
                run_pipeline(plan, self._task, model, self._send, evaluate)
            else:
                with contextlib.suppress(Exception):  # which the first process reports as that of its pipeline
                    evaluate()
        if plan.predictions is not None and command is None and (self._is_first or self._stepper.sharding is not None):
            self._instrumentation.predict(Path(plan.predictions) if self._is_first else None)
        if plan.overfit and command is None:
            self._instrumentation.overfit(steps)
        self._send([self._ended(steps)])
        command = command or self._channel.wait()
        if isinstance(command, Abort) and command.last_good_step is not None:
            self._postmortem_probe(command, phase)
        else:
            self._save_trained(steps)

    def _postmortem_probe(self, abort: Abort, phase: Phase) -> None:
        self._instrumentation.postmortem_probe(abort, phase, self._batches, self._checkpoints)

    def _save_trained(self, steps: int) -> None:
        progress = {"train_seconds": self._train_seconds}
        self._send(self._checkpoints.save_trained(steps, self._batches, progress))

    def _ended(self, steps: int) -> Ended:
        return ended(steps, self._train_seconds, self._memory, self._utilization)

    def _rate_event(
        self, stage: Stage, step: int, rates: UsedRates, values: Sequence[float]
    ) -> LearningRateDiffers | None:
        """Return the first difference from the schedule in `stage`; `values` are the rates on the device."""
        if stage.name in self._rates_differ:
            return None
        event = rates.difference(rates.with_values(values), step=step, stage=stage.name)
        if event is not None:
            self._rates_differ.add(stage.name)
        return event

    def _step_event(self, stage: Stage, step: int, rates: UsedRates, values: Sequence[float]) -> Step:
        terms = len(self._stepper.terms)
        means, norm, on_device = values[:terms], values[terms], values[terms + 1 :]
        return Step(
            step=step,
            loss=self._stepper.weighted_sum(means),
            terms=dict(zip(self._stepper.terms, means, strict=True)),
            grad_norm=norm,
            lr=rates.lr(rates.with_values(on_device)),
            stage=stage.name,
            phase=stage.phase_at(step),
        )
