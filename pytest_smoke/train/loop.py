"""The training loop of a rehearsal. It is ours, so that schedule, accumulation and records are certain."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pytest_smoke import schedules
from pytest_smoke.events import (
    Abort,
    Continue,
    Ended,
    ParameterNorm,
    StageEnded,
    Step,
)
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.batch_stream import BatchStream
from pytest_smoke.train.channel import Channel
from pytest_smoke.train.checkpoints.manager import CheckpointManager
from pytest_smoke.train.data import SourceCounter
from pytest_smoke.train.deferred_metrics import DeferredMetrics
from pytest_smoke.train.export.pipeline import check_needs, run_pipeline
from pytest_smoke.train.gradients import reading
from pytest_smoke.train.instrumentation import Instrumentation
from pytest_smoke.train.machine import PeakMemory, ended, started
from pytest_smoke.train.plan import RunPlan, ratio_every_steps
from pytest_smoke.train.rng import set_generators
from pytest_smoke.train.step import Stepper
from pytest_smoke.train.task import Task
from pytest_smoke.train.updates import Snapshot, compare, snapshot
from pytest_smoke.train.utilization import Utilization, reader_of

CHUNK_SECONDS = 0.1
"""Records are read back and sent about this often: quick enough to stop a doomed run, rare enough to cost nothing."""
CHUNK_STEPS = 64
"""... and after this many steps at the latest."""


class Loop:
    """One rehearsal of `task`, as `plan` says."""

    def __init__(self, plan: RunPlan, task: Task, device: torch.device, channel: Channel) -> None:
        self._plan, self._task, self._device = plan, task, device
        self._stepper = Stepper(plan, task, device)
        if plan.pipeline is not None:
            check_needs(task, self._stepper.model, device)
        self._checkpoints = CheckpointManager(plan, task, self._stepper, device, channel)
        self._channel = self._checkpoints.channel
        self._feed = BatchStream(task, plan, seed=plan.seed)
        self._source_counter = SourceCounter(task, plan)
        self._deferred = DeferredMetrics(device)
        self._memory = PeakMemory(device)
        self._instrumentation = Instrumentation(plan, task, self._stepper, self._memory, self._channel, self._deferred)
        self._utilization = Utilization(reader_of(device))
        self._train_seconds = 0.0
        self._began = time.perf_counter()
        self._begin(plan.stages[0])

    def run(self) -> None:
        """Train, report, and obey the parent. What was seen is reported before an exception passes through."""
        try:
            with self._utilization:
                self._run()
        except Exception:
            with contextlib.suppress(Exception):  # after a device error nothing can be read back
                self._channel.send(self._deferred.flush(wait=True))
            raise

    def _run(self) -> None:
        self._channel.send([started(self._stepper.model, self._device)])
        self._first = self._go_on()
        if self._first is None:
            return
        for stage in self._plan.stages:
            if stage.end <= self._first:
                continue
            if stage != self._stage:
                self._begin(stage)
            if not self._train():
                return
            if self._checkpoints.again:
                self._channel.send([*self._deferred.flush(wait=True), self._ended(self._checkpoints.until)])
                return
            if stage.end < self._plan.run_steps and not self._next_stage():
                return
        self._finish()

    def _go_on(self) -> int | None:
        """The step to begin at: 0, or that of a checkpoint, with everything as it was then; None: it has ended."""
        state = self._checkpoints.found()
        if state is None:
            return 0
        training = state.training()
        self._come_to(state.step, training["loaders"])
        command = self._checkpoints.load(state, training)
        if command is not None:  # the criteria of an earlier stage are other ones now
            self._checkpoints.forget()
            self._channel.send([self._ended(state.step)])
            return None
        self._train_seconds, self._seconds_before = training["train_seconds"], training["seconds_before"]
        self._began -= training["wall_seconds"]
        self._before = Snapshot(**training["before"])
        self._source_counter.load_state_dict(training["tally"])
        set_generators(training["generators"], self._device)
        return state.step

    def _come_to(self, step: int, states: Sequence[Any] | None) -> None:
        """Enter every stage and phase before `step` and draw what they drew, as a run does, without a step.

        Loaders that gave `states` know their place, and are not wound forward. Now and then it says that it is alive.
        """
        said = time.perf_counter()
        for stage in self._plan.stages:
            if stage.first_step > step:
                break
            if stage != self._stage:
                self._begin(stage)
            for at in range(stage.first_step, min(stage.end, step)):
                if stage.starts_at(at):
                    self._begin_phase(at)
                elif states is None:
                    self._feed.draw()
                if time.perf_counter() - said >= 1.0:
                    said = time.perf_counter()
                    self._channel.send([])
        if states is not None:
            self._feed.restart(self._plan.seed, states=states)

    def _progress(self) -> dict[str, Any]:
        """What a run that goes on cannot find out by itself."""
        return {
            "train_seconds": self._train_seconds,
            "seconds_before": self._seconds_before,
            "wall_seconds": time.perf_counter() - self._began,
            "before": {"trains": self._before.trains, "frozen": self._before.frozen},
            "tally": self._source_counter.state_dict(),
        }

    def _begin(self, stage: Stage) -> None:
        """Enter a stage; the first one is entered when the model is made."""
        if stage.first_step:
            self._stepper.begin(stage)
        self._stage = stage
        self._seconds_before = self._train_seconds
        self._schedule = schedules.named(stage.lr_schedule, stage.warmup_steps, stage.max_steps)
        self._before = snapshot(self._stepper.model, frozen=stage.train is not None)

    def _train(self) -> bool:
        """The stage's steps; False where the parent called the rehearsal off."""
        stage, flushed = self._stage, time.perf_counter()
        assert self._first is not None
        for step in range(max(stage.first_step, self._first), min(stage.end, self._checkpoints.until)):
            if self._checkpoints.due(step):
                self._channel.send(self._deferred.flush(wait=True))
                self._checkpoints.keep(step, self._feed, self._progress())
            batches = self._begin_phase(step) if stage.starts_at(step) else None
            self._instrumentation.look(self._stage, step)
            began = time.perf_counter()
            self._step(step, batches or self._feed.draw())
            now = time.perf_counter()
            self._train_seconds += now - began
            if step == 0 or now - flushed >= CHUNK_SECONDS or (step + 1) % CHUNK_STEPS == 0:
                flushed = now
                if self._stopped(step):
                    return False
        return True

    def _begin_phase(self, step: int) -> list[Any]:
        """The first batches of a stage or phase, after its terms and its probe batch are known."""
        stepper = self._stepper
        if step > self._stage.first_step:
            self._channel.send(self._deferred.flush(wait=True))  # figures waiting there are of the terms so far
            stepper.enter_phase(step)
        self._instrumentation.renew()
        batches = self._feed.draw()
        stepper.learn_terms(batches[0])
        return batches

    def _step(self, step: int, batches: list[Any]) -> None:
        stepper, stage, terms = self._stepper, self._stage, self._stepper.terms
        offset = step - stage.first_step
        if digests := self._checkpoints.digests(step, batches):
            self._channel.send(digests)
        multiplier = self._schedule(offset)
        probe = len(terms) > 1 and offset % ratio_every_steps(stage, len(terms)) == 0
        row, gram = stepper.update(batches, multiplier, probe=probe)
        self._deferred.put(partial(self._step_record, step, stage.learning_rate * multiplier), row)
        if (step + 1) % CHUNK_STEPS == 0 or step == stage.end - 1:
            norm = self._stepper.parameter_norm()
            self._deferred.put(lambda values: ParameterNorm(step, values[0]), norm)
        if gram is not None:
            self._deferred.put(partial(reading, step, terms, stepper.weights), gram)
        drawn = self._source_counter.add(step, batches)
        if drawn is not None:  # nothing to read back, but its place is behind the steps it speaks of
            self._deferred.put(lambda _: drawn, torch.empty(0, device=self._device))

    def _stopped(self, step: int) -> bool:
        """Report; if the parent calls it off, look where the gradients pulled and stop."""
        self._channel.send(self._deferred.flush())
        stop = self._channel.poll()
        if not isinstance(stop, Abort):
            return False
        self._channel.send(self._deferred.flush(wait=True))
        self._instrumentation.postmortem(stop, self._feed, self._checkpoints)
        self._channel.send([self._ended(step + 1)])
        return True

    def _next_stage(self) -> bool:
        """Report the end of a stage, and wait for leave to start the next one."""
        last = self._stage.end - 1
        self._end_stage(last)
        command = self._channel.poll(wait=True)
        if isinstance(command, Continue):
            return True
        if isinstance(command, Abort):
            self._instrumentation.postmortem(command, self._feed, self._checkpoints)
        else:
            self._keep_trained(last + 1)
        self._channel.send([self._ended(last + 1)])
        return False

    def _end_stage(self, evaluated_at: int, *, evaluate: bool = True) -> dict[str, float] | None:
        """What is reported after the last step of a stage, or of a rehearsal without any; the metrics."""
        stage = self._stage
        self._channel.send(self._deferred.flush(wait=True))
        values = self._instrumentation.evaluate(evaluated_at) if evaluate else None
        self._channel.send([compare(self._before, self._stepper.model, self._stepper.optimizer)])
        if stage.name:
            self._channel.send([StageEnded(stage.name, self._train_seconds - self._seconds_before)])
        return values

    def _finish(self) -> None:
        plan, stop = self._plan, None
        steps, staged = plan.run_steps, plan.has_named_stages
        evaluates = plan.pipeline is not None and not staged  # a stage's criteria are asked before the pipeline
        values = self._end_stage(steps - 1 if staged else steps, evaluate=not evaluates)
        if plan.pipeline is not None and (stop := self._channel.poll()) is None:
            again = partial(self._instrumentation.evaluate, steps) if evaluates else lambda: values
            run_pipeline(plan, self._task, self._stepper.model, self._channel.send, again)
        if plan.predictions is not None and stop is None:
            self._instrumentation.predict(Path(plan.predictions))
        self._channel.send([self._ended(steps)])
        stop = stop or self._channel.poll(wait=True)
        if isinstance(stop, Abort) and stop.last_good_step is not None:
            self._instrumentation.postmortem(stop, self._feed, self._checkpoints)
        else:
            self._keep_trained(steps)

    def _keep_trained(self, steps: int) -> None:
        self._channel.send(self._checkpoints.trained(steps, self._feed, {"train_seconds": self._train_seconds}))

    def _ended(self, steps: int) -> Ended:
        return ended(steps, self._train_seconds, self._memory, self._utilization)

    def _step_record(self, step: int, lr: float, values: list[float]) -> Step:
        *means, norm = values
        terms = dict(zip(self._stepper.terms, means, strict=True))
        stage = self._stage
        return Step(
            step=step,
            loss=self._stepper.weighted_sum(means),
            terms=terms,
            grad_norm=norm,
            lr=lr,
            stage=stage.name,
            phase=stage.phase_at(step),
        )
