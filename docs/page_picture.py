"""Take docs/page.png and docs/page-dark.png from the page of a real session with a smoke run of each verdict.

pip install selenium pillow, apt-get install chromium chromium-driver, and python docs/page_picture.py
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver

from pytest_smoke.recipe.starter import write_starter

DOCS = Path(__file__).parent
WIDTH, HEIGHT = 1180, 1180
VARIANTS = {
    "hot": "full: {learning_rate: 1.0}\n",
    "crash": "args: {hidden_size: -1}\n",
    "small_batch": "smoke: {batch_size: 16}\n",
    "strict": "checks: {accept: [val_accuracy > 0.99]}\n",
    "short": "full: {warmup_steps: 5}\nsmoke: {max_steps: 30}\n",
}
"""Recipes that extend the starter recipe: unstable, error, invalid, hold and inconclusive."""


def report(folder: Path) -> Path:
    """Run the session and return its page."""
    write_starter(folder, "mine")
    for name, text in VARIANTS.items():
        (folder / f"{name}.smoke.yaml").write_text(f"extends: mine.smoke.yaml\n{text}")
    command = [sys.executable, "-m", "pytest", "--smoke", "--smoke-report", "out", "-p", "no:cacheprovider"]
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, timeout=300, check=False)
    return folder / "out" / "index.html"


def take(page: Path, path: Path, *, dark: bool) -> None:
    """Take a picture of the top of a page, with the plot of the worst run."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for option in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "disable-dev-shm-usage"):
        options.add_argument(f"--{option}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        driver.get(page.as_uri())
        driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 300))")
        picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
        picture.quantize(colors=200, dither=Image.Dither.NONE).save(path, optimize=True)
    finally:
        driver.quit()


def main() -> None:
    """Run the session and take both pictures."""
    with tempfile.TemporaryDirectory() as folder:
        page = report(Path(folder))
        take(page, DOCS / "page.png", dark=False)
        take(page, DOCS / "page-dark.png", dark=True)


if __name__ == "__main__":
    main()
