"""A stage that ran to its end and found something wrong."""

from __future__ import annotations

from importlib.util import find_spec

EXPORT_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


def missing_libraries() -> list[str]:
    """Optional libraries of the export that are not installed."""
    return [name for name in EXPORT_LIBRARIES if find_spec(name) is None]
