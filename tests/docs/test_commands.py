"""Every shell command in README.md and docs/ works, or `NOT_RUN` has the reason why no test runs it.

The commands of a page run in one shell session, in a project of their own. A block with `title="NAME"` is a file of the
project. Smoke runs train in the mode `wiring`, ten steps each: here is tested whether commands work, not what they
find. Commands that do not depend on training must print what the page shows; a line `...` stands for any lines.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import pytest

from tests import shared_fork_server
from tests.conftest import UNUSED_PLUGINS

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODE = "wiring"

# The keys of these tables are patterns of `fnmatch`.
NOT_RUN = {
    "pip install *": "installs packages; .ci/run runs the two of the README",
    "pytest --smoke recipes*": "trains for minutes",
    "pytest --smoke campaigns*": "trains for minutes",
    "pytest --smoke-bisect *": "trains for a minute; tests/plugin/test_bisect.py runs bisects",
    "python benchmarks/*": "trains for minutes",
    "pytest * ship.smoke.yaml *": "exports a model, which takes 10 s; tests/plugin/test_pipeline.py does it",
    "*package out/packages/*": "needs that model",
    "* audit recipes/* --draw *": "makes the shipped tagger's data, which takes 10 s; tests/cli/test_audit.py draws",
    "* probe recipes/*": "makes the shipped tagger's data, which takes 10 s; tests/cli/test_probe.py probes",
    "pytest --smoke test_*.py": "asserts verdicts, which ten steps do not give; tests/plugin/test_smoke.py does it",
    "tensorboard --logdir *": "serves until it is stopped; tests/plugin/test_tensorboard.py reads the files",
    "*short.smoke.yaml *": "makes the shipped tagger's data, too",
}
"""Commands that no test runs, and why."""

EXIT_STATUS = {
    "GITHUB_ACTIONS=true * pytest --smoke-preflight unfair.smoke.yaml": 1,
    "pytest --smoke bad.smoke.yaml": 2,
    "* audit mix.smoke.yaml": 1,
    "* preflight full.yml smoke.yml *": 1,
    "* audit corpus*": 1,
    "* judge docs/examples/cosine.csv": 1,
    "* watch --log train.log -- python train.py": 3,
    "* judge docs/examples": 3,
    "* judge docs/examples/*.csv": 3,
    "* judge docs/examples --format json": 3,
    "printf * judge -": 1,
    "* diagnose *broken.jsonl": 2,
    "* history docs/examples/history -o trend.html": 1,
    "* gate blobs.smoke.yaml --receipts out --max-age 7d": 1,
    "* gate blobs.smoke.yaml --receipts out --require device=cuda": 1,
    "* gate blobs.smoke.yaml --receipts out --allowed-signers allowed_signers --max-age 1d": 1,
    "* gate blobs.smoke.yaml --receipts out --require mode=constant": 1,
}
"""Commands that do not succeed by design, and their exit status."""

OUTPUT_OF_TRAINING = ("* compare * before::*", "* compare before::*")
"""Commands whose output a page shows for runs that are longer than those here."""

TRAINS = ("docs/how-to/demand-a-receipt-before-launch.md",)
"""Pages whose smoke runs must be promoted: they train in their recipe's own mode, and are short."""

NEEDS = {
    "docs/how-to/smoke-a-hugging-face-trainer.md": "transformers",
    "docs/how-to/smoke-a-lightning-module.md": "lightning",
    "docs/how-to/send-results-to-a-tracker.md": "tensorboard",
}
"""Pages about an extra, and a package of it. They are skipped where it is not installed."""

FENCE = re.compile(
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Step:
    """A file that a page shows, or a command."""

    text: str
    """Content of the file, or the command."""
    file: str = ""
    """Name of the file; empty for a command."""
    output: str = ""
    """What the page shows of the command's output."""


def steps_of(text: str) -> Iterator[Step]:
    """Yield the files and commands of a page in order."""
    for fence in FENCE.finditer(text):
        body = fence["body"].replace("\\\n", " ")
        if fence["title"]:
            yield Step(fence["body"], file=fence["title"])
        elif fence["language"] == "sh":
            yield from (Step(command) for line in body.splitlines() if (command := without_comment(line)))
        elif fence["language"] == "console":
            for command, output in re.findall(r"^\$ ([^\n]*)\n((?:(?!\$ )[^\n]*\n)*)", body, re.MULTILINE):
                yield Step(without_comment(command), output=output)


def without_comment(line: str) -> str:
    return re.sub(r"(^|\s+)#\s.*$", "", line).strip()


def commands_of(page: Path) -> list[str]:
    return [step.text for step in steps_of(page.read_text()) if not step.file]


def matching(command: str, table: dict[str, T]) -> T | None:
    """Return the entry of the first pattern that matches a command."""
    return next((entry for pattern, entry in table.items() if fnmatchcase(command, pattern)), None)


def script_of(steps: list[Step], log: Path) -> str:
    """Return a script that writes the page's files, and runs its commands with their output and status in `log`."""
    lines = []
    for number, step in enumerate(steps):
        text = step.text.replace("::constant", f"::{MODE}")  # in ids of items
        if step.file:
            folder, name = shlex.quote(str(Path(step.file).parent)), shlex.quote(step.file)
            lines += [f"mkdir -p {folder}; cat > {name} <<'END OF FILE'", text + "END OF FILE"]
        else:
            output = shlex.quote(str(log / str(number)))
            # The next command may use the exit status of this one.
            lines += ["{ " + text, f"}} > {output} 2>&1; status=$?; echo $status > {output}.status; (exit $status)"]
    return "\n".join(lines) + "\n"


def is_compared(command: str) -> bool:
    return "pytest_smoke" in command and not any(fnmatchcase(command, pattern) for pattern in OUTPUT_OF_TRAINING)


def shows(shown: str, printed: str) -> bool:
    """Tell whether a page shows what a command printed."""
    parts = re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE)
    return re.fullmatch("(?:.*\n)*".join(map(re.escape, parts)), printed) is not None


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A reader's project, with the recipes and example files that the pages name."""
    folder = tmp_path / "project"
    (folder / "docs").mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    shutil.copytree(ROOT / "recipes", folder / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    for below in (folder / "docs", folder):
        shutil.copytree(ROOT / "docs", below, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "*.svg"))
    for example in (ROOT / "docs" / "diagnose").iterdir():
        shutil.copy(example, folder)
    return folder


