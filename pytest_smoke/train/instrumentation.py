"""What is seen of a rehearsal beside its steps: the probe batch, the metrics, the gradients where trouble began."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pytest_smoke.events import Metrics, ProbeLoss, Stop, Unpredicted
from pytest_smoke.train.batch_equivalence import compare_geometries
from pytest_smoke.train.batch_stream import Feed
from pytest_smoke.train.channel import Channel
from pytest_smoke.train.checkpoints.in_memory import Checkpoints
from pytest_smoke.train.checkpoints.manager import Keeper
from pytest_smoke.train.crash import crash_of
from pytest_smoke.train.deferred_metrics import Readback
from pytest_smoke.train.device import quiet, seed_all, to_device
from pytest_smoke.train.gradients import reading
from pytest_smoke.train.machine import PeakMemory
from pytest_smoke.train.plan import RunPlan, StagePlan
from pytest_smoke.train.predictions import write_predictions
from pytest_smoke.train.step import Stepper
from pytest_smoke.train.task import Task, TaskError, metrics_of, probe_batches_of

RESERVED = ("loss", "lr", "grad_norm", "probe_loss")
"""Series of every smoke; a metric may not go by their names, nor by a loss term's."""
AUTOPSY_SEED_OFFSET = 2_000_003
"""Added to the seed for the batches of the probe on the last good checkpoint."""


class Sights:
    """Looks at the model of `stepper` without changing what it would have become."""

    def __init__(
        self, plan: RunPlan, task: Task, stepper: Stepper, memory: PeakMemory, channel: Channel, readback: Readback
    ) -> None:
        self._plan, self._task, self._stepper, self._device = plan, task, stepper, stepper.device
        self._memory, self._channel, self._readback = memory, channel, readback

    def renew(self) -> None:
        """A stage or a phase begins: another probe batch, and no checkpoint of another structure."""
        plan = self._plan
        self._probe_batches = to_device(probe_batches_of(self._task, plan.batch_size, seed=plan.seed), self._device)
        self._checkpoints = Checkpoints(self._stepper.model)

    def look(self, stage: StagePlan, step: int) -> None:
        """What is seen before `step`: a checkpoint and the probe batch, now and then the task's own metrics.

        Where a stage or a phase begins also whether the full run's micro-batches give the same gradient.
        """
        begins, offset = stage.begins_at(step), step - stage.first_step
        if begins and self._plan.folds_otherwise:
            with self._memory.aside():
                found = compare_geometries(self._plan, self._task, self._stepper, stage, step)
            self._channel.send([found])
        probe = offset % stage.probe_every_steps == 0
        if probe or begins:
            self._checkpoints.save(step)
        if probe or step == stage.end - 1:
            self._score_probe(step)
        every = self._plan.evaluate_every_steps
        if every and offset and offset % every == 0:
            self.evaluate(step)

    def _score_probe(self, step: int) -> None:
        with quiet(self._stepper.model, self._device):
            means = self._stepper.score(self._probe_batches)
        self._readback.put(lambda values: ProbeLoss(step, self._stepper.weigh(values)), means)

    def evaluate(self, step: int) -> dict[str, float] | None:
        """The task's metrics before `step`, reported; None where it has no `evaluate`. Raises TaskError."""
        evaluate = getattr(self._task, "evaluate", None)
        if evaluate is None:
            return None
        with quiet(self._stepper.model, self._device):
            values = metrics_of(evaluate(self._stepper.model))
        taken = sorted(values.keys() & {*RESERVED, *self._stepper.seen_terms})
        if taken:
            raise TaskError(f"evaluate(model) returned {', '.join(taken)}: criteria know another series by that name")
        self._channel.send([*self._readback.flush(wait=True), Metrics(step, values)])
        return values

    def predict(self, path: Path) -> None:
        """Write the task's predictions, if it makes any. They decide nothing, so what they raise is only reported."""
        try:
            with quiet(self._stepper.model, self._device):
                write_predictions(self._task, self._stepper.model, path)
        except Exception as error:
            crash = crash_of(error, self._plan.root)
            self._channel.send([Unpredicted(f"{crash.text} at {crash.place}" if crash.place else crash.text)])

    def autopsy(self, stop: Stop, feed: Feed, keeper: Keeper) -> None:
        """Differentiate the terms on the newest checkpoint that precedes the trouble, and keep it."""
        terms = self._stepper.terms
        if stop.last_good_step is None:  # how many steps it made is a matter of timing: they are not kept
            keeper.forget()
            return
        if len(terms) < 2 and not keeper.keeps:
            return
        step = self._checkpoints.restore(stop.last_good_step)
        self._channel.send(keeper.last_good(step))
        if len(terms) < 2:
            return
        seed_all(self._plan.seed)  # how far the run got before it heard must not show in what is found
        feed.restart(self._plan.seed + AUTOPSY_SEED_OFFSET)
        gradients, _ = self._stepper.differentiate(feed.draw())
        self._readback.put(
            partial(reading, step, terms, self._stepper.weights, autopsy=True), self._stepper.gram(gradients)
        )
        self._channel.send(self._readback.flush(wait=True))
