"""A stage that ran to its end and found something wrong."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from pytest_smoke.train.task import TaskError

EXPORT_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


class ExportError(TaskError):
    """The stage cannot pass; the message says why, `figures` hold what was measured before."""

    def __init__(self, reason: str, text: str, figures: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.figures = dict(figures or {})


def missing_libraries() -> list[str]:
    """Optional libraries of the export that are not installed."""
    return [name for name in EXPORT_LIBRARIES if find_spec(name) is None]