@pytest.fixture
def environment(tmp_path: Path, fork_server: dict[str, str]) -> dict[str, str]:
    """The shell's variables: this Python, short smoke runs on one CPU, training processes from a shared fork server."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    shutil.copy(shared_fork_server.__file__, plugins)
    options = f"--smoke-mode {MODE} --smoke-device cpu -p shared_fork_server -p no:cacheprovider"
    return {
        **os.environ,
        **fork_server,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{plugins}{os.pathsep}{ROOT}",
        "PYTEST_ADDOPTS": " ".join([options, *(f"-pno:{name}" for name in UNUSED_PLUGINS)]),
        "COLUMNS": "80",
    }


def run_page(text: str, project: Path, environment: dict[str, str]) -> list[str]:
    """Run each command of a page once; return those with another exit status or output than expected."""
    steps = list(dict.fromkeys(step for step in steps_of(text) if step.file or matching(step.text, NOT_RUN) is None))
    log = project.parent / "log"
    log.mkdir()
    shell = subprocess.run(
        ["bash", "-c", script_of(steps, log)],
        stdin=subprocess.DEVNULL,
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    problems = [shell.stderr] if shell.stderr else []
    for number, step in enumerate(steps):
        if step.file:
            continue
        printed, status = (log / str(number)).read_text(), int((log / f"{number}.status").read_text())
        print(f"$ {step.text}\n{printed}")
        if status != (expected := matching(step.text, EXIT_STATUS) or 0):
            problems.append(f"exit status {status}, not {expected}: {step.text}")
        elif step.output and is_compared(step.text) and not shows(step.output, printed):
            problems.append(f"printed something else: {step.text}")
    return problems


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(matching(command, NOT_RUN) is None for command in commands_of(page))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_command_of_a_page_works(page: Path, project: Path, environment: dict[str, str]) -> None:
    package = NEEDS.get(page.relative_to(ROOT).as_posix())
    if package is not None and find_spec(package) is None:
        pytest.skip(f"needs {package}")
    if page.relative_to(ROOT).as_posix() in TRAINS:
        environment |= {"PYTEST_ADDOPTS": environment["PYTEST_ADDOPTS"].replace(f"--smoke-mode {MODE}", "")}
    assert run_page(page.read_text(), project, environment) == []


@pytest.mark.parametrize("pattern", [*NOT_RUN, *EXIT_STATUS, *OUTPUT_OF_TRAINING])
def test_the_tables_name_commands_of_the_pages(pattern: str) -> None:
    assert any(fnmatchcase(command, pattern) for page in PAGES for command in commands_of(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_shell_commands_are_in_blocks_that_are_run(page: Path) -> None:
    """Those are `sh` blocks, and `console` blocks with the output."""
    command = re.compile(r"^(\$ |pytest --|python -m pytest_smoke |pip install )", re.MULTILINE)
    for fence in FENCE.finditer(page.read_text()):
        if fence["language"] not in ("sh", "console") and not fence["title"]:
            assert fence["language"] not in ("bash", "shell", "zsh")
            assert command.search(fence["body"]) is None, fence["body"]


def test_a_command_that_fails_or_prints_something_else_is_named(project: Path, environment: dict[str, str]) -> None:
    text = """
```yaml title="sub/a.txt"
a: 1
```
```console
$ cat sub/a.txt    # a comment
$ cat \\
  sub/b.txt
$ [ $? -eq 1 ] && echo yes
$ python -m pytest_smoke init mine
...
run it with: pytest --smoke mine.smoke.yaml
$ python -m pytest_smoke init other
created other.smoke.yaml
```
```sh
pip install something
test -e mine.smoke.yaml
```
"""
    assert run_page(text, project, environment) == [
        "exit status 1, not 0: cat    sub/b.txt",
        "printed something else: python -m pytest_smoke init other",
    ]
