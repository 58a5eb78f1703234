"""Measure the HTML page: its size, the time to make and to open it, and uPlot against plotly's basic bundle.

    npm pack plotly.js-basic-dist-min && tar xzf plotly.js-basic-dist-min-*.tgz
    python benchmarks/page_weight.py [--plotly package/plotly-basic.min.js] [--runs 50] [--steps 10000]

Needs selenium, chromium and chromedriver. Opening: from navigation until the first plot, which is scrolled into view,
is painted; the median of seven times after one that is not counted. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

from selenium import webdriver

from pytest_smoke.outcome import Facts, Finding, Outcome
from pytest_smoke.page.html import LIBRARY, asset
from pytest_smoke.page.report import report_page

OPENINGS = 7
PREFLIGHTS = (1_250, 2_500, 5_000, 10_000)
PANELS = 6
DRAW = {
    "uPlot": "for (let k = 0; k < PANELS; k++) new uPlot({width: 1100, height: 200, scales: {x: {time: false}},"
    " series: [{}, {stroke: 'blue'}]}, DATA, document.body);",
    "plotly": "for (let k = 0; k < PANELS; k++) { const at = document.body.appendChild(document.createElement('div'));"
    " Plotly.newPlot(at, [{x: DATA[0], y: DATA[1], mode: 'lines'}], {width: 1100, height: 200}); }",
}


def outcome(name: str, **facts: Any) -> Outcome:
    """Return an outcome with the findings that a promoted smoke run has."""
    checks = ("batch-geometry", "schedule", "settings", "sources", "run", "finite", "loss-trend", "accumulation")
    findings = tuple(Finding(id=check, status="pass", text=f"{check}: as in the full run") for check in checks)
    settings = {"batch_size": 64, "learning_rate": 3e-4, "max_steps": 10_000, "warmup_steps": 500}
    return Outcome(
        id=f"recipes/{name}.smoke.yaml::constant",
        recipe=f"recipes/{name}.smoke.yaml",
        mode="constant",
        cell=None,
        verdict="promote",
        reason="",
        step=None,
        text="no rise in 10,000 points; a lasting rise by 2.0 % of the loss level would have been detected",
        decided_by="loss-trend",
        findings=findings,
        facts=Facts(settings=settings, learning_rate=3e-4, recipe_text="task: a:B\nfull: {}\n" * 20, **facts),
    )


def trained(folder: Path, number: int, steps: int) -> Outcome:
    """Write a noisy trace with two loss terms, and return the outcome that names it."""
    draw, text = random.Random(number), io.StringIO()
    write = csv.writer(text, lineterminator="\n")
    write.writerow(["step", "loss", "lr", "grad_norm", "probe_loss", "loss/ce", "loss/kl"])
    losses = []
    for step in range(steps):
        loss = 2 * math.exp(-step / 3000) + 0.5 + draw.gauss(0, 0.05)
        rate = 3e-4 * min(1.0, step / 500) * (0.5 + 0.5 * math.cos(3 * step / steps))
        term = 0.3 * draw.random()
        probe = loss if step % 250 == 0 else ""
        write.writerow([step, loss, rate, draw.lognormvariate(0, 0.5), probe, loss - term, term])
        losses.append(loss)
    name = f"traces/{number}.csv"
    (folder / "traces").mkdir(exist_ok=True)
    (folder / name).write_text(text.getvalue())
    made = outcome(
        str(number),
        steps=steps,
        planned_steps=steps,
        trace=name,
        trace_sha256=sha256(text.getvalue().encode()).hexdigest(),
    )
    return replace(made, curve={"step": list(range(0, steps, 50)), "loss": losses[::50]})


@contextmanager
def browser() -> Iterator[Any]:
    """Yield a headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for option in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1280,1000"):
        options.add_argument(f"--{option}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(120)
    try:
        yield driver
    finally:
        driver.quit()


def opening_seconds(driver: Any, page: Path, shown: str = "canvas, .main-svg") -> float:
    """Return the median time from navigation to the frame in which the page is complete and an element is shown."""
    script = (
        "document.querySelector('.plots')?.scrollIntoView({behavior: 'instant'});"
        f"const ready = () => document.readyState === 'complete' && document.querySelector({shown!r});"
        "const poll = () => ready() ? requestAnimationFrame(() => "
        "arguments[0](performance.now())) : setTimeout(poll, 1); poll();"
    )
    times = []
    for _ in range(OPENINGS + 1):
        driver.get("about:blank")
        driver.get(page.as_uri())
        times.append(driver.execute_async_script(script) / 1000)
    return median(times[1:])


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def library_page(library: str, code: str, points: int) -> str:
    """Return a bare page that draws `PANELS` curves with a library."""
    draw = random.Random(0)
    data = [list(range(points)), [round(draw.gauss(0, 1), 4) for _ in range(points)]]
    script = f"const PANELS = {PANELS}, DATA = {json.dumps(data)};{DRAW[library]}"
    return f"<!doctype html><body><script>{code}</script><script>{script}</script>"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plotly", type=Path)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--steps", type=int, default=10_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, browser() as driver:
        folder = Path(name)
        page = folder / "index.html"
        outcomes = [trained(folder, number, args.steps) for number in range(args.runs)]
        making = cpu_seconds(lambda: page.write_text(report_page(outcomes, folder)))
        print("| page | size | to make | to open |\n|---|---|---|---|")
        size = page.stat().st_size / 1e6
        opening = opening_seconds(driver, page)
        print(f"| {args.runs} runs of {args.steps:,} steps | {size:.2f} MB | {making:.1f} s | {opening:.2f} s |")
        for number in PREFLIGHTS:
            only = [replace(outcome(str(at)), verdict="inconclusive", reason="preflight") for at in range(number)]
            making = cpu_seconds(lambda only=only: page.write_text(report_page(only, folder)))  # type: ignore[misc]
            opening = opening_seconds(driver, page, "tr[data-run]")
            print(f"| {number:,} preflights | {page.stat().st_size / 1e6:.2f} MB | {making:.1f} s | {opening:.2f} s |")
        codes = {"uPlot": asset(LIBRARY)} | ({"plotly": args.plotly.read_text()} if args.plotly else {})
        print(f"\n| library | size | {PANELS} plots of 1,000 points | of 10,000 points |\n|---|---|---|---|")
        for library, code in codes.items():
            times = []
            for points in (1_000, 10_000):
                page.write_text(library_page(library, code, points))
                times.append(f"{opening_seconds(driver, page):.2f} s")
            print(f"| {library} | {len(code.encode()) / 1e3:,.0f} kB | {' | '.join(times)} |")


if __name__ == "__main__":
    main()
