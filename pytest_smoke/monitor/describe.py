"""Reads the settings of a full run from the trainer that a recipe names, before anything is compared or trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pytest_smoke.errors import ChildDiedError, ChildTimeoutError, TaskError
from pytest_smoke.events import Crashed
from pytest_smoke.monitor.child import ProcessResult
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.text import seconds
from pytest_smoke.train.launch import describing
from pytest_smoke.train.plan import RunPlan

Isolation = Literal["process", "none"]
WHEN = "when the trainer was built, before the first step"


def read_settings(
    case: Case, *, root: str, device: str, isolation: Isolation, timeout_seconds: float | None
) -> Case | ProcessResult:
    """Build the trainer of `case` in a process of its own, and return the case with the settings of its full run.

    With the isolation `none` it is built in this process, so that a debugger can follow the factory. If that fails,
    return why, as the result of a run. Raises OSError if no process can be started.
    """
    plan = RunPlan.of(case, root=root, device=device)
    read = _read_here(plan) if isolation == "none" else _read_in_child(plan, timeout_seconds)
    if isinstance(read, ProcessResult):
        return read
    if isinstance(read, Crashed):
        result = _failed(read.reason, f"{read.text}{f' at {read.place}' if read.place else ''}", output=read.traceback)
        finding = replace(result.finding, place=read.place, key=read.key, hint=read.hint)
        return replace(result, finding=finding)
    try:
        return case.with_read(read)
    except TaskError as error:
        return _failed("invalid-task", str(error))


def _read_here(plan: RunPlan) -> dict[str, Any] | Crashed:
    from pytest_smoke.train.global_state import restored_globals  # imports torch: --smoke-isolation none
    from pytest_smoke.train.worker import described

    with restored_globals(plan.root):
        return described(plan)


def _read_in_child(plan: RunPlan, timeout_seconds: float | None) -> dict[str, Any] | Crashed | ProcessResult:
    with describing(plan) as child:
        try:
            read = child.receive_value(timeout_seconds)
        except ChildDiedError as died:
            return _failed("crash", f"the training process failed: {died}", output=child.last_lines())
        except ChildTimeoutError:
            child.dump_stacks()
            text = f"the factory did not return within {seconds(timeout_seconds or 0.0)} and was stopped"
            hint = "raise --smoke-timeout if the trainer needs longer to be built"
            return _failed("hang", text, hint=hint, output=child.last_lines())
        if not isinstance(read, dict | Crashed):
            text = "the training process ended without a result"
            return _failed("crash", text, output=child.last_lines())
    return read


def _failed(reason: str, text: str, *, hint: str = "", output: str = "") -> ProcessResult:
    finding = Finding(id="run", status="fail", reason=reason, text=f"{text} ({WHEN})", hint=hint)
    return ProcessResult(finding=finding, output=output)
