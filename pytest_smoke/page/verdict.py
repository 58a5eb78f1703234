"""A verdict as a badge: a colour, a shape and its words."""

from __future__ import annotations

from functools import cache

from pytest_smoke.outcome import VERDICTS
from pytest_smoke.page.html import Html, tag

SHAPES = {
    "promote": "M3 8.5l3.2 3.2L13 4.8",
    "unstable": "M4 4l8 8M12 4l-8 8",
    "hold": "M5.5 3.5v9M10.5 3.5v9",
    "invalid": "M8 2.5a5.5 5.5 0 1 0 .01 0M4.2 4.2l7.6 7.6",
    "inconclusive": "M5 6a3 3 0 1 1 4.4 2.6C8.3 9.2 8 9.6 8 10.4M8 13v.1",
    "error": "M8 3v6.5M8 12.8v.1",
}
"""Path of the shape of each verdict, in a square of 16 pixels: it tells them apart without colours."""


def badge(word: str, label: str) -> Html:
    """Return the badge of a verdict. `label`: its text, such as `unstable (rise)`; `word`: a verdict."""
    return tag("span", _shape(word), label, class_=f"verdict {word if word in VERDICTS else 'error'}")


@cache
def _shape(word: str) -> Html:
    path = tag(
        "path",
        d=SHAPES.get(word, SHAPES["error"]),
        fill="none",
        stroke="currentColor",
        stroke_width="2.2",
        stroke_linecap="round",
        stroke_linejoin="round",
    )
    return tag("svg", path, viewBox="0 0 16 16", aria_hidden="true")
