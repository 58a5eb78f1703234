"""The training loop of a rehearsal. It is ours, so that schedule, accumulation and records are certain."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import Any, Protocol

import torch

from pytest_smoke import schedules
from pytest_smoke.run.checkpoints import Checkpoints
from pytest_smoke.run.device import device_name, quiet, seed_all, to_device
from pytest_smoke.run.draw import Tally, one_step, sampled
from pytest_smoke.run.gradients import reading
from pytest_smoke.run.pipeline.stages import run_pipeline
from pytest_smoke.run.plan import RunPlan
from pytest_smoke.run.readback import Readback
from pytest_smoke.run.records import Ended, Metrics, ParameterNorm, ProbeLoss, Record, Started, Step, Stop
from pytest_smoke.run.step import Stepper
from pytest_smoke.run.task import Task, TaskError, metrics_of, probe_batches_of
from pytest_smoke.run.updates import compare, snapshot

RESERVED = ("loss", "lr", "grad_norm", "probe_loss")
"""Series of every smoke; a metric may not go by their names, nor by a loss term's."""
CHUNK_SECONDS = 0.1
"""Records are read back and sent about this often: quick enough to stop a doomed run, rare enough to cost nothing."""
CHUNK_STEPS = 64
"""... and after this many steps at the latest."""
AUTOPSY_SEED_OFFSET = 2_000_003
"""Added to the seed for the batches of the probe on the last good checkpoint."""


class Channel(Protocol):
    """The child's end of the line to its parent."""

    def send(self, records: list[Record]) -> None:
        """Hand over records, in order."""

    def poll(self, *, wait: bool = False) -> Stop | None:
        """What the parent says: None to go on (with `wait`, after the last step: to finish), or Stop."""


