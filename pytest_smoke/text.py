"""Numbers, lists, tables and names as text. Every message formats them here, so that they look the same everywhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from math import isfinite, isnan

NOT_CHECKED = "not checked"
STATUS_WORDS = {"pass": "pass", "warn": "warn", "fail": "FAIL", "not-checked": NOT_CHECKED}
"""A finding's status as a table prints it."""
LISTED = 5
"""Names that a sentence lists before it counts the rest."""


def either(names: Sequence[str]) -> str:
    """Return `a`, `a or b`, `a, b or c`."""
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def number(value: float, digits: int = 4) -> str:
    """Format with `digits` significant digits: `2.608`, `0.0031`, `1.2e-05`; `NaN`, `inf`, `-inf`."""
    return "NaN" if isnan(value) else f"{value:.{digits}g}"


def signed(value: float, digits: int = 3) -> str:
    """Format a difference with its sign: `+0.196`."""
    return "NaN" if isnan(value) else f"{value:+.{digits}g}"


def percent(share: float, *, decimals: int | None = None) -> str:
    """Format a share: `56 %` from 10 % on, `5.6 %` from 0.1 % on, `0.012 %` below.

    `decimals` fixes the number of decimals, for shares that are compared with each other: `35.0 %`, `5.6 %`.
    """
    value = 100 * share
    if not isfinite(value):
        return f"{number(value)} %"
    if decimals is not None:
        return f"{value:,.{decimals}f} %"
    if abs(value) >= 9.95:
        return f"{value:,.0f} %"
    return f"{value:.1f} %" if abs(value) >= 0.095 or not value else f"{value:.2g} %"


def signed_percent(share: float) -> str:
    """Format a relative change with its sign: `+7.5 %`."""
    return percent(share) if share < 0 else f"+{percent(share)}"


def relative(change: float, level: float) -> str:
    """Format a change relative to `level` as ` (+7.5 %)`; empty if the level is 0 or the ratio says nothing."""
    if not level or not abs(change / level) < 100:
        return ""
    return f" ({signed_percent(change / abs(level))})"


def count(amount: int, noun: str, plural: str = "") -> str:
    """Format a number of things: `1 step`, `2,500 steps`, `3 entries` with `plural="entries"`."""
    return f"{amount:,} {noun if amount == 1 else plural or noun + 's'}"


def every(amount: int, noun: str) -> str:
    """Name all of some things, at least one: `all 600 steps`, or `the only step`."""
    return f"the only {noun}" if amount == 1 else f"all {count(amount, noun)}"


def steps(first: int, last: int) -> str:
    """Name a range of steps: `steps 756-818`, or `step 756`."""
    return f"steps {first}-{last}" if last != first else f"step {first}"


def seconds(value: float) -> str:
    """Format a duration: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if value < 9.95:
        return f"{value:.1f} s"
    whole = int(value + 0.5)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def file_size(size_bytes: float) -> str:
    """Format a size in powers of 1000: `812 bytes`, `43.7 kB`, `1.2 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 999.95 or unit == "GB":
            break
        size_bytes /= 1000
    return f"{size_bytes:.0f} bytes" if unit == "bytes" else f"{size_bytes:.1f} {unit}"


def listed(names: Iterable[object], *, limit: int = LISTED, empty: str = "none") -> str:
    """Join names: `a, b and c`, or `a, b, c, d, e and 4 more`; `empty` if there are none."""
    found = [str(name) for name in names]
    if not found:
        return empty
    if len(found) > limit:
        return f"{', '.join(found[:limit])} and {len(found) - limit} more"
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def closest(word: str, known: Collection[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that `word` most likely means, ignoring case and `-` against `_`; None if none is near."""
    by_folded = {_folded(one): one for one in known}
    near = get_close_matches(_folded(word), by_folded, n=1, cutoff=cutoff)
    return by_folded[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.7, noun: str = "known") -> str:
    """Suggest the nearest known name (`did you mean X?`); list all of them (`known: a, b`) if none is near."""
    names = list(known)
    near = closest(word, names, cutoff=cutoff)
    return f"did you mean {near}?" if near else f"{noun}: {', '.join(names) or 'none'}"


def printable(text: str, encoding: str | None = None) -> str:
    """Escape what a terminal must not interpret or cannot show: control characters, and what `encoding` lacks."""
    codec = encoding or "utf-8"
    safe = "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)
    return safe.encode(codec, "backslashreplace").decode(codec)


def verdict_label(verdict: str, reason: str) -> str:
    """Format a verdict with its reason: `hold (criterion-failed)`."""
    return f"{verdict} ({reason})" if reason else verdict


def table(rows: Sequence[Sequence[str]], *, right: Collection[int] = (), indent: str = "") -> list[str]:
    """Align rows of cells into lines: two spaces between columns, the columns in `right` flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        (
            indent
            + "  ".join(
                cell.rjust(width) if at in right else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        ).rstrip()
        for row in rows
    ]


def _folded(word: str) -> str:
    return word.lower().replace("-", "_")
