"""The page in headless Chromium: it draws, it is quiet, and the keyboard and a screen reader reach all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.page.conftest import Browser
from tests.page.outcomes import NAN_STEP, SPIKE, SPIKE_STEP

AXE = Path(__file__).parent / "axe-core" / "axe.min.js"
FIRST_RUN = "document.querySelector('#run-0')"
OPEN_ALL = "for (const one of document.querySelectorAll('details')) one.open = true"


def test_it_draws_every_panel_without_an_error_or_a_request(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.draw()
    titles = browser.run(f"return [...{FIRST_RUN}.querySelectorAll('figcaption h3')].map((one) => one.textContent)")
    assert titles[:4] == ["Loss", "Learning rate", "Gradient norm", "Loss terms"]
    assert any("ratio" in title for title in titles)
    browser.run(OPEN_ALL)
    for run in browser.run("return [...document.querySelectorAll('.plots')].map((one) => one.closest('.run').id)"):
        browser.draw(f"#{run}")
    assert browser.messages() == []
    assert browser.requests() == [report.as_uri()]


def test_hostile_texts_are_shown_and_not_executed(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.run(OPEN_ALL)
    browser.draw()
    assert browser.run("return window.pwned") is None
    assert browser.run("return document.querySelectorAll('img').length") == 0
    assert "<img src=x onerror=window.pwned=1>" in browser.find("#run-0 h2").text


def test_runs_are_listed_worst_first_and_the_worst_is_open(browser: Browser, report: Path) -> None:
    browser.open(report)
    words = browser.run("return [...document.querySelectorAll('tr[data-run]')].map((row) => row.dataset.verdict)")
    assert words == ["unstable", "error", "invalid", "hold", "inconclusive", "promote"]
    opened = browser.run("return [...document.querySelectorAll('details.run[open]')].map((run) => run.id)")
    assert opened == ["run-0"]


def test_the_filter_hides_runs_by_verdict_and_by_text(browser: Browser, report: Path) -> None:
    browser.open(report)
    shown = "return [...document.querySelectorAll('tr[data-run]')].filter((row) => !row.hidden).length"
    browser.click("#filters input[value=promote]")
    assert browser.run(shown) == 5
    assert browser.find("#shown").text == "5 of 6 shown"
    assert not browser.find("#run-5").is_displayed()
    browser.find("#search").send_keys("hold criterion")
    assert browser.run(shown) == 1


def test_a_link_in_the_overview_opens_its_run(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.click("a[href='#run-5']")
    browser.wait_for("document.querySelector('#run-5').open && document.querySelector('#run-5 canvas')")
    assert browser.run("return document.activeElement.closest('details').id") == "run-5"


def test_a_link_to_a_run_that_the_filter_hides_shows_it(browser: Browser, report: Path) -> None:
    """Cells of a recipe link to the run with its text."""
    browser.open(report)
    browser.click("#filters input[value=promote]")
    browser.run("location.hash = 'run-5'")
    browser.wait_for("document.querySelector('#run-5').open")
    assert browser.find("#run-5").is_displayed()


def test_the_theme_follows_the_system_until_it_is_chosen_and_is_remembered(browser: Browser, report: Path) -> None:
    theme = "return document.documentElement.dataset.theme"
    browser.open(report, dark=True)
    assert browser.run(theme) == "dark"
    browser.emulate(dark=False)
    browser.wait_for("document.documentElement.dataset.theme === 'light'")
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = browser.run(ground)
    browser.click("#theme")
    assert browser.run(theme) == "dark"
    assert browser.run(ground) != light
    assert browser.find("#theme").get_attribute("aria-pressed") == "true"
    browser.driver.get(report.as_uri())
    assert browser.run(theme) == "dark"


def test_the_log_scale_draws_all_plots_again(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.draw()
    pixels = f"{FIRST_RUN}.querySelector('canvas').toDataURL()"
    linear = browser.run(f"return {pixels}")
    browser.click("#log")
    assert browser.find("#log").get_attribute("aria-pressed") == "true"
    browser.wait_for(f"{pixels} !== {linear!r}")
    assert browser.messages() == []


def test_arrow_keys_move_the_cursor_and_the_line_below_says_where_it_is(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.draw()
    browser.run(f"{FIRST_RUN}.querySelector('.plot').focus()")
    line = browser.find("#run-0 .readout")
    browser.press("\ue011")  # Home
    assert line.text.startswith("step 0 · loss 2.")
    browser.press("\ue014", "\ue014")  # right arrow
    assert line.text.startswith("step 2 · loss")
    assert line.get_attribute("aria-live") == "polite"
    browser.press("\ue010")  # End
    assert line.text == "step 1,000 · loss - · mean of 20 steps - · probe loss -"  # metrics of the trained model
    browser.press("\ue011", "+", "\ue010")  # the first half
    assert line.text.startswith("step 500 · ")
    browser.press("\ue00c", "\ue010")  # Escape
    assert line.text.startswith("step 1,000 · ")


def test_every_control_is_reached_with_the_tab_key_and_shows_its_focus(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.draw()
    reached = []
    for _ in range(45):
        browser.press("\ue004")
        reached.append(
            browser.run(
                "const one = document.activeElement; const style = getComputedStyle(one);"
                "return [one.id || one.className || one.tagName, style.outlineStyle, style.outlineWidth]"
            )
        )
    names = [name for name, _, _ in reached]
    assert {"skip", "log", "theme", "search", "name", "plot", "SUMMARY"} <= set(names)
    assert {name for name, style, width in reached if style == "none" or width == "0px"} <= {"BODY"}


def test_the_table_of_a_plot_has_the_spike_of_one_step_and_the_nan(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.draw()
    browser.run(f"{FIRST_RUN}.querySelector('.values summary').click()")
    rows = browser.wait_for(
        f"[...{FIRST_RUN}.querySelectorAll('.values tbody tr')]"
        ".map((row) => [...row.children].map((one) => one.textContent))"
    )
    by_step = {row[0]: row for row in rows}
    assert by_step[str(SPIKE_STEP)][1] == str(SPIKE)
    assert by_step[str(NAN_STEP)][1] == "NaN"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)], ids=["light", "dark phone"])
def test_axe_finds_nothing_serious(browser: Browser, report: Path, width: int, dark: bool) -> None:
    browser.open(report, width=width, dark=dark)
    browser.run(OPEN_ALL)
    browser.draw()
    browser.run(f"{FIRST_RUN}.querySelector('.values').open = true")
    browser.wait_for(f"{FIRST_RUN}.querySelector('.values tbody')")
    browser.run(AXE.read_text(encoding="utf-8"))
    violations = browser.driver.execute_async_script(
        "const done = arguments[0];"
        "axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations.map("
        "(one) => `${one.impact} ${one.id}: ${one.help}: ${one.nodes[0].html.slice(0, 200)}`)))"
    )
    assert [one for one in violations if one.startswith(("serious", "critical"))] == []


def test_a_phone_shows_the_page_without_scrolling_sideways(browser: Browser, report: Path) -> None:
    browser.open(report, width=400)
    browser.run(OPEN_ALL)
    browser.draw()
    assert browser.run("return document.documentElement.scrollWidth") <= 400
    assert browser.run(f"return {FIRST_RUN}.querySelector('canvas').clientWidth") <= 400


def test_motion_is_reduced_if_the_system_asks_for_it(browser: Browser, report: Path) -> None:
    behaviour = "return getComputedStyle(document.documentElement).scrollBehavior"
    browser.open(report, reduced_motion=True)
    assert browser.run(behaviour) == "auto"
    browser.open(report)
    assert browser.run(behaviour) == "smooth"


def test_a_dark_page_is_printed_on_white(browser: Browser, report: Path) -> None:
    browser.open(report, dark=True)
    browser.draw()
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run("return document.documentElement.dataset.theme") == "light"
    width = f"{FIRST_RUN}.querySelector('canvas').clientWidth"
    assert browser.run(f"return {width}") == 640
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run(f"return {width}") > 1000
    assert browser.run("return document.documentElement.dataset.theme") == "dark"
