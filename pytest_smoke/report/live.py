"""The lines that show running smoke runs: plain ones for logs and simple terminals, and those that `rich` draws."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_smoke.report.layout import short_ids
from pytest_smoke.report.run_status import (
    RunStatus,
    activity_text,
    alarm_text,
    finished_text,
    left_text,
    memory_text,
)
from pytest_smoke.report.sparkline import sparkline
from pytest_smoke.text import number, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

NAMED = 3
"""Runs that a plain line names."""
BAR_WIDTH = (4, 16)
"""Columns of the bar that shows the share of the steps, at least and at most; none if there are fewer."""
NAME_WIDTH = 32
"""Columns of the name of a run, at most."""
CURVE_WIDTH = (8, 40)
"""Columns of the curve of the loss, at least and at most."""


def minute_line(runs: Sequence[RunStatus], *, finished: int, expected: int, elapsed: float, now: float) -> str:
    """Return what a log shows of a session once a minute: what has finished, and what runs."""
    names = _names(runs)
    parts = []
    for run in runs[:NAMED]:
        figures = [_printable(activity_text(run, now))]
        figures += [f"loss {number(run.loss)}"] if run.loss is not None else []
        figures += [left] if (left := left_text(run, now)) else []
        parts.append(f"{names[run.id]} ({', '.join(figures)})")
    parts += [f"{len(runs) - NAMED} more"] if len(runs) > NAMED else []
    running = f"; running: {', '.join(parts)}" if parts else ""
    return f"smoke: {finished_text(finished, expected, elapsed)}{running}"


def plain_line(runs: Sequence[RunStatus], *, width: int, now: float) -> str:
    """Return one line for a terminal: the figures of one run, or where each of several is."""
    if len(runs) == 1:
        (run,) = runs
        figures = [_printable(activity_text(run, now))]
        figures += [f"loss {number(run.loss)}"] if run.loss is not None else []
        figures += [f"lr {number(run.lr, 3)}"] if run.lr is not None else []
        text = "  ".join(["", *figures, left_text(run, now)])
    else:
        names = _names(runs)
        text = "  " + ", ".join(f"{names[run.id]} {_printable(activity_text(run, now))}" for run in runs)
    return text.rstrip()[: width - 1]


class RichDisplay:
    """Draws with `rich`. Raises ImportError if that is not installed."""

    def __init__(self, *, encoding: str, colours: bool) -> None:
        from rich.console import Console

        self._buffer = _Encoded(encoding)
        self._console: Console = Console(
            file=self._buffer,
            force_terminal=True,
            color_system="standard" if colours else None,
            no_color=not colours,
            legacy_windows=False,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._draws_bars = not self._console.options.ascii_only

    def lines(
        self,
        runs: Sequence[RunStatus],
        *,
        finished: int,
        expected: int,
        elapsed: float,
        now: float,
        width: int,
        height: int,
    ) -> list[str]:
        """Return at most `height` lines of at most `width` columns, with their escape sequences."""
        names = _names(runs)
        heads = self._heads(runs, names, now, width)
        rows: list[Text] = []
        if expected > 1:
            rows.append(self._text((finished_text(finished, expected, elapsed), "dim")))
        has_curves = len(rows) + 2 * len(runs) <= height
        for run, head in zip(runs, heads, strict=True):
            rows.append(head)
            if has_curves and run.loss is not None:
                rows.append(self._curve(run, width))
        if len(rows) > height:
            hidden = len(rows) - height + 1
            rows = [*rows[: height - 1], self._text((f"  and {hidden} more", "dim"))] if height > 1 else rows[:1]
        return [self._rendered(row, width) for row in rows]

    def _heads(self, runs: Sequence[RunStatus], names: Mapping[str, str], now: float, width: int) -> list[Text]:
        """Return the first line of each run, in columns."""
        from rich.cells import cell_len

        cells = [
            (_cropped(names[run.id]), _printable(activity_text(run, now)), left_text(run, now), memory_text(run))
            for run in runs
        ]
        widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
        room = width - 1 - sum(size + 2 for size in widths if size) - 2
        bar = min(BAR_WIDTH[1], room) if room >= BAR_WIDTH[0] else 0
        lines = []
        for run, row in zip(runs, cells, strict=True):
            name, doing, left, memory = (
                cell + " " * (size - cell_len(cell)) for cell, size in zip(row, widths, strict=True)
            )
            line = self._text((f"  {name}", "bold"), (f"  {doing}", ""))
            if bar:
                line.append("  ")
                line.append_text(self._bar(run, bar))
            line.append(f"  {left}" if left.strip() else "", "cyan")
            line.append(f"  {memory}" if memory.strip() else "", "magenta")
            lines.append(line)
        return lines

    def _bar(self, run: RunStatus, width: int) -> Text:
        from rich.progress_bar import ProgressBar

        bar = ProgressBar(total=max(1, run.planned_steps), completed=run.steps, width=width)
        parts = [(part.text, part.style or "") for part in self._console.render(bar) if part.text != "\n"]
        missing = width - sum(len(text) for text, _ in parts)  # without colours, only the completed part is drawn
        return self._text(*parts, (" " * missing, ""))

    def _curve(self, run: RunStatus, width: int) -> Text:
        """Return the second line of a run: the curve of the loss, its value, and how far it is from an alarm."""
        loss = f" {number(run.loss)}" if run.loss is not None else ""
        lr = f"  lr {number(run.lr, 3)}" if run.lr is not None else ""
        alarm = alarm_text(run)
        least, most = CURVE_WIDTH
        room = width - len(f"    loss {loss}{lr}  {alarm}") - 1
        if room < least and lr:
            room, lr = room + len(lr), ""
        bars = sparkline(run.losses, width=max(least, min(most, room))) if self._draws_bars else ""
        style = "yellow" if run.is_confirming or run.rise > run.alarm / 2 > 0 else "dim"
        parts = [("    loss ", "dim"), (bars, "green"), (loss, ""), (lr, "dim"), (f"  {alarm}" if alarm else "", style)]
        return self._text(*parts)

    def _rendered(self, line: Text, width: int) -> str:
        line.truncate(width - 1, overflow="ellipsis" if self._draws_bars else "crop")
        line.rstrip()
        self._buffer.seek(0)
        self._buffer.truncate()
        self._console.print(line, end="", soft_wrap=True)
        return self._buffer.getvalue()

    def _text(self, *parts: tuple[str, object]) -> Text:
        from rich.text import Text

        line = Text()
        for text, style in parts:
            line.append(text, style)  # type: ignore[arg-type]  # a style, or the name of one
        return line


class _Encoded(io.StringIO):
    """A text stream with the encoding of a terminal, by which `rich` chooses its characters."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]  # nobody sets it
        return self._encoding


def _names(runs: Sequence[RunStatus]) -> dict[str, str]:
    return {run_id: _printable(name) for run_id, name in short_ids([run.id for run in runs]).items()}


def _printable(text: str) -> str:
    """Return a text without what a terminal would interpret, on one line."""
    return " ".join(printable(text).split("\n")).replace("\t", " ")


def _cropped(name: str) -> str:
    """Shorten a long name at its beginning: the end tells cells and modes apart."""
    return name if len(name) <= NAME_WIDTH else "..." + name[3 - NAME_WIDTH :]
