"""What a smoke run does at this moment: plain values, which also travel from a worker of pytest-xdist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pytest_smoke.text import count, number, percent, seconds

SILENT_SECONDS = 10.0
"""A run that trains and has reported no step for so long is shown with that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """The state of one run. Times are those of `time.monotonic`, which the processes of a machine share."""

    id: str
    """Id of its outcome."""
    doing: str
    """A phrase such as `preflight` or `evaluating`; empty while it trains."""
    started_at: float
    reported_at: float
    """When the training process reported something last."""
    step: int | None = None
    """Newest step; None before the first one."""
    steps: int = 0
    """Steps made."""
    planned_steps: int = 0
    stage: str = ""
    """Empty if the recipe declares no stages."""
    loss: float | None = None
    lr: float | None = None
    losses: tuple[float, ...] = ()
    """The loss so far, as means of consecutive steps."""
    seconds_left: float | None = None
    """Of the training, at the speed so far; None if it is not known."""
    level: float | None = None
    """Lowest level of the loss; None before the judge compares levels."""
    rise: float = 0.0
    """How far the loss is above it."""
    alarm: float = 0.0
    """The rise above it that is detected."""
    is_confirming: bool = False
    """Whether a rise was detected that is yet to be confirmed."""
    memory_gib: float | None = None
    device_memory_gib: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as builtins."""
        return asdict(self)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> RunStatus:
        """Read what `to_dict` returned, and ignore other keys. Raises TypeError if a required one is missing."""
        own = {field.name for field in fields(cls)}
        given = {key: value for key, value in tree.items() if key in own}
        return cls(**{**given, "losses": tuple(given.get("losses", ()))})


def activity_text(run: RunStatus, now: float) -> str:
    """Say what a run does: `step 412/600`, `stage joint, step 412/600`, `evaluating after step 412/600`."""
    silent = now - run.reported_at
    since = f" for {seconds(silent)}" if silent >= SILENT_SECONDS else ""
    if run.step is None:
        return f"{run.doing or 'starting'}{since}"
    stage = f"stage {run.stage}, " if run.stage else ""
    place = f"{stage}step {run.step:,}/{run.planned_steps:,}"
    if run.doing:
        return f"{run.doing}{since}, {place}"
    return f"{place}{f', no step{since}' if since else ''}"


def left_text(run: RunStatus, now: float) -> str:
    """Say how long the training still takes; empty if that is not known, or if it no longer trains."""
    if run.seconds_left is None or run.doing:
        return ""
    return f"{seconds(max(0.0, run.seconds_left - (now - run.reported_at)))} left"


def alarm_text(run: RunStatus) -> str:
    """Say how far the loss is from an alarm: `4.0 % above its lowest level, alarm at 11 %`; empty if not known."""
    if run.level is None:
        return ""
    rise, alarm = _amount(run.rise, run.level), _amount(run.alarm, run.level)
    if run.is_confirming:
        return f"{rise} above its lowest level: a rise, not confirmed yet"
    if not run.rise:
        return f"at its lowest level, alarm at {alarm} above it"
    return f"{rise} above its lowest level, alarm at {alarm}"


def memory_text(run: RunStatus) -> str:
    """Say how much memory of the accelerator is reserved: `1.9 of 79.1 GiB`; empty on a CPU."""
    if run.memory_gib is None:
        return ""
    total = f" of {run.device_memory_gib:.1f}" if run.device_memory_gib else ""
    return f"{run.memory_gib:.1f}{total} GiB"


def finished_text(finished: int, expected: int, elapsed: float) -> str:
    """Say how far the session is: `3 of 12 smoke runs finished in 4 min 12 s`; `expected`: 0 if it is not known."""
    if not expected:
        return f"{count(finished, 'smoke run')} finished in {seconds(elapsed)}"
    return f"{finished:,} of {count(expected, 'smoke run')} finished in {seconds(elapsed)}"


def _amount(value: float, level: float) -> str:
    """Format a part of the loss as a share of its level; as it is for levels of 0 or less, which have no shares."""
    return percent(value / level) if level > 0 else number(value, 2)
