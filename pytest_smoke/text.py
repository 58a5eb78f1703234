"""Rows of cells as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

NOT_CHECKED = "not checked"
WORDS = {"pass": "pass", "warn": "WARN", "fail": "FAIL", "not-checked": NOT_CHECKED}
"""A finding's status as a table says it."""


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line a row, each column as wide as its widest cell, two spaces apart; all rows have as many cells."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
