"""Verdict smokes for pytest: short training runs that decide whether the full run is worth launching."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_smoke.errors import (
        AuditError,
        BaselineError,
        BisectStateError,
        CheckpointError,
        CorpusError,
        CriterionError,
        DeviceError,
        ExamplesError,
        GateError,
        LogError,
        PackageError,
        RecipeError,
        RecorderError,
        ReportError,
        SigningError,
        SmokeError,
        TaskError,
        UnstableError,
    )
    from pytest_smoke.judge.checks.check import Check, Reason
    from pytest_smoke.outcome import Facts, Finding, Outcome, Verdict
    from pytest_smoke.recorder import Recorder
    from pytest_smoke.task import Task

    __version__: str

__all__ = [
    "AuditError",
    "BaselineError",
    "BisectStateError",
    "Check",
    "CheckpointError",
    "CorpusError",
    "CriterionError",
    "DeviceError",
    "ExamplesError",
    "Facts",
    "Finding",
    "GateError",
    "LogError",
    "Outcome",
    "PackageError",
    "Reason",
    "RecipeError",
    "Recorder",
    "RecorderError",
    "ReportError",
    "SigningError",
    "SmokeError",
    "Task",
    "TaskError",
    "UnstableError",
    "Verdict",
    "__version__",
]

_MODULES = {
    **dict.fromkeys(("Facts", "Finding", "Outcome", "Verdict"), "outcome"),
    **dict.fromkeys(("Check", "Reason"), "judge.checks.check"),
    "Recorder": "recorder",
    "Task": "task",
}
"""Modules of the public names; all others are errors."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing the package stays free."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "__version__":
        from importlib import metadata  # imports 40 modules, of which commands need none

        return metadata.version("pytest-verdict-smoke")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
