"""Set the learning rate of every parameter group, and read back which one the optimizer used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any

import torch
from torch import Tensor

from pytest_smoke.events import LearningRateDiffers

FLOAT32_RELATIVE = 1e-6
"""Relative difference of a learning rate kept in a float32 tensor from the float it was filled with: its rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedRates:
    """The learning rates of one optimizer step, by parameter group."""

    scheduled: tuple[float, ...]
    """What the schedule gives, for the groups that the optimizer had when it was made."""
    used: tuple[Any, ...]
    """What the groups held when the optimizer stepped: floats, and scalar tensors that are on an accelerator."""
    main: int
    """Index of the first group with the recipe's peak rate."""
    within_step: bool
    """Whether `optimizer.step` itself changed a rate."""

    @property
    def on_device(self) -> list[Tensor]:
        """The rates that only a copy from the accelerator can tell, in the order of the groups."""
        return [rate for rate in self.used if isinstance(rate, Tensor)]

    def with_values(self, values: Sequence[float]) -> list[float]:
        """Return all used rates as floats; `values` are those of `on_device`."""
        copied = iter(values)
        return [next(copied) if isinstance(rate, Tensor) else rate for rate in self.used]

    def lr(self, used: Sequence[float]) -> float:
        """Return the rate of the main group; if that group is gone, the scheduled one."""
        return used[self.main] if self.main < len(used) else self.scheduled[self.main]

    def difference(self, used: Sequence[float], *, step: int, stage: str) -> LearningRateDiffers | None:
        """Return an event if groups were added or removed, or if one of them had another rate than the schedule's."""
        if self.scheduled == tuple(used):
            return None
        pairs = zip(self.scheduled, used, strict=False)
        off = next((at for at, (planned, rate) in enumerate(pairs) if not same_rate(planned, rate)), None)
        if off is None and len(used) == len(self.scheduled):
            return None
        at = off if off is not None else min(self.main, len(used) - 1)
        return LearningRateDiffers(
            step=step,
            stage=stage,
            group=at,
            scheduled=self.scheduled[at],
            used=used[at] if used else 0.0,
            groups=len(used),
            planned_groups=len(self.scheduled),
            within_step=self.within_step,
        )


class LearningRates:
    """The parameter groups of an optimizer, whose peak rates are those that they have now, or the given `peaks`.

    Host values are read without waiting for the device.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, peak: float, peaks: Sequence[float] | None = None) -> None:
        self._optimizer = optimizer
        self._peaks = [float(group["lr"]) for group in optimizer.param_groups] if peaks is None else list(peaks)
        self._main = next((at for at, rate in enumerate(self._peaks) if same_rate(rate, peak)), 0)
        self._scheduled: tuple[float, ...] = ()
        self._before: tuple[Any, ...] = ()
        """Rates when `optimizer.step` was called."""
        self._used: tuple[Any, ...] = ()
        """Rates that it worked with, as far as they are known."""
        self._hook: Any = None
        self.stepped = False
        """Whether the `step` of the optimizer ran in the last update. A loss scaler skips it on an overflow."""
        self._within_step = False

    def expect(self, multiplier: float) -> None:
        """Schedule `multiplier` times its peak for every group, and leave it to a trainer to set it."""
        self._scheduled = tuple(peak * multiplier for peak in self._peaks)

    def set(self, multiplier: float) -> None:
        """Set every group that the optimizer had from the start to `multiplier` times its peak."""
        self.expect(multiplier)
        for group, rate in zip(self._optimizer.param_groups, self._scheduled, strict=False):
            if isinstance(group["lr"], Tensor):
                group["lr"].detach().fill_(rate)  # a capturable or compiled optimizer keeps the tensor
            else:
                group["lr"] = rate

    def watch(self) -> None:
        """Start to read the rates of a step, right before `optimizer.step` is called.

        They are read again in a hook, after all code of the task that runs before its update. The hook is registered
        again if the task has added one, so that it runs after those of the task.
        """
        self._before = self._used = self._read()
        hooks = getattr(self._optimizer, "_optimizer_step_pre_hooks", None)  # not in a subclass without `__init__`
        self.stepped = hooks is None
        if hooks is None or (self._hook is not None and next(reversed(hooks), None) == self._hook.id):
            return
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._optimizer.register_step_pre_hook(self._on_step)

    def unwatch(self) -> None:
        """Read the rates after `optimizer.step`: its own body may have changed one before the update."""
        after = self._read()
        is_changed_after = not _same(self._used, after)
        self._within_step = is_changed_after or not _same(self._before, self._used)
        if is_changed_after:
            self._used = after

    def cancel(self) -> None:
        """Stop to read the rates of a step whose update did not happen: those before it count."""
        self.stepped = self._within_step = False

    def used(self) -> UsedRates:
        """Return the rates of the last step."""
        return UsedRates(scheduled=self._scheduled, used=self._used, main=self._main, within_step=self._within_step)

    def _on_step(self, *_: Any) -> None:
        self.stepped = True
        self._used = self._read()

    def _read(self) -> tuple[Any, ...]:
        rates = tuple([group["lr"] for group in self._optimizer.param_groups])
        if Tensor not in map(type, rates):
            return rates
        return tuple(
            rate if not isinstance(rate, Tensor) else rate.item() if rate.is_cpu else rate.detach().clone()
            for rate in rates
        )


def same_rate(scheduled: float, used: float) -> bool:
    """Tell whether two learning rates are equal but for the rounding of a float32 tensor."""
    return scheduled == used or isclose(scheduled, used, rel_tol=FLOAT32_RELATIVE)


def _same(before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Tell whether rates are the same, as far as the host knows."""
    if before is after or len(before) != len(after):
        return before is after
    pairs = zip(before, after, strict=True)
    return all([isinstance(a, Tensor) or isinstance(b, Tensor) or a == b for a, b in pairs])  # noqa: C419  # faster
