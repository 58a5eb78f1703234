"""Draw docs/terminal.svg from a real session: the starter recipe, and the same recipe with a learning rate of 1.

pip install rich && python docs/terminal.py
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pytest_smoke.recipe.starter import write_starter

ROOT = Path(__file__).parents[1]
COLUMNS = 88
HEADER = ("platform", "cachedir", "rootdir", "configfile", "plugins", "hypothesis")
HOT = "extends: mine.smoke.yaml\nfull: {learning_rate: 1.0}\n"


def session() -> str:
    """Return the output of the session, with its colours."""
    with tempfile.TemporaryDirectory() as folder:
        write_starter(Path(folder), "mine")
        (Path(folder) / "hot.smoke.yaml").write_text(HOT)
        options = ["--smoke", "-rN", "-p", "no:cacheprovider", "--color=yes"]
        command = [sys.executable, "-m", "pytest", *options]
        environment = {**os.environ, "COLUMNS": str(COLUMNS)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        return done.stdout


def without_header(text: str) -> str:
    """Drop the lines about the machine."""
    return "\n".join(["$ pytest --smoke", *(line for line in text.splitlines() if not line.startswith(HEADER))])


def main() -> None:
    """Run the session and write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(without_header(session())))
    console.save_svg(str(ROOT / "docs" / "terminal.svg"), title="pytest --smoke")


if __name__ == "__main__":
    main()
