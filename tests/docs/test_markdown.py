"""Links resolve and prose is wrapped, on every page that a person writes or that is generated."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WIDTH = 100
PAGES = sorted(
    [*(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")), *(ROOT / "docs").rglob("*.md")]
)
FENCED = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    """Drop fenced blocks and code spans, in which brackets are no links."""
    text = FENCED.sub("", text)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "code", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    text = FENCED.sub("", text)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        count = sum(name == anchor or re.fullmatch(rf"{re.escape(anchor)}-\d+", name) is not None for name in found)
        found.add(f"{anchor}-{count}" if count else anchor)
    return found


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a page to a file or heading that does not exist."""
    found = []
    text = without_code(page.read_text())
    for link in [*LINK.findall(text), *re.findall(r'\b(?:src|srcset|href)="([^"]+)"', text)]:
        if re.match(r"https?:|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            found.append(link)
    return found


def long_lines(text: str) -> list[str]:
    """Return the lines of prose that are too long. Tables, code, and lines that a link makes long are not prose."""
    text = FENCED.sub("", text)
    return [
        line
        for line in text.splitlines()
        if len(line) > WIDTH and not line.startswith(("|", "<!--")) and len(LINK.sub("link", line)) > WIDTH
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_wraps_at_100_columns(page: Path) -> None:
    assert long_lines(page.read_text()) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# One `thing`\n\n## One thing\n\n```sh\n# no heading\n```\n")
    page.write_text("""
# A page

[a](other.md) [b](other.md#one-thing) [c](other.md#one-thing-1) [d](#a-page) [e](https://example.org/x)
[f](gone.md) [g](other.md#no-heading) [h](#gone) ![i](gone.svg)
<picture><source srcset="gone-dark.png"><img src="other.md"></picture> <a href="gone.html">j</a>
`[code](gone.md)` and `` [`code`](gone.md) ``

```
[block](gone.md)
```
""")
    assert broken_links(page) == [
        *("gone.md", "other.md#no-heading", "#gone", "gone.svg"),
        *("gone-dark.png", "gone.html"),
    ]


def test_long_lines_of_prose_are_found() -> None:
    words, url = "word " * 21, "x" * 90
    text = f"{words}\n| {words} |\n[a]({url}) and more words\n  ```sh\n{words}\n  ```\n{words}[a]({url})\n"
    assert long_lines(text) == [words, f"{words}[a]({url})"]
