"""A stage that ran to its end and found something wrong."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from pytest_smoke.run.task import TaskError

EXPORT_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


class Broken(TaskError):
    """The stage cannot pass; the message says why, `figures` hold what was measured before."""

    def __init__(self, reason: str, text: str, figures: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.figures = dict(figures or {})


def need_export_libraries() -> None:
    """Raises TaskError where an optional library is not installed, with the command that installs all of them."""
    missing = [name for name in EXPORT_LIBRARIES if find_spec(name) is None]
    if missing:
        command = 'pip install "pytest-verdict-smoke[export]"'
        raise TaskError(f"the pipeline needs {', '.join(missing)}: {command}")
