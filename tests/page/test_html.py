"""What is put into a page stays text, and the page allows nothing but its own scripts."""

from __future__ import annotations

import base64
import json
import re
from hashlib import sha256
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.page.html import LIBRARY, Html, document, json_script, tag

HOSTILE = "</script><script>alert(1)</script><!--\u2028\u202e\"'&<b x=y>"


class Parsed(HTMLParser):
    """The elements, attributes and text of a page, as a parser other than ours sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(), st.text())
def test_text_and_attributes_add_no_element(text: str, value: str) -> None:
    parsed = Parsed(tag("p", text, title=value))
    assert [name for name, _ in parsed.elements] == ["p"]
    assert list(parsed.elements[0][1]) == ["title"]


def test_printable_text_is_shown_as_it_is() -> None:
    parsed = Parsed(tag("p", "a < b && 'c' \"d\" é", title="</p> \" '"))
    assert parsed.text == "a < b && 'c' \"d\" é"
    assert parsed.elements == [("p", {"title": "</p> \" '"})]


@given(st.dictionaries(st.text(), st.text() | st.none() | st.lists(st.integers())))
def test_json_in_a_script_is_read_back_and_cannot_end_the_script(value: object) -> None:
    script = json_script("data", value)
    inner = script.removeprefix('<script type="application/json" id="data">').removesuffix("</script>")
    assert json.loads(inner) == value
    assert not set("<>&\u2028\u2029") & set(inner)


def test_hostile_text_anywhere_adds_no_script() -> None:
    page = document(HOSTILE, tag("p", HOSTILE, id=HOSTILE), data={"data": {HOSTILE: HOSTILE}}, description=HOSTILE)
    names = [name for name, _ in Parsed(page).elements]
    assert names.count("script") == 2  # the theme's, and the data
    assert "b" not in names


def test_the_security_policy_allows_the_scripts_and_styles_of_the_page_and_nothing_else() -> None:
    page = document("title", Html(""), scripts=[LIBRARY, "report.js"])
    (policy,) = [
        attributes["content"] or ""
        for name, attributes in Parsed(page).elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    inline = re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", page, re.DOTALL)
    hashes = {f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" for text in inline}
    assert set(re.findall(r"'sha256-[^']+'", policy)) == hashes
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_the_plot_library_carries_its_license() -> None:
    assert "Permission is hereby granted" in document("title", Html(""), scripts=[LIBRARY])
