"""The page of a history: its data, and that texts from reports stay text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.__main__ import main
from pytest_smoke.history.trend import history
from pytest_smoke.outcome import Outcome
from pytest_smoke.page.history import history_page, trend_plots
from tests.history.sessions import outcome, write
from tests.page.test_html import HOSTILE, Parsed


def page(folder: Path) -> Parsed:
    return Parsed(history_page(history([folder])))


def drifting(folder: Path, sessions: int = 12) -> None:
    """Write sessions in which `lm` drifts on a second version of torch, and `tagger` fails twice."""
    for at in range(sessions):
        facts = {"torch": "2.12.0"} if at < 3 else None
        lm = outcome(at, accuracy=0.78 - 0.01 * at, facts=facts)
        tagger = outcome(at, name="tagger", accuracy=0.5 if at in (4, 5) else 0.8 + 0.01 * (at % 3))
        write(folder / f"{at:03}", [lm, tagger])


def test_a_line_for_each_series_with_the_place_where_the_next_one_starts(tmp_path: Path) -> None:
    drifting(tmp_path)
    lm, tagger = history([tmp_path]).trends
    data = trend_plots(lm)
    margin, *figures = data["panels"]
    assert [(one["name"], one["kind"], one["x"]) for one in margin["series"]] == [
        ("val_acc > 0.6, series 1", "raw", [1, 1, 1]),
        ("val_acc > 0.6, series 2", "points", [4, 1, 1, 1, 1, 1, 1, 1, 1]),
    ]
    assert margin["series"][1]["y"][0] == pytest.approx(0.25)
    assert [panel["title"] for panel in figures] == ["Loss at the end", "Time in seconds", "Samples per second"]
    assert data["marks"] == [{"x": 4, "text": "series 2: torch 2.12.0 -> 2.13.0", "kind": "stage"}]
    assert data["labels"][0] == "session 1 · 2026-01-05 03:00 · 000000000 · promote"
    assert trend_plots(tagger)["marks"] == [{"x": 5, "text": "hold, 2 sessions", "kind": "verdict"}]


def test_the_page_shows_those_that_drift_first(tmp_path: Path) -> None:
    drifting(tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "verdicts.json").write_text("{")
    parsed = page(tmp_path)
    assert "2 smoke runs in 12 sessions: 1 drifts towards a limit" in parsed.text
    assert parsed.text.index("lm::constant") < parsed.text.index("tagger::constant")
    assert "verdicts.json is left out: 1:2: not valid JSON" in parsed.text
    assert [attributes["id"] for name, attributes in parsed.elements if attributes.get("class") == "run card"] == [
        "run-0",
        "run-1",
    ]


def test_hostile_text_in_a_report_stays_text(tmp_path: Path) -> None:
    facts = {"git_commit": HOSTILE, "settings": {HOSTILE: HOSTILE}, "device_name": HOSTILE}
    for at in range(3):
        tree = outcome(at, name="a", facts=facts if at else None).to_dict()
        tree |= {"text": HOSTILE, "reason": HOSTILE, "id": HOSTILE, "verdict": "hold"}
        tree["findings"][1]["id"] = f"accept[{HOSTILE}]"
        write(tmp_path / f"{at}<b x=y>", [Outcome.from_dict(tree)])
    (tmp_path / "<script>").mkdir()
    (tmp_path / "<script>" / "verdicts.json").write_text('{"<b>')
    text = history_page(history([tmp_path]))
    names = [name for name, _ in Parsed(text).elements]
    assert "b" not in names
    assert names.count("script") == 3  # the theme's, the data, and the page's own
    assert "alert(1)" in text


def data_of(text: str) -> dict[str, Any]:
    return {name: json.loads(found) for name, found in re.findall(r'json" id="(plots-\d+)">(.*?)</script>', text)}


def test_points_without_a_figure_are_gaps_and_not_zeros(tmp_path: Path) -> None:
    write(tmp_path / "0", [outcome(0)])
    write(tmp_path / "1", [outcome(1, facts={"loss_last": float("nan"), "seconds": None})])
    write(tmp_path / "2", [outcome(2)])
    panels = {panel["title"]: panel for panel in data_of(history_page(history([tmp_path])))["plots-0"]["panels"]}
    assert panels["Loss at the end"]["series"][0]["x"] == [1, 2]
    assert panels["Time in seconds"]["series"][0]["y"] == [12, 14]


def test_a_run_that_never_started_has_a_section_without_plots(tmp_path: Path) -> None:
    tree = {**outcome(0).to_dict(), "verdict": "error", "reason": "crash", "facts": {"started_at": "2026-01-05"}}
    write(tmp_path / "0", [Outcome.from_dict({**tree, "findings": []})])
    text = history_page(history([tmp_path]))
    assert data_of(text) == {}
    assert not any("data-plots" in attributes for _, attributes in Parsed(text).elements)
    assert "error (crash)" in text


def test_the_command_writes_the_page_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drifting(tmp_path / "nightly")
    assert main(["history", str(tmp_path / "nightly"), "-o", str(tmp_path / "new" / "trend.html")]) == 1
    assert capsys.readouterr().out.endswith(f"written to {tmp_path}/new/trend.html\n")
    assert (tmp_path / "new" / "trend.html").read_text().startswith("<!doctype html>")
    assert main(["history", str(tmp_path / "nightly"), "-o", str(tmp_path / "new")]) == 1
    assert (tmp_path / "new" / "history.html").exists()
    assert main(["history", str(tmp_path / "nightly"), "-o", str(tmp_path / "new" / "trend.html" / "x")]) == 2
    assert "history: " in capsys.readouterr().err


def test_a_file_that_is_no_page_of_ours_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drifting(tmp_path / "nightly")
    verdicts = tmp_path / "nightly" / "000" / "verdicts.json"
    before = verdicts.read_text()
    assert main(["history", str(tmp_path / "nightly"), "-o", str(verdicts)]) == 2
    assert "exists and was not made by this command" in capsys.readouterr().err
    assert verdicts.read_text() == before