class Loop:
    """One rehearsal of `task`, as `plan` says."""

    def __init__(self, plan: RunPlan, task: Task, device: torch.device, channel: Channel) -> None:
        self._plan, self._task, self._device, self._channel = plan, task, device, channel
        self._stepper = Stepper(plan, task, device)
        self._schedule = schedules.named(plan.lr_schedule, plan.warmup_steps, plan.max_steps)
        self._ranks = sampled(task, plan, plan.seed)
        self._tally = Tally(task, plan)
        self._probe_batches = to_device(probe_batches_of(task, plan.batch_size, seed=plan.seed), device)
        self._readback = Readback(device)
        self._checkpoints = Checkpoints(self._stepper.model)
        self._train_seconds = 0.0

    def run(self) -> None:
        """Train, report, and obey the parent. What was seen is reported before an exception passes through."""
        try:
            self._run()
        except Exception:
            with contextlib.suppress(Exception):  # after a device error nothing can be read back
                self._channel.send(self._readback.flush(wait=True))
            raise

    def _run(self) -> None:
        before = snapshot(self._stepper.model)
        self._channel.send([self._started()])
        batches = self._draw()
        self._stepper.learn_terms(batches[0])
        flushed = time.perf_counter()
        for step in range(self._plan.run_steps):
            self._look(step)
            began = time.perf_counter()
            self._step(step, batches if step == 0 else self._draw())
            now = time.perf_counter()
            self._train_seconds += now - began
            if step == 0 or now - flushed >= CHUNK_SECONDS or (step + 1) % CHUNK_STEPS == 0:
                flushed = now
                if self._stopped(step):
                    return
        self._finish(before)

    def _step(self, step: int, batches: list[Any]) -> None:
        stepper, multiplier = self._stepper, self._schedule(step)
        terms = stepper.terms
        probe = len(terms) > 1 and step % self._plan.ratio_every_steps(len(terms)) == 0
        row, gram = stepper.update(batches, multiplier, probe=probe)
        self._readback.put(partial(self._step_record, step, self._plan.learning_rate * multiplier), row)
        if (step + 1) % CHUNK_STEPS == 0 or step == self._plan.run_steps - 1:
            norm = self._stepper.parameter_norm()
            self._readback.put(lambda values: ParameterNorm(step, values[0]), norm)
        if gram is not None:
            self._readback.put(partial(reading, step, terms, stepper.weights), gram)
        drawn = self._tally.add(step, batches)
        if drawn is not None:  # nothing to read back, but its place is behind the steps it speaks of
            self._readback.put(lambda _: drawn, torch.empty(0, device=self._device))

    def _draw(self) -> list[Any]:
        return one_step(self._ranks, self._plan.micro_batches)

    def _look(self, step: int) -> None:
        """What is seen before `step`: a checkpoint and the probe batch, now and then the task's own metrics."""
        probe = step % self._plan.probe_every_steps == 0
        if probe:
            self._checkpoints.save(step)
        if probe or step == self._plan.run_steps - 1:
            self._score_probe(step)
        every = self._plan.evaluate_every_steps
        if every and step and step % every == 0:
            self._evaluate(step)

    def _score_probe(self, step: int) -> None:
        with quiet(self._stepper.model, self._device):
            means = self._stepper.score(self._probe_batches)
        self._readback.put(lambda values: ProbeLoss(step, self._stepper.weigh(values)), means)

    def _evaluate(self, step: int) -> dict[str, float] | None:
        evaluate = getattr(self._task, "evaluate", None)
        if evaluate is None:
            return None
        with quiet(self._stepper.model, self._device):
            values = metrics_of(evaluate(self._stepper.model))
        taken = sorted(values.keys() & {*RESERVED, *self._stepper.terms})
        if taken:
            raise TaskError(f"evaluate(model) returned {', '.join(taken)}: criteria know another series by that name")
        self._channel.send([*self._readback.flush(wait=True), Metrics(step, values)])
        return values

    def _stopped(self, step: int) -> bool:
        """Report; if the parent calls it off, look where the gradients pulled and stop."""
        self._channel.send(self._readback.flush())
        stop = self._channel.poll()
        if stop is None:
            return False
        self._channel.send(self._readback.flush(wait=True))
        self._autopsy(stop)
        self._channel.send([self._ended(step + 1)])
        return True

    def _finish(self, before: dict[str, torch.Tensor]) -> None:
        steps = self._plan.run_steps
        self._channel.send(self._readback.flush(wait=True))
        stop = None
        if self._plan.pipeline is None:
            self._evaluate(steps)
        self._channel.send([compare(before, self._stepper.model, self._stepper.optimizer)])
        if self._plan.pipeline is not None and (stop := self._channel.poll()) is None:
            run_pipeline(self._plan, self._task, self._stepper.model, self._channel.send, lambda: self._evaluate(steps))
        self._channel.send([self._ended(steps)])
        stop = stop or self._channel.poll(wait=True)
        if stop is not None:
            self._autopsy(stop)

    def _autopsy(self, stop: Stop) -> None:
        """Differentiate the terms on the newest checkpoint that precedes the trouble."""
        terms = self._stepper.terms
        if len(terms) < 2 or stop.last_good_step is None:
            return
        step = self._checkpoints.restore(stop.last_good_step)
        seed_all(self._plan.seed)  # how far the run got before it heard must not show in what is found
        self._ranks = sampled(self._task, self._plan, self._plan.seed + AUTOPSY_SEED_OFFSET)
        gradients, _ = self._stepper.differentiate(self._draw())
        self._readback.put(
            partial(reading, step, terms, self._stepper.weights, autopsy=True), self._stepper.gram(gradients)
        )
        self._channel.send(self._readback.flush(wait=True))

    def _started(self) -> Started:
        sizes = [(p.numel(), p.requires_grad) for p in self._stepper.model.parameters()]
        return Started(
            device=str(self._device),
            device_name=device_name(self._device),
            torch=str(torch.__version__),  # a TorchVersion would import torch where it is read
            parameters=sum(size for size, _ in sizes),
            trainable=sum(size for size, trains in sizes if trains),
        )

    def _ended(self, steps: int) -> Ended:
        cuda = self._device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self._device) / 2**30 if cuda else None
        return Ended(steps=steps, train_seconds=self._train_seconds, peak_memory_gib=peak)

    def _step_record(self, step: int, lr: float, values: list[float]) -> Step:
        *means, norm = values
        terms = dict(zip(self._stepper.terms, means, strict=True))
        return Step(step=step, loss=self._stepper.weigh(means), terms=terms, grad_norm=norm, lr=lr)
