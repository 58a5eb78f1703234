"""Trim spans in a decoder: `trim_boundary` returns offsets, `trim_span` offsets and the value."""

from pytest_smoke.ner.trim import trim_boundary, trim_span

__all__ = ["trim_boundary", "trim_span"]
