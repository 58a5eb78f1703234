"""What a page of many runs, of odd runs and of a bisect contains."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.bisect.result import BisectResult, BisectTrial
from pytest_smoke.outcome import Finding
from pytest_smoke.page import report
from pytest_smoke.page.report import bisect_page, report_page
from pytest_smoke.report.order import WORST_FIRST
from tests.page.outcomes import HOSTILE, a_trace, an_outcome, every_verdict, traced


def plots(page: str, at: int = 0) -> Any:
    """Return the data of a run's plots."""
    found = re.search(rf'<script type="application/json" id="plots-{at}">(.*?)</script>', page)
    return json.loads(found[1]) if found else None


def test_ten_thousand_steps_take_less_than_an_eighth_of_a_megabyte(tmp_path: Path) -> None:
    """50 of them fit into 6 MB, with what every page has."""
    text = a_trace(10_000)
    outcomes = [traced(an_outcome(f"{name}.smoke.yaml::constant"), tmp_path, text) for name in "ab"]
    one, two = (len(report_page(outcomes[:number], tmp_path).encode()) for number in (1, 2))
    assert two - one < 6e6 / 50 * 0.9
    assert one < 6e6 / 50 * 5


def test_only_the_worst_runs_have_a_section_and_all_are_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "DETAILED", 2)
    outcomes = [an_outcome(f"r{at}.smoke.yaml::constant") for at in range(4)]
    outcomes.append(an_outcome("bad.smoke.yaml::constant", "unstable"))
    page = report_page(outcomes, tmp_path)
    assert page.count('<details class="run card"') == 2
    assert page.count("<tr data-run=") == 5
    assert "of the first 2 runs" in page
    assert page.index("bad::constant") < page.index("r0::constant")


def test_the_order_is_the_same_for_every_verdict(tmp_path: Path) -> None:
    page = report_page(every_verdict(tmp_path), tmp_path)
    assert re.findall(r'<tr data-run="\d+" data-verdict="([\w-]+)"', page) == list(WORST_FIRST)


def test_a_session_without_smoke_runs_has_a_page(tmp_path: Path) -> None:
    page = report_page([], tmp_path)
    assert "0 runs" in page
    assert "The session executed no smoke run." in page
    assert "Plots show" not in page


def test_a_run_is_drawn_with_its_marks_levels_and_spans(tmp_path: Path) -> None:
    data = plots(report_page(every_verdict(tmp_path), tmp_path))
    assert [(mark["x"], mark["kind"]) for mark in data["marks"]] == [
        (0, "stage"),
        (300, "resume"),
        (80, "evidence"),
        (690, "verdict"),
    ]
    loss, rate, norm, terms, gradients, ratios, metric = data["panels"]
    assert [(span["from"], span["to"], span["y"]) for span in loss["spans"]] == [(400, 500, 0.9), (600, 690, 1.8)]
    assert [series["name"] for series in loss["series"]] == ["loss", "mean of 20 steps", "probe loss"]
    assert rate["levels"] == [{"y": 0.0008, "text": "80 % of the peak"}]
    assert norm["levels"] == [{"y": 1, "text": "clipped above"}]
    assert len(terms["series"]) == len(gradients["series"]) == 2
    assert [level["y"] for level in ratios["levels"]] == [0.1, 8]
    assert metric["levels"][0]["y"] == 0.6


def test_criteria_on_a_series_are_levels_of_its_plot(tmp_path: Path) -> None:
    def criterion(text: str, bound: float, status: Any = "pass") -> Finding:
        return Finding(id=f"accept[{text}]", status=status, text="", observed=1.0, bound=bound)

    findings = (
        criterion("max(grad_norm) < 500", 500.0),
        criterion("loss < 2 by step 400", 2.0, "fail"),
        criterion("0.5 > probe_loss", 0.5),
        criterion("a - b > 0", 0.0),
        Finding(id="stage[A]", status="pass", text="", data={"criteria": [criterion("mean(ce) < 3", 3.0).to_dict()]}),
        criterion("not a criterion (", 1.0),
    )
    outcome = traced(replace(an_outcome(), findings=findings), tmp_path, a_trace(100))
    levels = {panel["title"]: panel.get("levels", []) for panel in plots(report_page([outcome], tmp_path))["panels"]}
    assert levels["Gradient norm"] == [{"y": 500, "text": "max(grad_norm) < 500"}]
    assert levels["Loss"] == [{"y": 2, "text": "loss < 2 by step 400 (failed)"}, {"y": 0.5, "text": "0.5 > probe_loss"}]
    assert levels["Loss terms"] == [{"y": 3, "text": "mean(ce) < 3"}]


def test_metrics_beyond_the_limit_are_counted(tmp_path: Path) -> None:
    outcome = replace(an_outcome(), metrics={f"m{at}": [[1, 0.5], [2, 0.6]] for at in range(30)})
    page = report_page([outcome], tmp_path)
    assert "6 more metrics are not drawn" in page
    assert len(plots(page)["panels"]) == 1 + 24


def test_a_bisect_shows_its_trials_and_escapes_them() -> None:
    trial = BisectTrial(
        settings=(HOSTILE,), verdict="unstable", reason="rise", step=35, text="", answer="fail", smoke="", kept=False
    )
    result = BisectResult(
        good=HOSTILE,
        bad="bad",
        differences=(HOSTILE, "b"),
        unseen=(HOSTILE,),
        tried=(trial,),
        minimal=("b",),
        text=HOSTILE,
    )
    page = bisect_page(result)
    assert page.count("<script>") == 1, "that of the theme"
    assert "unstable (rise)" in page
    assert "<img" not in page


def test_cells_of_a_recipe_link_to_the_run_that_shows_its_text(tmp_path: Path) -> None:
    """The text lists all cells, so that a page with a copy per cell would grow with their square."""
    texts = ("task: a:Shared", "task: a:Shared", "task: b:Own", None)
    runs = [an_outcome(f"a.smoke.yaml::constant[{at}]", "promote", recipe_text=text) for at, text in enumerate(texts)]
    page = report_page(runs, tmp_path)
    assert (page.count("task: a:Shared"), page.count("task: b:Own")) == (1, 1)
    shared = page[page.index('id="run-1"') : page.index('id="run-2"')]
    assert 'The text is shown in <a href="#run-0" class="name">' in shared
