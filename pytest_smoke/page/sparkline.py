"""A loss curve as a small SVG for a table row."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from pytest_smoke.page.html import Html, tag
from pytest_smoke.text import number

WIDTH, HEIGHT, MARGIN = 120.0, 30.0, 3.0
"""Size of the picture, and what the line keeps from its edges, in pixels."""
POINTS = 60
"""Points of the line at most: one for every two pixels."""


def sparkline(losses: Sequence[float]) -> Html:
    """Return the curve; a cross where a block has a value that is not finite. Empty without a curve."""
    values = _blocks(losses)
    if not values:
        return Html("")
    finite = [value for value in values if isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    across = (WIDTH - 2 * MARGIN) / max(len(values) - 1, 1)
    line, crosses, command = [], [], "M"
    for at, value in enumerate(values):
        x = MARGIN + at * across
        if not isfinite(value):
            crosses.append(f"M{x - 2.5:.1f} 4.5l5 5m0 -5l-5 5")
            command = "M"
            continue
        # Halved first, because high - low may overflow.
        share = (value / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.0
        line.append(f"{command}{x:.1f} {HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN):.1f}")
        command = "L"
    broken = f"; {len(crosses)} of {len(values)} blocks have a value that is not finite" if crosses else ""
    return tag(
        "svg",
        tag("path", d="".join(line)) if line else "",
        tag("path", d="".join(crosses), class_="broken") if crosses else "",
        class_="spark",
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"loss from {number(losses[0])} to {number(losses[-1])}{broken}",
    )


def _blocks(losses: Sequence[float]) -> list[float]:
    """Return the means of at most `POINTS` blocks; NaN for a block with a value that is not finite."""
    size = -(-len(losses) // POINTS) or 1
    blocks = [losses[at : at + size] for at in range(0, len(losses), size)]
    return [sum(one / len(block) for one in block) if all(map(isfinite, block)) else float("nan") for block in blocks]
