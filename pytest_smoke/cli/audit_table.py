"""What `audit` prints: a row a source, then a sentence a fault."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pytest_smoke.mix.audit import Audit, Fault, Intent, percent
from pytest_smoke.mix.corpus import Corpus
from pytest_smoke.mix.draws import DrawnAudit, Draws

NUMBERS = ("rows", "shards", "weight", "estimated", "intended", "drawn")
"""Columns that are set to the right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """Everything that was found."""

    path: str
    corpus: Corpus
    mix: Intent
    audit: Audit | None
    """None where nothing is known but what was drawn."""
    draws: Draws | None
    drawn: DrawnAudit | None
    notes: tuple[str, ...]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All that makes the mix another one than was meant."""
        return (*(self.audit.faults if self.audit else ()), *(self.drawn.faults if self.drawn else ()))

    @property
    def warnings(self) -> tuple[str, ...]:
        """All else that should be read."""
        return (*(warning.text for warning in (self.drawn.warnings if self.drawn else ())), *self.notes)

    @property
    def as_intended(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    def sources(self) -> Iterator[dict[str, Any]]:
        """A row a source, largest estimated share first; None where something is not known or not meant."""
        shares = self.audit.shares if self.audit else {}
        drawn = self.drawn.shares if self.drawn else {}
        faults = self.faults
        for name in dict.fromkeys([*shares, *self.corpus.counts, *drawn]):
            meant = self.mix.sources.get(name)
            yield {
                "source": name,
                self.corpus.unit: self.corpus.counts.get(name, 0) if self.audit else None,
                "weight": meant.weight if meant else None,
                "estimated": shares.get(name),
                "intended": meant.share if meant else None,
                "drawn": drawn.get(name, 0.0) if self.drawn else None,
                "verdict": ", ".join(dict.fromkeys(fault.reason for fault in faults if fault.source == name)) or "ok",
            }


def show(found: Audited, form: str) -> None:
    """Print what was found."""
    if form == "json":
        _print_json(
            {
                "audited": found.path,
                "verdict": "as-intended" if found.as_intended else "not-as-intended",
                "sources": list(found.sources()),
                "samples_drawn": found.draws.samples if found.draws else None,
                "faults": [{"reason": f.reason, "source": f.source, "text": f.text} for f in found.faults],
                "notes": list(found.warnings),
            }
        )
        return
    lines = _table(list(found.sources()))
    lines += ["", f"{found.path}: the mix is {'as intended' if found.as_intended else 'not as intended'}"]
    lines += [f"  {fault.reason}: {fault.text}" for fault in found.faults]
    lines += [f"  note: {warning}" for warning in found.warnings]
    _print("\n".join(lines))


def show_error(path: str, text: str, form: str) -> None:
    """Print why nothing was audited: JSON to the standard output, as every result, text to the standard error."""
    if form == "json":
        _print_json({"audited": path, "verdict": "error", "text": text})
    else:
        print(text, file=sys.stderr)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    cells = [columns, *([_cell(name, row[name]) for name in columns] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    return [
        "  ".join(
            cell.rjust(width) if name in NUMBERS else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if column in ("estimated", "intended", "drawn"):
        return percent(value)
    if isinstance(value, str):
        return value if value.isprintable() else repr(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _print_json(tree: dict[str, Any]) -> None:
    print(json.dumps(tree, allow_nan=False))


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"  # a source's name need not be printable on this terminal
    print(text.encode(encoding, "backslashreplace").decode(encoding))
