"""A comparison as text and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_smoke.report.compare import Comparison
from pytest_smoke.report.compare_rows import Row
from pytest_smoke.text import table

HEADER = ("", "OLD", "NEW", "change")


def text(found: Comparison) -> str:
    """Aligned columns, for a terminal."""
    heads = ((f"OLD {found.old}", found.old_text), (f"NEW {found.new}", found.new_text))
    parts = [
        "\n".join(f"{head}\n    {sentence}" for head, sentence in heads),
        _columns([HEADER, *map(_cells, found.rows)]),
        *_unmoved(found),
        found.alignment,
    ]
    if found.settings:
        parts.append("settings that differ\n" + _columns([_cells(row)[:3] for row in found.settings], indent="  "))
    return "\n\n".join([*parts, *(["\n".join(f"note: {note}" for note in found.notes)] if found.notes else [])]) + "\n"


def markdown(found: Comparison) -> str:
    """GitHub's tables, for a pull request or a CI summary."""
    title = f"### {_escaped(found.old)} → {_escaped(found.new)}"
    verdicts = f"- OLD: {_escaped(found.old_text)}\n- NEW: {_escaped(found.new_text)}"
    table = _table(HEADER, [_cells(row) for row in found.rows])
    same = [_escaped(sentence) + "." for sentence in _unmoved(found)]
    parts = [title, table, *same, verdicts, _escaped(found.alignment) + "."]
    if found.settings:
        parts.append(_table(("setting", "OLD", "NEW"), [_cells(row)[:3] for row in found.settings]))
    return "\n\n".join([*parts, *(f"- {_escaped(note)}" for note in found.notes)]) + "\n"


def _unmoved(found: Comparison) -> list[str]:
    values = [f"{name} {_figure(value, None)}" for name, value in found.unmoved.items()]
    return [f"the same at every evaluation of both: {', '.join(values)}"] if values else []


def _cells(row: Row) -> tuple[str, ...]:
    return row.name, _figure(row.old, row.old_step), _figure(row.new, row.new_step), row.change


def _figure(value: str | float | None, step: int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return f"{shown} (step {step})" if step is not None else shown


def _columns(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    return "\n".join((indent + line).rstrip() for line in table(rows))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)


def _escaped(cell: str) -> str:
    for sign in "\\|`*_<":
        cell = cell.replace(sign, f"\\{sign}")
    return cell.replace("\n", " ")
