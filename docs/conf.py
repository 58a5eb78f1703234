"""Settings of the documentation site: `python -m sphinx -W --keep-going docs build/site`.

The pages are plain Markdown, so that they read the same on GitHub. `index.md` marks with `<!-- pages: FOLDER -->` where
the site lists the pages of a folder; nothing else lists them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parent
LISTS = re.compile(r"<!-- pages: ([\w-]+) -->")
OUTSIDE = re.compile(r"\[([^\]]*)\]\((\.\./\.\./[^)#]+\.md)\)")
"""A link to a Markdown file outside `docs/`, which is no page of the site."""
QUESTION = re.compile(r"How do I ([a-z])(.*)\?")

project = "pytest_smoke"
html_title = "pytest_smoke"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["examples", "diagnose", "site"]
myst_heading_anchors = 6  # the anchors that GitHub makes
html_theme = "furo"  # fonts of the system, nothing from another server, light and dark
html_static_path = ["site"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
smartquotes = False  # `--smoke` would become a dash and a word
# A traceback or a session is not a program: without a language, Sphinx would guess that it is Python.
highlight_language = "text"


def setup(app: Sphinx) -> None:
    """Register what this file changes in Sphinx."""
    app.connect("source-read", adapt)


def adapt(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace what GitHub and the site treat differently, in the text of a page."""
    source[0] = OUTSIDE.sub(r"{download}`\1 <\2>`", source[0])
    if page == "index":
        source[0] = LISTS.sub(lambda mark: table_of_contents(mark[1]), source[0])


def table_of_contents(folder: str) -> str:
    """List the pages of a folder for the site's front page and its sidebar."""
    pages = sorted((short_title(path).casefold(), path) for path in (DOCS / folder).glob("*.md"))
    entries = [f"{short_title(path)} <{folder}/{path.stem}>" for _, path in pages]
    caption = folder.replace("-", " ").capitalize()
    return "\n".join(["```{toctree}", f":caption: {caption}", ":titlesonly:", "", *entries, "```"])


def short_title(page: Path) -> str:
    """Return the title of a page; `Judge a log` for `How do I judge a log?`."""
    title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").replace("`", "")
    question = QUESTION.fullmatch(title)
    return question[1].upper() + question[2] if question else title
