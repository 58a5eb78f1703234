"""What trains in a stage: the task's hook, and the globs over parameter names."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from pytest_smoke.errors import TaskError
from pytest_smoke.train.task import Task

NAMED = 8
"""Parameters that a message lists where no name is near."""


class ParameterFreezer:
    """Which parameters of a model train, stage by stage; what the model says itself is never forgotten."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._own: list[tuple[nn.Parameter, bool]] = []

    def restore(self) -> None:
        """Put back what the model said before `choose`."""
        for parameter, requires_grad in self._own:
            parameter.requires_grad_(requires_grad)
        self._own = []

    def choose(self, globs: Sequence[str] | None, *, key: str = "") -> None:
        """Train what matches one of `globs` (fnmatch, case counts), freeze the rest; None: what the model says.

        `key` is the recipe's that has the globs.

        Raises TaskError for a glob that matches no parameter, and where nothing is left to train.
        """
        named = dict(self._model.named_parameters())
        if globs is not None:
            for glob in globs:
                if not any(fnmatchcase(name, glob) for name in named):
                    text = f"train: {glob!r} matches no parameter; {_nearest(glob, list(named))}"
                    raise TaskError(text, key=key)
            self._own = [(parameter, parameter.requires_grad) for parameter in named.values()]
            for name, parameter in named.items():
                trains = any(fnmatchcase(name, glob) for glob in globs) and parameter.is_floating_point()
                parameter.requires_grad_(trains)
        if not any(parameter.requires_grad for parameter in named.values()):
            raise TaskError("the model has no parameter that requires a gradient: there is nothing to train")


def call_on_stage_start(task: Task, model: nn.Module, stage: str, phase: str | None, *, anew: bool) -> None:
    """Call the task's `on_stage_start`, if it has one. `anew`: a stage begins, and with it an optimizer.

    Raises TaskError where a later phase adds parameters, which no optimizer would hold.
    """
    hook = getattr(task, "on_stage_start", None)
    if hook is None:
        return
    before = set(dict(model.named_parameters()))
    hook(model, stage, phase)
    added = [name for name, p in model.named_parameters() if name not in before and p.requires_grad]
    if added and not anew:
        raise TaskError(
            f"on_stage_start(model, {stage!r}, {phase!r}) added {', '.join(added[:NAMED])}: parameters are added "
            "where a stage begins, since its optimizer is made there; make this phase a stage"
        )


def _nearest(glob: str, names: list[str]) -> str:
    near = get_close_matches(glob.rstrip("*."), names + sorted({name.partition(".")[0] for name in names}), n=3)
    if near:
        return f"near it are {', '.join(near)}"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"the parameters are {', '.join(names[:NAMED])}{more}"
