"""Text of unknown origin in Markdown: what a renderer of GitHub's Markdown shows is the text."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pytest_smoke.report.markdown import BREAK, code, escaped, shortened, table
from pytest_smoke.text import printable
from tests.report.hostile import ANY_TEXT, TEXTS

OURS = {BREAK, "<span>", "</span>", "<code>", "</code>"}
"""The only HTML that this package writes inside of a line."""
RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def tokens(markdown: str) -> list[Token]:
    return RENDERER.parse(markdown)


def shown(inline: Token) -> str:
    """Return the text of a line; fails if it has anything but text and our own HTML."""
    parts = []
    for token in inline.children or ():
        if token.type == "html_inline":
            assert token.content in OURS
        else:
            assert token.type == "text", token
            parts.append(token.content)
    return "".join(parts)


def on_one_line(text: str) -> str:
    return printable(" ".join(text.split()))


@given(ANY_TEXT, ANY_TEXT)
@example("a\\|b", "\\")
def test_a_table_shows_every_text_in_its_own_cell(first: str, second: str) -> None:
    found = tokens(table(["one", "two"], [[escaped(first), code(second)], ["last", "row"]]))
    cells = [shown(token) for token in found if token.type == "inline"]
    assert cells == ["one", "two", on_one_line(first), on_one_line(second), "last", "row"]


@given(ANY_TEXT)
@pytest.mark.parametrize("before", ["", "- ", "#### ", "- hint: "])
def test_a_text_stays_a_text_in_a_paragraph_a_list_and_a_heading(before: str, text: str) -> None:
    found = tokens(before + escaped(text))
    assert (
        "".join(shown(token) for token in found if token.type == "inline")
        == (before.removeprefix("- ").removeprefix("#### ") + on_one_line(text)).rstrip()
    )
    assert not {token.type for token in found} & {"fence", "code_block", "html_block", "hr", "table_open"}


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_mentions_a_user_links_an_issue_or_has_an_address(text: str) -> None:
    for markdown in (escaped(text), code(text)):
        assert not re.search(r"[@#]\w|://|www\.", markdown)


@given(ANY_TEXT, st.integers(0, 40))
def test_a_limit_counts_the_characters_that_are_shown(text: str, limit: int) -> None:
    assert len(shortened(text, limit)) <= max(limit, 1)
    assert shortened("a" * limit, limit) == "a" * limit


def test_an_ordinary_sentence_stays_readable() -> None:
    text = "loss rose from 0.8804 (steps 12-19) to 1.085: +23 %, 6.9 standard deviations"
    assert escaped(text) == text
    assert escaped("3.0 s") == "3.0 s"
