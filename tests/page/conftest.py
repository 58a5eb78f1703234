"""One headless Chromium for all tests of pages, and a page with every verdict and hostile names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

from pytest_smoke.page.report import report_page
from tests.page.outcomes import every_verdict


class Browser:
    """Chromium, with what it logged and requested since the page was opened."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int = 1280, dark: bool = False, reduced_motion: bool = False) -> None:
        """Open a page of a file; what the page before remembered is gone."""
        self.emulate(width=width, dark=dark, reduced_motion=reduced_motion)
        if self.driver.current_url.startswith("file:"):
            self.run("localStorage.clear()")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.as_uri())

    def emulate(self, *, width: int = 1280, dark: bool = False, reduced_motion: bool = False) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else "no-preference"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *args: Any) -> Any:
        return self.driver.execute_script(script, *args)

    def wait_for(self, expression: str) -> Any:
        """Return the value of an expression once it is true."""
        script = (
            "const [done] = arguments; const end = performance.now() + 5000;"
            f"const poll = () => {{ const value = {expression}; if (value || performance.now() > end) done(value);"
            "else setTimeout(poll, 10); }; poll();"
        )
        value = self.driver.execute_async_script(script)
        assert value, f"{expression} did not become true in 5 s"
        return value

    def draw(self, run: str = "#run-0") -> None:
        """Bring the plots of a run into view, and wait until they are drawn."""
        self.run("document.querySelector(arguments[0]).querySelector('.plots').scrollIntoView()", run)
        self.wait_for(f"document.querySelector('{run}').querySelector('.plot canvas')")

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        """Click an element, wherever the page is scrolled to."""
        self.run("document.querySelector(arguments[0]).click()", selector)

    def press(self, *keys: str) -> None:
        """Press keys on what has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def messages(self) -> list[str]:
        """Return what the console shows: errors of scripts, and what the security policy blocked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses that were requested, without those of the page's own text."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if urlparse(url).scheme != "data"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser without a screen; tests are skipped where there is none."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("needs Chromium and chromedriver: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"):
        options.add_argument(f"--{option}")
    options.add_argument("--disable-dev-shm-usage")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    driver.set_script_timeout(20)
    yield Browser(driver)
    driver.quit()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a report with every verdict, whose texts try to be more than text."""
    folder = tmp_path_factory.mktemp("report")
    page = folder / "index.html"
    page.write_text(report_page(every_verdict(folder), folder), encoding="utf-8")
    return page
