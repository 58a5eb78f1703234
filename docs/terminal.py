"""Draw docs/terminal.svg: a real session with a recipe that is promoted and one that is not.

pip install rich pexpect && python docs/terminal.py
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

import pexpect
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
COLUMNS = 140
HEADER = ("platform", "cachedir", "rootdir", "configfile", "plugins", "hypothesis")
HOT = "extends: char_lm.smoke.yaml\nfull: {learning_rate: 0.3, grad_clip_norm: null}\n"


def session() -> str:
    """Run the two recipes in a terminal; return what it shows, with its colour codes."""
    with tempfile.TemporaryDirectory() as folder:
        recipes = Path(folder) / "recipes"
        recipes.mkdir()
        for name in ("char_lm.py", "char_lm.smoke.yaml"):
            shutil.copy(ROOT / "recipes" / name, recipes)
        (recipes / "char_lm_hot.smoke.yaml").write_text(HOT)
        command = "-m pytest --smoke -v -p no:cacheprovider --color=yes recipes"
        shell = pexpect.spawn(
            sys.executable, command.split(), cwd=folder, encoding="utf-8", timeout=300, dimensions=(60, COLUMNS)
        )
        shell.expect(pexpect.EOF)
        return shell.before or ""


def settled(text: str) -> str:
    """Return the lines without what a carriage return overwrote, and without pytest's header."""
    lines = [line.rstrip("\r").rpartition("\r")[2].removeprefix("\x1b[K") for line in text.split("\n")]
    kept = [line for line in lines if not line.startswith(HEADER)]
    return "\n".join(["$ pytest --smoke -v recipes", *kept])


def main() -> None:
    """Run it and write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(settled(session())))
    console.save_svg(str(ROOT / "docs" / "terminal.svg"), title="pytest --smoke")


if __name__ == "__main__":
    main()
