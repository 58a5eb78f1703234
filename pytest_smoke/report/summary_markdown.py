"""The outcomes of a session as Markdown: `summary.md`, and the summary of a step on GitHub."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.report.ablations import Ablations, ablations
from pytest_smoke.report.layout import short_ids
from pytest_smoke.report.markdown import code, escaped, table, table_row
from pytest_smoke.report.order import worst_first
from pytest_smoke.report.terminal import COLUMNS, by_gravity, curve_line, hints, label, table_rows
from pytest_smoke.text import NOT_CHECKED, STATUS_WORDS, count

LIMIT_BYTES = 1024 * 1024
"""Size of the summaries of one step on GitHub, at most; of a larger one GitHub shows nothing."""
TABLE_SHARE = 0.5
"""Share of the summary that the table of verdicts may fill; the rest is for reasons and hints of those that failed."""
RESERVED_BYTES = 2500
"""Room for the six sentences that say what was left out, and for the last line: 100 characters of a folder's name
are up to 1,400 bytes of Markdown."""
NAME_CHARS, SENTENCE_CHARS = 200, 600
"""Longest name, and longest sentence, that are shown whole."""
PROBLEMS = 20
"""Sentences about the session that are shown; the log has all of them."""
FINDINGS = 5
"""Findings of a smoke run that are listed."""
WIDTH = 100
"""Characters of a line with a curve."""


def summary_markdown(
    outcomes: Sequence[Outcome], *, folder: str = "", problems: Sequence[str] = (), limit_bytes: int = LIMIT_BYTES
) -> str:
    """Render at most `limit_bytes` of UTF-8; empty if not even the first lines fit.

    `folder` is the report folder, as a reader knows it; empty if there is none. `problems` are sentences about the
    session, such as which smoke runs have no outcome.
    """
    ordered = worst_first(outcomes)
    names = short_ids([outcome.id for outcome in ordered])
    parts = _Parts(limit_bytes - RESERVED_BYTES)
    if not parts.add(f"### Smoke runs: {_counts(ordered)}\n"):
        return ""
    said = [f"**ERROR:** {escaped(problem, limit=SENTENCE_CHARS)}\n" for problem in problems]
    shown = parts.add_all(said[:PROBLEMS])
    if shown < len(said):
        parts.more(f"{count(len(said) - shown, 'more error')} left out.")
    _add_table(parts, ordered, names, int(limit_bytes * TABLE_SHARE))
    failed = [outcome for outcome in ordered if _failed(outcome)]
    shown = parts.add_all(_failure(outcome, names[outcome.id]) for outcome in failed)
    if shown < len(failed):
        parts.more(f"Reasons and hints of {count(len(failed) - shown, 'more smoke run')} are left out.")
    tables = ablations(outcomes)
    shown = parts.add_all(map(_ablations, tables))
    if shown < len(tables):
        parts.more(f"{count(len(tables) - shown, 'more ablation table')} left out.")
    warned = [(names[outcome.id], one) for outcome in ordered for one in _warnings(outcome)]
    if warned:
        _add_warnings(parts, warned)
    if folder:
        where = f"`index.html` and `verdicts.json` in the report folder {code(folder, limit=NAME_CHARS // 2)}"
        parts.more(f"Curves, and all checks with their numbers: {where}.")
    return parts.text()


class _Parts:
    """Blocks of a text of limited size."""

    def __init__(self, room: int) -> None:
        self.room, self._parts = room, list[str]()
        """Bytes that are left."""

    def add(self, text: str) -> bool:
        """Add a block if there is room for it."""
        size = len(text.encode()) + 1
        if size > self.room:
            return False
        self.room -= size
        self._parts.append(text)
        return True

    def add_all(self, texts: Iterable[str]) -> int:
        """Add blocks until there is no room for one; return how many were added."""
        added = 0
        for text in texts:
            if not self.add(text):
                break
            added += 1
        return added

    def more(self, text: str) -> None:
        """Add one of the sentences that room is reserved for."""
        self._parts.append(f"{text}\n")

    def text(self) -> str:
        """Return all blocks."""
        return "\n".join(self._parts)


def _counts(outcomes: Sequence[Outcome]) -> str:
    """Count the verdicts, the worst first: `1 unstable, 2 promoted`."""
    words = (f"{outcome.completed} ok" if outcome.completed else outcome.verdict for outcome in outcomes)
    found = Counter("promoted" if word == "promote" else word for word in words)
    return ", ".join(f"{number:,} {word}" for word, number in found.items()) or "none"


def _add_table(parts: _Parts, outcomes: Sequence[Outcome], names: dict[str, str], room: int) -> None:
    cells = [(outcome, table_rows(outcome, names[outcome.id])) for outcome in outcomes]
    used = [at for at in range(len(COLUMNS)) if any(row[at] not in ("", "-") for _, rows in cells for row in rows)]
    lines = [table([COLUMNS[at] for at in used], [])]
    room -= len(lines[0].encode())
    shown = 0
    for outcome, rows in cells:
        text = "\n".join(table_row([_cell(outcome, row, at) for at in used]) for row in rows)
        room -= len(text.encode()) + 1
        if room < 0:
            break
        lines.append(text)
        shown += 1
    if shown and parts.add("\n".join(lines) + "\n"):
        if shown < len(outcomes):
            left = count(len(outcomes) - shown, "more smoke run")
            parts.more(f"{left} left out of this table, which shows the worst ones.")
    elif outcomes:
        parts.more(f"{count(len(outcomes), 'smoke run')} left out: there is no room for a table.")


def _cell(outcome: Outcome, row: Sequence[str], at: int) -> str:
    if COLUMNS[at] == "smoke run" and row[at]:
        return escaped(row[at], limit=NAME_CHARS) if row[at].startswith(" ") else code(row[at], limit=NAME_CHARS)
    shown = escaped(row[at], limit=NAME_CHARS)
    return f"**{shown}**" if COLUMNS[at] == "verdict" and _failed(outcome) and not row[at].startswith(" ") else shown


def _failure(outcome: Outcome, name: str) -> str:
    """Render what a failure text says: the reason, the curve, the other findings, hints, and the place."""
    lines = [f"#### {code(name, limit=NAME_CHARS)}: {escaped(label(outcome), limit=NAME_CHARS)}", ""]
    lines.append(escaped(outcome.text, limit=SENTENCE_CHARS))
    lines += ["", code(curve_line(outcome, WIDTH))] if outcome.curve.get("loss") else []
    others = [
        finding
        for finding in by_gravity(outcome)
        if finding.status in ("fail", "warn") and finding.id != outcome.decided_by
    ]
    items = [_finding(finding) for finding in others[:FINDINGS]]
    items += [f"{count(len(others) - FINDINGS, 'more finding')}"] if len(others) > FINDINGS else []
    items += [f"hint: {escaped(hint, limit=SENTENCE_CHARS)}" for hint in hints(outcome)]
    items.append(f"at {code(outcome.place, limit=NAME_CHARS)}")
    if not outcome.of_test:
        words = shlex.join(["pytest", "--smoke", *map(str, outcome.facts.rerun_options), outcome.id])
        items.append(f"rerun: {code(words, limit=SENTENCE_CHARS)}")
    return "\n".join([*lines, "", *(f"- {item}" for item in items), ""])


def _finding(finding: Finding) -> str:
    text = escaped(finding.text.removeprefix(f"{NOT_CHECKED}: "), limit=SENTENCE_CHARS)
    return f"{STATUS_WORDS[finding.status]} {code(finding.id, limit=NAME_CHARS)}: {text}"


def _ablations(found: Ablations) -> str:
    rows = [[escaped(cell, limit=NAME_CHARS) for cell in row] for row in found.rows]
    header = [escaped(name, limit=NAME_CHARS) for name in found.header]
    return f"#### {escaped(found.title, limit=SENTENCE_CHARS)}\n\n{table(header, rows)}\n"


def _warnings(outcome: Outcome) -> Iterator[Finding]:
    return (finding for finding in outcome.findings if outcome.promoted and finding.status == "warn")


def _add_warnings(parts: _Parts, warned: Sequence[tuple[str, Finding]]) -> None:
    head = f"<details>\n<summary>{count(len(warned), 'warning')} of promoted smoke runs</summary>\n"
    tail = "</details>\n"
    lines = _Parts(parts.room - len(head + tail) - 2)
    shown = lines.add_all(_warning(name, finding) for name, finding in warned)
    if shown:
        parts.add("\n".join([head, lines.text(), tail]))
    if shown < len(warned):
        parts.more(f"{count(len(warned) - shown, 'more warning')} left out.")


def _warning(name: str, finding: Finding) -> str:
    hint = f" Hint: {escaped(finding.hint, limit=SENTENCE_CHARS)}" if finding.hint else ""
    return f"- {code(name, limit=NAME_CHARS)}: {_finding(finding)}.{hint}"


def _failed(outcome: Outcome) -> bool:
    return not outcome.promoted and not outcome.completed
