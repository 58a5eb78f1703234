"""Spans for decoders: `trim_boundary` gives offsets, `trim_span` offsets and value."""

from pytest_smoke.ner.trim import trim_boundary, trim_span

__all__ = ["trim_boundary", "trim_span"]
