"""The page of a history in headless Chromium."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.history.trend import history
from pytest_smoke.page.history import history_page
from tests.history.sessions import outcome, write
from tests.page.conftest import Browser
from tests.page.test_in_a_browser import AXE

HOSTILE = "<img src=x onerror=window.pwned=1></script><script>window.pwned=1</script>"


@pytest.fixture(scope="module")
def trend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 12 sessions: one smoke run drifts, one has a hostile name, device, setting and commit."""
    folder = tmp_path_factory.mktemp("history")
    for at in range(12):
        facts: dict[str, Any] = {"git_commit": HOSTILE, "settings": {HOSTILE: HOSTILE if at > 5 else at // 3}}
        lm = outcome(at, accuracy=0.75 - 0.01 * at)
        write(folder / "sessions" / f"{at}", [lm, outcome(at, name=HOSTILE.replace("/", ""), facts=facts)])
    (folder / "sessions" / HOSTILE.replace("/", "")).mkdir()
    (folder / "sessions" / HOSTILE.replace("/", "") / "verdicts.json").write_text("{<img>")
    page = folder / "history.html"
    page.write_text(history_page(history([folder / "sessions"])), encoding="utf-8")
    return page


def test_it_draws_every_plot_without_an_error_or_a_request(browser: Browser, trend: Path) -> None:
    browser.open(trend)
    browser.draw()
    titles = browser.run("return [...document.querySelectorAll('#run-0 figcaption h3')].map((one) => one.textContent)")
    assert titles == ["Margin, share of the limit", "Loss at the end", "Time in seconds", "Samples per second"]
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
    browser.draw("#run-1")
    assert browser.messages() == []
    assert browser.requests() == [trend.as_uri()]
    assert browser.run("return window.pwned") is None
    assert browser.run("return document.querySelectorAll('img').length") == 0


def test_the_keyboard_reads_the_sessions_of_a_plot(browser: Browser, trend: Path) -> None:
    browser.open(trend)
    browser.draw()
    browser.run("document.querySelector('#run-0 .plot').focus()")
    browser.press("\ue010")  # End
    line = browser.find("#run-0 .readout").text
    assert line.startswith("session 12 · 2026-01-16 03:00 · 000000000 · promote · val_acc > 0.6 0.0")


def test_a_session_of_another_series_has_no_value_in_this_one(browser: Browser, trend: Path) -> None:
    browser.open(trend)
    browser.click("a[href='#run-1']")
    browser.draw("#run-1")
    browser.run("document.querySelector('#run-1 .plot').focus()")
    browser.press("\ue010")
    line = browser.find("#run-1 .readout").text
    assert [shown.replace(".", "").isdigit() for shown in re.findall(r", series \d (\S+)", line)] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(browser: Browser, trend: Path, dark: bool) -> None:
    browser.open(trend, dark=dark, reduced_motion=True)
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
    browser.draw()
    browser.run(AXE.read_text(encoding="utf-8"))
    found = browser.driver.execute_async_script(
        "const done = arguments[arguments.length - 1]; axe.run().then((result) => done(result.violations))"
    )
    assert [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in found] == []


def test_nothing_is_wider_than_a_phone(browser: Browser, trend: Path) -> None:
    browser.open(trend, width=390)
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
    browser.draw()
    assert browser.run("return document.documentElement.scrollWidth") <= 390
