"""The `lr-applied` check: the optimizer uses the learning rate that the recipe's schedule gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_smoke.events import LearningRateDiffers
from pytest_smoke.judge.checks.check import Check, Reason, RunView
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.model import Trainer
from pytest_smoke.text import count, every


def on_difference(run: RunView, events: Sequence[LearningRateDiffers]) -> Iterator[Finding]:
    """Make the finding of the newest difference."""
    event = events[-1]
    finding_id = f"{CHECK.id}[{event.stage}]" if event.stage else CHECK.id
    ranks = run.case.settings.world_size
    yield differs(event, finding_id=finding_id, trainer=run.case.recipe.trainer, world_size=ranks)


def differs(
    event: LearningRateDiffers, *, finding_id: str = "lr-applied", trainer: Trainer = "task", world_size: int = 1
) -> Finding:
    """Fail: the optimizer used another learning rate, or has other parameter groups than at first."""
    is_task = trainer == "task"
    used, scheduled = _apart(event.used, event.scheduled)
    of_rank = "" if event.rank is None else f" of rank {event.rank}"
    if event.groups != event.planned_groups:
        return Finding(
            id=finding_id,
            status="fail",
            reason="parameter-groups-changed",
            text=(
                f"the optimizer{of_rank} has {count(event.groups, 'parameter group')} at step {event.step}, it was "
                f"made with {event.planned_groups}: the recipe's schedule does not apply to the groups that changed"
            ),
            step=event.step,
            observed=event.groups,
            bound=event.planned_groups,
            hint=(
                "make all parameter groups in optimizer(model, learning_rate), or train new parameters in a stage"
                if is_task
                else "make all parameter groups before training starts"
            ),
        )
    if trainer == "command":
        text = f"the log has the learning rate {used} at step {event.step}, the recipe schedules {scheduled}"
        hint = (
            "pass on {learning_rate}, {warmup_steps}, {lr_schedule} and {max_steps}, spelt as the command expects them"
        )
        if world_size > 1:
            hint += (
                f"; Accelerate steps a prepared scheduler {count(world_size, 'time')} per update, once for each "
                "process, unless split_batches is set: its warmup and length must be as many times as long"
            )
    elif event.within_step and is_task:
        text = (
            f"optimizer.step{of_rank} changed the learning rate from {scheduled}, which the recipe schedules, to "
            f"{used} at step {event.step}"
        )
        hint = "remove the schedule from the optimizer and its step hooks: the smoke run applies the recipe's schedule"
    else:
        text = (
            f"the optimizer{of_rank} used the learning rate {used} at step {event.step}, the recipe schedules "
            f"{scheduled}"
        )
        hint = (
            "remove the task's own learning-rate scheduler: the smoke run applies full.lr_schedule and "
            "full.warmup_steps itself"
            if is_task
            else "look for a scheduler of the trainer's own, and for code that sets `lr` in the parameter groups: the "
            "smoke run sets the schedule through the trainer's arguments"
        )
    if event.groups > 1:
        text += f" (parameter group {event.group} of {event.groups}, counted from 0)"
    return Finding(
        id=finding_id,
        status="fail",
        reason="other-learning-rate",
        text=text,
        step=event.step,
        observed=event.used,
        bound=event.scheduled,
        hint=hint,
    )


def _apart(used: float, scheduled: float) -> tuple[str, str]:
    """Format two learning rates with as many digits as tell them apart."""
    texts = [(f"{used:.{digits}g}", f"{scheduled:.{digits}g}") for digits in (6, 8, 10, 17)]
    return next((pair for pair in texts if pair[0] != pair[1]), texts[-1])


def applied(run: RunView) -> Iterator[Finding]:
    """Pass every stage that made steps without a difference."""
    failed = {event.stage for event in run.events(LearningRateDiffers)}
    is_log = run.case.recipe.trainer == "command"
    for view in run.stages:
        steps = len(view.steps)
        if steps and view.stage.name not in failed:
            text = f"the optimizer used the scheduled learning rate in {every(steps, 'step')}"
            if is_log:
                text = f"the log has the scheduled learning rate at {every(steps, 'logged step')}"
            yield Finding(id=view.stage.finding_id(CHECK.id), status="pass", text=text)


CHECK = Check(
    id="lr-applied",
    question="Is the learning rate right before each update the one that the recipe schedules?",
    when="every step",
    verdict="invalid",
    key="task",
    stops_run=True,
    reasons=(
        Reason(
            id="other-learning-rate",
            status="fail",
            when="the optimizer used another learning rate than the scheduled one",
        ),
        Reason(
            id="parameter-groups-changed",
            status="fail",
            when="parameter groups were added to the optimizer or removed from it",
        ),
    ),
    on_event=(LearningRateDiffers, on_difference),
    at_end=applied,
)
