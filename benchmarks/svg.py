"""Line plots as SVG text, with nothing but the standard library: panels with axes, polylines, marks and a key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

Points = Sequence[tuple[float, float]]

FONT = 'font-family="Helvetica, Arial, sans-serif"'
INK, GRID = "#333333", "#e3e3e3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One polyline."""

    points: Points
    colour: str
    width: float = 1.6
    opacity: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A vertical line at `x`, named at its top."""

    x: float
    text: str
    colour: str
    row: int = 0
    """Line of text its name stands on, from the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes, placed in pixels."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    y_label: str
    x_label: str = ""
    title: str = ""
    log: bool = False
    """Logarithmic y axis; what is below it is drawn at its foot."""

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point; y is kept within the axis, and what is not finite is at its top."""
        low, high = self.y
        y = min(max(y, low), high) if math.isfinite(y) else high
        if self.log:
            low, high, y = math.log10(low), math.log10(high), math.log10(y)
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        return self.left + across * self.width, self.top + (1 - (y - low) / (high - low)) * self.height

    def draw(self, lines: Sequence[Line], marks: Sequence[Mark] = ()) -> str:
        """Grid, axes, lines, marks."""
        right, foot = self.left + self.width, self.top + self.height
        out = []
        for y in self.y_ticks:
            _, at = self.at(self.x[0], y)
            out.append(f'<path d="M{self.left:.1f} {at:.1f}H{right:.1f}" stroke="{GRID}"/>')
            out.append(_text(self.left - 6, at + 4, f"{y:g}", anchor="end"))
        for x in self.x_ticks:
            at, _ = self.at(x, self.y[0])
            out.append(f'<path d="M{at:.1f} {foot:.1f}v4" stroke="{INK}"/>')
            if self.x_label:
                out.append(_text(at, foot + 17, f"{x:,.0f}", anchor="middle"))
        out.append(f'<path d="M{self.left:.1f} {self.top:.1f}V{foot:.1f}H{right:.1f}" fill="none" stroke="{INK}"/>')
        out += [self._line(line) for line in lines]
        for mark in marks:
            at, _ = self.at(mark.x, self.y[0])
            out.append(f'<path d="M{at:.1f} {self.top:.1f}V{foot:.1f}" stroke="{mark.colour}" stroke-dasharray="4 3"/>')
            aside, anchor = (-4, "end") if at > self.left + self.width / 2 else (4, "start")
            out.append(_text(at + aside, self.top + 11 + 15 * mark.row, mark.text, anchor=anchor, colour=mark.colour))
        middle = self.top + self.height / 2
        out.append(_text(self.left - 44, middle, self.y_label, anchor="middle", turned=True))
        if self.x_label:
            out.append(_text(self.left + self.width / 2, foot + 34, self.x_label, anchor="middle"))
        if self.title:
            out.append(_text(self.left, self.top - 10, self.title, bold=True))
        return "\n".join(out)

    def _line(self, line: Line) -> str:
        pairs = " ".join("{:.1f},{:.1f}".format(*self.at(x, y)) for x, y in line.points)
        return (
            f'<polyline points="{pairs}" fill="none" stroke="{line.colour}" stroke-width="{line.width}" '
            f'stroke-opacity="{line.opacity}" stroke-linejoin="round"/>'
        )


def key(left: float, top: float, names: Sequence[tuple[str, str]]) -> str:
    """Colours and what they are, one below the other."""
    out = []
    for number, (colour, name) in enumerate(names):
        at = top + 18 * number
        out.append(f'<path d="M{left:.1f} {at - 4:.1f}h22" stroke="{colour}" stroke-width="2.5"/>')
        out.append(_text(left + 28, at, name))
    return "\n".join(out)


def page(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """The whole picture on white."""
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">\n<rect width="100%" height="100%" fill="#ffffff"/>\n'
        f"{_text(16, 26, title, size=16, bold=True)}\n{inside}\n</svg>\n"
    )


def write(path: Path, text: str) -> None:
    """Beside it first, so that no half picture is left."""
    beside = path.with_suffix(".tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    colour: str = INK,
    size: int = 12,
    bold: bool = False,
    turned: bool = False,
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}"{weight} {FONT}{turn}>'
        f"{escape(text)}</text>"
    )
