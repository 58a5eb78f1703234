"""A comparison of two runs, as text for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_smoke.compare.comparison import ComparisonRow, RunComparison
from pytest_smoke.report.markdown import escaped
from pytest_smoke.report.markdown import table as markdown_table
from pytest_smoke.text import listed, number, table

HEADER = ("", "OLD", "NEW", "change")


def comparison_text(comparison: RunComparison) -> str:
    """Render with aligned columns, for a terminal."""
    heads = ((f"OLD {comparison.old}", comparison.old_text), (f"NEW {comparison.new}", comparison.new_text))
    parts = [
        "\n".join(f"{head}\n    {sentence}" for head, sentence in heads),
        "\n".join(table([HEADER, *map(_cells, comparison.rows)])),
        *_unchanged(comparison),
        comparison.alignment,
    ]
    if comparison.settings:
        settings = table([_cells(row)[:3] for row in comparison.settings], indent="  ")
        parts.append("\n".join(["settings that differ", *settings]))
    if comparison.notes:
        parts.append("\n".join(f"note: {note}" for note in comparison.notes))
    return "\n\n".join(parts) + "\n"


def comparison_markdown(comparison: RunComparison) -> str:
    """Render in GitHub's Markdown, for a pull request or a CI summary."""
    parts = [
        f"### {escaped(comparison.old)} → {escaped(comparison.new)}",
        _escaped_table(HEADER, comparison.rows),
        *(escaped(sentence) + "." for sentence in _unchanged(comparison)),
        f"- OLD: {escaped(comparison.old_text)}\n- NEW: {escaped(comparison.new_text)}",
        escaped(comparison.alignment) + ".",
    ]
    if comparison.settings:
        parts.append(_escaped_table(("setting", "OLD", "NEW"), comparison.settings))
    return "\n\n".join([*parts, *(f"- {escaped(note)}" for note in comparison.notes)]) + "\n"


def _unchanged(comparison: RunComparison) -> list[str]:
    values = [f"{name} was {_figure(value, None)}" for name, value in comparison.unchanged.items()]
    return [f"{listed(values, limit=len(values))} at every evaluation of both runs"] if values else []


def _cells(row: ComparisonRow) -> tuple[str, ...]:
    return row.name, _figure(row.old, row.old_step), _figure(row.new, row.new_step), row.change


def _figure(value: str | float | None, step: int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    shown = f"{value:,}" if isinstance(value, int) else number(value)
    return f"{shown} (step {step})" if step is not None else shown


def _escaped_table(header: Sequence[str], rows: Sequence[ComparisonRow]) -> str:
    return markdown_table(header, [[escaped(cell) for cell in _cells(row)[: len(header)]] for row in rows])
