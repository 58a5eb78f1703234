"""What is seen of a rehearsal beside its steps: the probe batch, the metrics, the gradients where trouble began."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pytest_smoke.errors import TaskError
from pytest_smoke.events import Abort, Metrics, PredictionsFailed, ProbeLoss
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.batch_equivalence import compare_batch_sizes
from pytest_smoke.train.batch_stream import BatchStream
from pytest_smoke.train.channel import Channel
from pytest_smoke.train.checkpoints.in_memory import WeightHistory
from pytest_smoke.train.checkpoints.manager import CheckpointManager
from pytest_smoke.train.crash import crash_of
from pytest_smoke.train.deferred_metrics import DeferredMetrics
from pytest_smoke.train.device import isolated_eval, seed_all, to_device
from pytest_smoke.train.gradients import reading
from pytest_smoke.train.machine import PeakMemory
from pytest_smoke.train.plan import RunPlan, probe_every_steps
from pytest_smoke.train.predictions import write_predictions
from pytest_smoke.train.step import Stepper
from pytest_smoke.train.task import Task, metrics_of, probe_batches_of

RESERVED = ("loss", "lr", "grad_norm", "probe_loss")
"""Series of every smoke; a metric may not go by their names, nor by a loss term's."""
POSTMORTEM_SEED_OFFSET = 2_000_003
"""Added to the seed for the batches of the probe on the last good checkpoint."""


class Instrumentation:
    """Looks at the model of `stepper` without changing what it would have become."""

    def __init__(
        self,
        plan: RunPlan,
        task: Task,
        stepper: Stepper,
        memory: PeakMemory,
        channel: Channel,
        readback: DeferredMetrics,
    ) -> None:
        self._plan, self._task, self._stepper, self._device = plan, task, stepper, stepper.device
        self._memory, self._channel, self._deferred = memory, channel, readback

    def renew(self) -> None:
        """A stage or a phase begins: another probe batch, and no checkpoint of another structure."""
        plan = self._plan
        self._probe_batches = to_device(probe_batches_of(self._task, plan.batch_size, seed=plan.seed), self._device)
        self._checkpoints = WeightHistory(self._stepper.model)

    def look(self, stage: Stage, step: int) -> None:
        """What is seen before `step`: a checkpoint and the probe batch, now and then the task's own metrics.

        Where a stage or a phase begins also whether the full run's micro-batches give the same gradient.
        """
        begins, offset = stage.starts_at(step), step - stage.first_step
        if begins and self._plan.folds_otherwise:
            with self._memory.aside():
                found = compare_batch_sizes(self._plan, self._task, self._stepper, stage, step)
            self._channel.send([found])
        probe = offset % probe_every_steps(stage) == 0
        if probe or begins:
            self._checkpoints.save(step)
        if probe or step == stage.end - 1:
            self._score_probe(step)
        every = self._plan.evaluate_every_steps
        if every and offset and offset % every == 0:
            self.evaluate(step)

    def _score_probe(self, step: int) -> None:
        with isolated_eval(self._stepper.model, self._device):
            means = self._stepper.score(self._probe_batches)
        self._deferred.put(lambda values: ProbeLoss(step, self._stepper.weighted_sum(values)), means)

    def evaluate(self, step: int) -> dict[str, float] | None:
        """The task's metrics before `step`, reported; None where it has no `evaluate`. Raises TaskError."""
        evaluate = getattr(self._task, "evaluate", None)
        if evaluate is None:
            return None
        with isolated_eval(self._stepper.model, self._device):
            values = metrics_of(evaluate(self._stepper.model))
        taken = sorted(values.keys() & {*RESERVED, *self._stepper.seen_terms})
        if taken:
            raise TaskError(f"evaluate(model) returned {', '.join(taken)}: criteria know another series by that name")
        self._channel.send([*self._deferred.flush(wait=True), Metrics(step, values)])
        return values

    def predict(self, path: Path) -> None:
        """Write the task's predictions, if it makes any. They decide nothing, so what they raise is only reported."""
        try:
            with isolated_eval(self._stepper.model, self._device):
                write_predictions(self._task, self._stepper.model, path)
        except Exception as error:
            crash = crash_of(error, self._plan.root)
            self._channel.send([PredictionsFailed(f"{crash.text} at {crash.place}" if crash.place else crash.text)])

    def postmortem(self, stop: Abort, feed: BatchStream, keeper: CheckpointManager) -> None:
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
        feed.restart(self._plan.seed + POSTMORTEM_SEED_OFFSET)
        gradients, _ = self._stepper.differentiate(feed.draw())
        self._deferred.put(
            partial(reading, step, terms, self._stepper.weights, postmortem=True), self._stepper.gram(gradients)
        )
        self._channel.send(self._deferred.flush(wait=True))
