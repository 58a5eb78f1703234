"""Names and texts of recipes, tasks and logs that are markup, commands or control characters stay text everywhere."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from pytest_smoke.__main__ import main
from tests.plugin.conftest import Project

MARKUP = "</script><img src=x onerror=alert(1)>|`*[a](javascript:alert(1))]]>&\"'%0A::error::pwned"
HOSTILE = f"\x1b[31m\x9b31m{MARKUP}\u202e\n::error::pwned\n\x07## h\r<!--"
"""Sequences that a terminal obeys (ESC and the 8-bit CSI), markup, a workflow command, and a reversed direction."""
FILE = '\x1b[31m<img src=x onerror=alert(1)>|`]]>"\u202e\n::error::pwned.smoke.yaml'
TASK = f"""
import torch
from torch import nn
HOSTILE = {HOSTILE!r}

class Hostile:
    def __init__(self, *, note, fails=False):
        self.fails = fails
    def model(self):
        return nn.Linear(4, 1)
    def batches(self, batch_size, *, seed, rank=0, world_size=1):
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield torch.randn(batch_size, 4, generator=generator)
    def losses(self, model, batch):
        if self.fails:
            print(HOSTILE)
            raise RuntimeError(HOSTILE)
        out = model(batch)
        return {{HOSTILE: (out - batch.sum(1, keepdim=True)).square().mean(), "plain": out.abs().mean()}}
    def evaluate(self, model):
        return {{"metric" + HOSTILE: 0.25, "<img src=x onerror=alert(1)>": 0.1, "f1": 0.1}}
    def sources(self, batch):
        return {{{MARKUP!r}: len(batch)}}
"""
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Tags(HTMLParser):
    """Notes every tag, its attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def assert_no_markup(text: str, where: str) -> None:
    for tag, attributes in Tags(text).tags:
        assert tag not in ("img", "iframe", "object"), where
        assert not any(name.startswith("on") for name in attributes), (where, tag, attributes)
        assert not (attributes.get("href") or "").strip().lower().startswith("javascript:"), where


def assert_plain(text: str, where: str) -> None:
    found = UNSAFE.search(text)
    assert found is None, f"{where}: {text[max(0, found.start() - 80) : found.end() + 40]!r}"


def assert_no_command(text: str, where: str) -> None:
    """A line that starts with `::` is a command to GitHub's runner."""
    assert not [line for line in text.splitlines() if line.lstrip().startswith("::error::pwned")], where


def strings(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        yield from tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from strings(part)
    elif isinstance(tree, str):
        yield tree


def recipe(**changes: Any) -> str:
    """Return a recipe as JSON, which is YAML."""
    return json.dumps(
        {
            "task": "hostile_task:Hostile",
            "args": {"note": MARKUP},
            "full": {"batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 0, "max_steps": 4000},
            "smoke": {"max_steps": 60},
            "checks": {"accept": ["f1 > 0.6", "`<img src=x onerror=alert(1)>` > 1"]},
            **changes,
        }
    )


def test_no_output_obeys_a_hostile_name(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.path)
    (project.path / "hostile_task.py").write_text(TASK)
    mix = {"sources": {MARKUP: {"weight": 1.0, "rows": 10}}}
    (project.path / FILE).write_text(recipe(mix=mix))
    (project.path / "raises.smoke.yaml").write_text(recipe(args={"note": MARKUP, "fails": True}))
    (project.path / "faulty.smoke.yaml").write_text(recipe(task=MARKUP, **{MARKUP: 1}))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "step.md"))
    options = ("-v", "-rA", "--color=no", "--junitxml=junit.xml", "--smoke-report", "out", "--smoke-tensorboard")
    result = project.run("--smoke", "--continue-on-collection-errors", *options)
    assert_plain(result.stdout.str(), "terminal")
    assert_plain(result.stderr.str(), "standard error")
    assert_no_command(result.stdout.str(), "terminal")
    assert "::error" in result.stdout.str(), "the annotations"
    capfd.readouterr()

    out = project.path / "out"
    outcomes = json.loads((out / "verdicts.json").read_text())["outcomes"]
    assert sorted(one["verdict"] for one in outcomes) == ["error", "hold"], [one["text"] for one in outcomes]
    for name in ("verdicts.json", "smoke.sarif"):
        for text in strings(json.loads((out / name).read_text())):
            assert UNSAFE.search(text) is None, (name, text)
    sarif = json.loads((out / "smoke.sarif").read_text())
    uris = re.findall(r'"uri": "([^"]*)"', json.dumps(sarif))
    assert all(re.fullmatch(r"[\w.~:/?#@!$&'()*+,;=%-]*", uri) for uri in uris), uris
    ElementTree.parse(project.path / "junit.xml")
    assert_plain((project.path / "junit.xml").read_text(), "JUnit")
    page = (out / "index.html").read_text()
    assert_no_markup(page, "index.html")
    assert_plain(re.sub("<script.*?</script>|<style.*?</style>", "", page, flags=re.DOTALL), "index.html")
    for path in (out / "summary.md", project.path / "step.md"):
        assert_plain(path.read_text(), path.name)
        for preset in ("gfm-like", "commonmark"):
            assert_no_markup(MarkdownIt(preset, {"html": True, "linkify": False}).render(path.read_text()), path.name)
    for path in out.rglob("*"):
        assert path.resolve().is_relative_to(out.resolve())
        assert re.fullmatch(r"[\w.-]+", path.name), path
        if "tfevents" in path.name:
            assert b"\x1b[31m" not in path.read_bytes()
    written = {path.name for path in project.path.iterdir()}
    assert {name for name in written if "pwned" in name} == {FILE}

    log = project.path / "a\x1b[31m<img src=x onerror=alert(1)>.csv"
    rows = "".join(f"{step},{3 / (step + 1)},{step}\n" for step in range(60))
    log.write_text(f'step,loss,"{HOSTILE.replace(chr(34), "")}"\n{rows}')
    commands = [
        ["judge", str(log)],
        ["judge", str(log), "--format", "json"],
        ["compare", "out", "out"],
        ["compare", str(log), str(log)],
        ["audit", FILE],
        ["preflight", FILE, "raises.smoke.yaml"],
        ["preflight", "faulty.smoke.yaml", FILE],
        ["gate", FILE, "--receipts", "out"],
        ["gate", f"{FILE}::x\x1b[31m", "--receipts", "out"],
        ["history", "out"],
        ["package", FILE],
        ["probe", "faulty.smoke.yaml"],
        ["judge", f"gone{HOSTILE}"],
        ["report", f"gone{HOSTILE}"],
        ["history", f"gone{HOSTILE}"],
        ["compare", f"gone{HOSTILE}", "out::x\x1b[31m"],
    ]
    for command in commands:
        with contextlib.suppress(SystemExit):  # of argparse
            main(command)
        printed = capfd.readouterr()
        assert_plain(printed.out + printed.err, " ".join(command[:2]))
        assert "onerror=alert" in printed.out + printed.err or "pwned" in printed.out + printed.err, (command, printed)
    assert main(["report", "out", str(log), "-o", "both.html"]) == 0
    assert_no_markup((project.path / "both.html").read_text(), "both.html")
