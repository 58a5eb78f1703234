"""Draw docs/progress.svg: what a terminal shows during a real session of two workers.

pip install rich pexpect pyte && python docs/progress.py
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from itertools import groupby
from pathlib import Path

import pexpect
import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

from pytest_smoke.recipe.starter import write_starter

ROOT = Path(__file__).parents[1]
COLUMNS, LINES = 88, 24
HEADER = ("platform", "cachedir", "rootdir", "configfile", "plugins", "hypothesis", "ct-smoke", "verdi")
SLOWLY = """
import time
from mine_task import Mine


class Slowly(Mine):
    def losses(self, model, batch):
        time.sleep(0.01)
        return super().losses(model, batch)
"""
RECIPES = {"hot": "{learning_rate: 0.02}", "mine_long": "{learning_rate: 2.0e-3}"}
COLOURS = {"default": None, "brown": "yellow"}


def screen() -> pyte.Screen:
    """Return the screen when both runs can be compared with their lowest level."""
    with tempfile.TemporaryDirectory() as folder:
        write_starter(Path(folder), "mine")
        (Path(folder) / "slowly.py").write_text(SLOWLY)
        for name, full in RECIPES.items():
            text = f"extends: mine.smoke.yaml\ntask: slowly:Slowly\nfull: {full}\n"
            (Path(folder) / f"{name}.smoke.yaml").write_text(text)
        command = [
            "-m",
            "pytest",
            "--smoke",
            "-n",
            "2",
            "-p",
            "no:cacheprovider",
            *(f"{n}.smoke.yaml" for n in RECIPES),
        ]
        environment = {key: value for key, value in os.environ.items() if key not in ("CI", "BUILD_NUMBER", "COLUMNS")}
        shell = pexpect.spawn(
            sys.executable,
            command,
            cwd=folder,
            encoding="utf-8",
            dimensions=(LINES, COLUMNS),
            env={**environment, "TERM": "xterm-256color"},
        )
        shown = pyte.Screen(COLUMNS, LINES)
        stream = pyte.Stream(shown)
        while sum(" alarm at " in line for line in shown.display) < len(RECIPES) or not _is_half_way(shown):
            with contextlib.suppress(pexpect.TIMEOUT):
                stream.feed(shell.read_nonblocking(4096, timeout=1))
        shell.sendintr()
        shell.expect(pexpect.EOF, timeout=60)
        return shown


def _is_half_way(shown: pyte.Screen) -> bool:
    return any(re.search(r" step [34]\d\d/", line) for line in shown.display)


def text_of(shown: pyte.Screen) -> Text:
    """Return the screen with its colours, without the lines about the machine."""
    text = Text("$ pytest --smoke -n 2\n")
    for at, line in enumerate(shown.display):
        if not line.strip() or line.lstrip().startswith(HEADER):
            continue
        row = [shown.buffer[at][column] for column in range(len(line.rstrip()))]
        for (colour, bold), chars in groupby(row, key=lambda char: (char.fg, char.bold)):
            name = COLOURS.get(colour, colour.replace("bright", "bright_"))
            text.append("".join(char.data for char in chars), Style(color=name, bold=bold))
        text.append("\n")
    return text


def main() -> None:
    """Run the session and write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(text_of(screen()))
    console.save_svg(str(ROOT / "docs" / "progress.svg"), title="pytest --smoke -n 2")


if __name__ == "__main__":
    main()
