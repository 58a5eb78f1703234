"""HTML without a template engine: everything is escaped unless it is `Html`, and a page allows only its own scripts."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from pytest_smoke.plain import plain_text

GENERATOR = '<meta name="generator" content="pytest_smoke">'
"""By this line a page is known as one of ours."""
VOID = frozenset({"br", "circle", "col", "hr", "input", "line", "link", "meta", "path", "use"})
"""Elements that are written without a closing tag."""
STYLES = ("uPlot.min.css", "page.css")
"""Style sheets of every page."""
FIRST_SCRIPT = "theme.js"
"""Script of every page that is executed before anything is painted."""
LIBRARY = "uPlot.iife.min.js"
"""The plot library; a page that draws plots names it in front of its own script."""
LICENSE = "uPlot.LICENSE.txt"
"""Its license, which every copy must contain."""
SCRIPT_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&"}
"""No JSON inside a script can then end the script, or begin a comment."""


class Html(str):
    """Text that is HTML already: it is not escaped again."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Return text for an element or for a quoted attribute; `Html` as it is.

    Control characters, and those that reverse what a line shows, are escaped as in Python's source.
    """
    if isinstance(value, Html):
        return value
    return Html(html.escape(plain_text(str(value))))


def tag(name: str, /, *content: object, **attributes: object) -> Html:
    """Return an element: `tag("a", "text", href="#a", class_="b", aria_label="c")`.

    Content is escaped unless it is `Html`. Attributes that are None or False are left out, those that are True have
    no value.
    """
    opened = name
    for key, value in attributes.items():
        if value is True:
            opened += f" {_attribute(key)}"
        elif value is not None and value is not False:
            opened += f' {_attribute(key)}="{value if type(value) is Html else escape(value)}"'
    if name in VOID:
        return Html(f"<{opened}>")
    inner = "".join([part if type(part) is Html else escape(part) for part in content])
    return Html(f"<{opened}>{inner}</{name}>")


@cache
def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def join(parts: Iterable[object], separator: str = "") -> Html:
    """Join parts of a page; what is not `Html` is escaped."""
    return Html(separator.join([part if type(part) is Html else escape(part) for part in parts]))


def table(
    caption: str,
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numeric: Iterable[int] = (),
    **more: object,
) -> Html:
    """Return a table. The first cell of a row is its header; the columns in `numeric` are aligned at the right."""
    right = frozenset(numeric)
    names = [tag("th", name, scope="col", class_="num" if at in right else None) for at, name in enumerate(header)]
    lines = [
        tag("tr", *(_cell(at, cell, right) for at, cell in enumerate(row))) if not isinstance(row, Html) else row
        for row in rows
    ]
    inner = tag("table", tag("caption", caption), tag("thead", tag("tr", *names)), tag("tbody", *lines), **more)
    return scrolling(inner, caption)


def scrolling(content: Html, label: str) -> Html:
    """Return content that may be wider than the screen; the keyboard can scroll it."""
    return tag("div", content, class_="scroll", tabindex=0, role="region", aria_label=label)


def document(
    title: str, body: Html, *, data: Mapping[str, Any] | None = None, scripts: Sequence[str] = (), description: str = ""
) -> str:
    """Return a whole page that loads nothing.

    `body`: what `<main>` and all around it hold. `data`: values by the id of the `<script type="application/json">`
    that has them, for `Page.data(id)`. `scripts`: names of files in `assets/` that are executed in this order, behind
    the body. The page's security policy allows these scripts, the style sheets, and nothing else.
    """
    style = "".join(map(asset, STYLES))
    first, last = asset(FIRST_SCRIPT), "\n".join(map(asset, scripts))
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(_hash(script) for script in (first, last) if script)}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    head = join(
        (
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            Html(GENERATOR),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("meta", name="description", content=description or title),
            tag("title", title),
            tag("link", rel="icon", href="data:,"),
            Html(f"<style>{style}</style>"),
            Html(f"<script>{first}</script>"),
        ),
        "\n",
    )
    values = join((json_script(name, value) for name, value in (data or {}).items()), "\n")
    script = Html(f"<script>{last}</script>") if last else ""
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>',
            head,
            "</head>\n<body>",
            body,
            values,
            script,
            "</body>\n</html>\n",
        )
    )


def json_script(name: str, value: Any) -> Html:
    """Return a value as JSON that a script of the page can read. NaN and infinities must have been replaced."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).translate(SCRIPT_ESCAPES)
    return Html(f'<script type="application/json" id="{escape(name)}">{text}</script>')


def theme_switch() -> Html:
    """Return the control that switches between dark and light; hidden while scripts are off."""
    return tag("button", "Dark theme", type="button", id="theme", aria_pressed="false", hidden=True)


@cache
def asset(name: str) -> str:
    """Return the text of a file of `assets/`, the plot library with its license."""
    text = (files("pytest_smoke.page") / "assets" / name).read_text(encoding="utf-8")
    return f"/*!\n{asset(LICENSE)}*/\n{text}" if name == LIBRARY else text


def _cell(at: int, cell: object, right: frozenset[int]) -> Html:
    name, scope = ("td", None) if at else ("th", "row")
    return tag(name, cell, scope=scope, class_="num" if at in right else None)


def _hash(text: str) -> str:
    """Return the source of a security policy that allows one inline script or style sheet."""
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"
