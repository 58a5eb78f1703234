"""The documentation site builds without warnings, names what is broken, and needs no network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

for package in ("sphinx", "myst_parser", "furo"):
    pytest.importorskip(package, reason=f"the package {package} is not installed (extra docs)")

DOCS = Path(__file__).parents[2] / "docs"
FOLDERS = ("tutorial", "how-to", "reference", "explanation")
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""Attribute of an element with the address of what a browser loads without being asked."""


def build(docs: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(docs), str(site)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("docs") / "site"
    done = build(DOCS, folder)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


class Page(HTMLParser):
    """The addresses in a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in LOADS and (address := values.get(LOADS[tag])):
            self.loads.append(address)
        if tag == "a" and (address := values.get("href")):
            self.links.append(address)


def test_every_page_is_listed_on_the_front_page_of_the_site(site: Path) -> None:
    links = Page(site / "index.html").links
    for folder in FOLDERS:
        pages = [path.stem for path in (DOCS / folder).glob("*.md")]
        assert pages
        for page in pages:
            assert f"{folder}/{page}.html" in links


def test_nothing_is_loaded_from_another_server(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        for address in Page(page).loads:
            assert not re.match(r"(\w+:)?//", address), f"{page.name} loads {address}"
    for sheet in site.rglob("*.css"):
        assert re.findall(r"""(?:url\(|@import)\s*["']?(?:\w+:)?//[^)]*""", sheet.read_text()) == []


def test_every_file_that_a_page_loads_or_links_to_is_in_the_site(site: Path) -> None:
    for path in site.rglob("*.html"):
        page = Page(path)
        for address in (*page.loads, *page.links):
            file = address.partition("#")[0].partition("?")[0]
            if file and not re.match(r"\w+:", address):
                assert (path.parent / file).exists(), f"{path.name} names {address}"


def test_the_search_needs_no_server(site: Path) -> None:
    """Its index is a script, which a page from a disk may load; JSON may not be fetched there."""
    index = (site / "searchindex.js").read_text()
    assert index.startswith("Search.setIndex(")
    assert "searchindex.js" in " ".join(Page(site / "search.html").loads)


def test_broken_links_anchors_and_pictures_fail_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for path in [DOCS / "conf.py", DOCS / "index.md", *DOCS.glob("*.svg"), *DOCS.glob("*.png")]:
        shutil.copy(path, docs)
    shutil.copytree(DOCS / "site", docs / "site")
    for folder in FOLDERS:
        (docs / folder).mkdir()
        (docs / folder / "page.md").write_text("# How do I test it?\n\n## A heading\n")
    (docs / "how-to" / "page.md").write_text(
        "# How do I test it?\n\n[a](gone.md) [b](../tutorial/page.md#gone) [c](#gone) [d](../gone)\n\n"
        "[e](../../gone.md) ![f](gone.svg)\n\n[g](../tutorial/page.md#a-heading) [h](../conf.py)\n"
    )
    for page in ("tutorial/first-verdict.md", "how-to/read-the-report-page.md"):
        (docs / page).write_text("# A page that index.md links to\n")
    (docs / "stray.md").write_text("# A page that nothing lists\n")
    done = build(docs, tmp_path / "site")
    assert done.returncode == 1
    problems = [line for line in done.stderr.splitlines() if "WARNING" in line]
    for problem in (
        "'gone.md'",
        "'tutorial/page': 'gone'",
        "not found: 'gone'",
        "'../gone'",
        "gone.svg",
        "gone.md",
        "stray.md",
    ):
        assert any(problem in line for line in problems), done.stderr
    assert len(problems) == 7, done.stderr
