"""GitHub's Markdown: text of unknown origin that is shown as it is, code, and tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_smoke.text import printable

BREAK = "<!-- -->"
"""A comment between two characters that GitHub would otherwise make a link of: `@name`, `#12`, `https://`."""
_SIGNS = str.maketrans(
    {sign: f"\\{sign}" for sign in "\\`*_[]|~#"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "<span>$</span>", "\n": " ", "\t": " "}
)
"""What starts emphasis, code, links, images, cells, headings, HTML or a formula (`$` has no shorter escape)."""
_LINK = re.compile(r"(?<=@)(?=\S)|(?<=#)(?=\w)|(?<=:)(?=//)|(?<=\bwww)(?=\.)", re.IGNORECASE)
"""Between which characters a `BREAK` prevents a mention, a reference and a bare address."""
_LIST = re.compile(r"^(?:\d{1,9}(?=[.)](?:\s|$))|(?=[-+=]))")
"""What starts a list or a heading at the beginning of a line, up to the sign."""


def escaped(text: str, *, limit: int | None = None) -> str:
    """Return Markdown that shows `text` on one line, in a table cell or elsewhere; at most `limit` characters of it."""
    return _marked(_one_line(text, limit))


def code(text: str, *, limit: int | None = None) -> str:
    """Return Markdown that shows `text` as code. Backticks would not do: no text in them can have a `|` in a table."""
    return f"<code>{_marked(_one_line(text, limit))}</code>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a table of cells that are Markdown."""
    return "\n".join(map(table_row, [header, ["---"] * len(header), *rows]))


def table_row(cells: Sequence[str]) -> str:
    """Render one line of a table."""
    return f"| {' | '.join(cells)} |"


def shortened(text: str, limit: int) -> str:
    """Return `text`, or its first `limit` characters with an ellipsis."""
    return text if len(text) <= limit else f"{text[: max(limit - 1, 0)]}…"


def _one_line(text: str, limit: int | None) -> str:
    words = " ".join(text.split())
    return printable(words if limit is None else shortened(words, limit))


def _marked(text: str) -> str:
    return _LINK.sub(BREAK, _LIST.sub(r"\g<0>\\", text.translate(_SIGNS), count=1))
