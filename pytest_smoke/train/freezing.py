"""Decide which parameters train in a stage: the task's hook, and the recipe's patterns of parameter names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from pytest_smoke.errors import TaskError
from pytest_smoke.task import Task
from pytest_smoke.text import closest, listed
from pytest_smoke.train.hooks import hook_of

NAMES_SHOWN = 8
"""Parameters that a message lists before it counts the rest."""


class ParameterFreezer:
    """Freezes parameters stage by stage, without losing the model's own `requires_grad` flags."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._own_flags: list[tuple[nn.Parameter, bool]] = []

    def restore(self) -> None:
        """Restore the flags that the model had before `apply`."""
        for parameter, requires_grad in self._own_flags:
            parameter.requires_grad_(requires_grad)
        self._own_flags = []

    def apply(self, patterns: Sequence[str] | None, *, key: str = "") -> None:
        """Train the parameters that match one of `patterns` (fnmatch, case-sensitive) and freeze the rest.

        None keeps the model's own flags. `key` is the dotted recipe key of the patterns. Raises TaskError if a pattern
        matches no parameter, or if nothing is left to train.
        """
        named = dict(self._model.named_parameters())
        if patterns is not None:
            for pattern in patterns:
                if not any(fnmatchcase(name, pattern) for name in named):
                    text = f"train: {pattern!r} matches no parameter; {_suggestion(pattern, list(named))}"
                    raise TaskError(text, key=key)
            self._own_flags = [(parameter, parameter.requires_grad) for parameter in named.values()]
            for name, parameter in named.items():
                trains = any(fnmatchcase(name, pattern) for pattern in patterns) and parameter.is_floating_point()
                parameter.requires_grad_(trains)
        if not any(parameter.requires_grad for parameter in named.values()):
            raise TaskError("the model has no parameter that requires a gradient: there is nothing to train")


def call_on_stage_start(task: Task, model: nn.Module, stage: str, phase: str, *, new_stage: bool) -> None:
    """Call the task's `on_stage_start`, if it has one, with None for an empty `phase`.

    `new_stage`: the stage starts, not a later phase of it, so that an optimizer is made afterwards. Raises TaskError if
    a later phase adds parameters, because no optimizer would hold them.
    """
    hook = hook_of(task, "on_stage_start")
    if hook is None:
        return
    before = set(dict(model.named_parameters()))
    hook(model, stage, phase or None)
    added = [name for name, p in model.named_parameters() if name not in before and p.requires_grad]
    if added and not new_stage:
        raise TaskError(
            f"on_stage_start(model, {stage!r}, {phase!r}) added {listed(added, limit=NAMES_SHOWN)}, which the stage's "
            "optimizer does not hold: add parameters at the start of a stage, or make this phase a stage"
        )


def _suggestion(pattern: str, names: list[str]) -> str:
    modules = sorted({name.partition(".")[0] for name in names if "." in name})
    near = closest(pattern.rstrip("*."), [*modules, *names])
    if near is None:
        return f"the parameters are {listed(names, limit=NAMES_SHOWN)}"
    return f"did you mean {f'{near}.*' if near in modules else near}?"
