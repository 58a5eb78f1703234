"""Every shell command in README.md, CONTRIBUTING.md and docs/ works, or `NOT_RUN` has the reason why no test runs it.

The commands of a page run in one shell session, in a project of their own. A block with `title="NAME"` is a file of the
project. Smoke runs train in the mode `wiring`, ten steps each: here is tested whether commands work, not what they
find. Commands that do not depend on training must print what the page shows; a line `...` stands for any lines.

Commands within a sentence are not run: the options that they name must exist.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

from pytest_smoke.__main__ import COMMANDS
from tests import shared_fork_server
from tests.conftest import UNUSED_PLUGINS
from tests.session_server import SessionServer

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PYTHON = Path(sys.executable).parent
"""Folder with this interpreter, and the programs that are installed for it."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [path.read_text() for path in (ROOT / "docs" / "examples").rglob("*.yml")]
"""Workflows whose commands tests/docs/test_workflows.py runs."""
MODE = "wiring"

# The keys of these tables are patterns of `fnmatch`.
NOT_RUN = {
    "pip install *": "installs packages; .ci/run runs the two of the README",
    "python -m venv *": "makes an environment; .ci/run makes two",
    ".ci/run": "runs this test",
    "pre-commit install": "changes the git repository",
    "pytest -n 2 *": "runs this test",
    "pytest tests/judge tests/criteria": "runs tests of this session",
    "ruff format . && *": "formats the sources; .ci/run checks them",
    "python -m sphinx *": "tests/docs/test_site.py builds the site",
    "towncrier build *": "changes CHANGELOG.md",
    "set -e": "is a line of a job's script, and would end the shell of this test",
    "srun *": "needs Slurm",
    "* merge out/$SLURM_JOB_ID/*": "needs Slurm; tests/plugin/test_many_machines.py plays its tasks",
    "* gate * --require device=cuda": "needs the receipt of a GPU; tests/receipts has gates of all kinds",
    "torchrun * train.py *": "stands for the reader's own training; the logs are in docs/examples",
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

OUTPUT_OF_TRAINING = ("* compare * before::*", "* compare before::*", "* merge out/1 out/2 -o merged")
"""Commands whose output a page shows for runs that are longer than those here."""

TRAINS = ("docs/how-to/demand-a-receipt-before-launch.md",)
"""Pages whose smoke runs must be promoted: they train in their recipe's own mode, and are short."""

NEEDS = {
    "docs/how-to/smoke-a-hugging-face-trainer.md": "transformers",
    "docs/how-to/smoke-a-lightning-module.md": "lightning",
    "docs/how-to/send-results-to-a-tracker.md": "tensorboard",
}
"""Pages about an extra, and a package of it. They are skipped where it is not installed."""

STARTS_PYTHON = ("README.md", "docs/how-to/judge-a-log.md")
"""Pages whose commands start Python as a reader's do. On the other pages they are forks of the session server."""

FENCE = re.compile(
    r"^(?P<indent> *)(?P<mark>```+|~~~+) *(?P<language>[\w-]*)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n"
    r"(?P<body>.*?)^(?P=indent)(?P=mark) *$",
    re.DOTALL | re.MULTILINE,
)
PROGRAMS = (
    "pytest|python3?|pip3?|verdict-smoke|tox|tensorboard|mlflow|wandb|trackio|torchrun|accelerate|srun|sbatch|deepspeed|"
    r"axolotl|llamafactory-cli|git|docker|bash|cd|export|source|uv|npm|curl|ssh-keygen|towncrier|ruff|mypy|\.ci/\w+"
)
"""Programs that the pages run, or may run one day."""
COMMAND_LINE = re.compile(rf"^ *(?:\$ .*|(?:- )?(?:run: *)?(?:\w+=\S+ )*(?:{PROGRAMS}) +[^=\s].*)$", re.MULTILINE)
"""A line that a reader would copy into a shell."""
CODE_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
INLINE_NOT_RUN = {
    "tox -e *": "installs packages",
    "mlflow ui *": "serves until it is stopped",
    "trackio show *": "serves until it is stopped",
    "wandb sync": "uploads",
    "ssh-keygen -k": "is named, and not shown; tests/receipts revokes keys",
    "python docs/generate.py": "tests/docs/test_reference.py compares its pages",
    "python benchmarks/*": "trains for minutes",
    "python -m tests.fuzz.run *": "runs for minutes; tests/fuzz tries the same readers with a few inputs",
    "pip install *": "installs packages",
}
"""Commands within a sentence that are not of this package, and why no test runs them."""


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
        body = textwrap.dedent(fence["body"]).replace("\\\n", " ")
        if fence["title"]:
            yield Step(fence["body"], file=fence["title"])
        if fence["title"] and fence["language"] not in ("sh", "yaml"):
            continue
        if fence["language"] == "sh":
            yield from (Step(command) for line in body.splitlines() if (command := without_comment(line)))
        elif fence["language"] == "yaml" and fence["body"] not in EXAMPLES:
            yield from (Step(command) for command in commands_of_workflow(body))
        elif fence["language"] == "console":
            for command, output in re.findall(r"^\$ ([^\n]*)\n((?:(?!\$ )[^\n]*\n)*)", body, re.MULTILINE):
                yield Step(without_comment(command), output=output)


def commands_of_workflow(text: str) -> Iterator[str]:
    """Yield the commands in a workflow of GitHub, or in a part of one; an expression becomes `1`."""
    waiting = [yaml.safe_load(re.sub(r"\$\{\{.*?\}\}", "1", text))]
    while waiting:
        match waiting.pop(0):
            case {"run": str(script)}:
                yield from script.replace("\\\n", " ").splitlines()
            case dict(tree):
                waiting = [*tree.values(), *waiting]
            case list(parts):
                waiting = [*parts, *waiting]


def without_comment(line: str) -> str:
    return re.sub(r"(^|\s+)#\s.*$|^#.*", "", line).strip()


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
    (folder / "pytest.ini").write_text("[pytest]\nnorecursedirs = recipes\n")  # unless a command names them
    shutil.copytree(ROOT / "recipes", folder / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    for below in (folder / "docs", folder):
        shutil.copytree(ROOT / "docs", below, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "*.svg"))
    for example in (ROOT / "docs" / "diagnose").iterdir():
        shutil.copy(example, folder)
    return folder


@pytest.fixture
def environment(tmp_path: Path, fork_server: dict[str, str], session_server: SessionServer) -> dict[str, str]:
    """The shell's variables: this Python, short smoke runs on one CPU, training processes from a shared fork server."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    shutil.copy(shared_fork_server.__file__, plugins)
    options = f"--smoke-mode {MODE} --smoke-device cpu -p shared_fork_server -p no:cacheprovider"
    return {
        **os.environ,
        **fork_server,
        "PATH": os.pathsep.join([str(session_server.programs()), str(PYTHON), os.environ["PATH"]]),
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
    if page.relative_to(ROOT).as_posix() in STARTS_PYTHON:
        environment |= {"PATH": f"{PYTHON}{os.pathsep}{os.environ['PATH']}"}
    if page.relative_to(ROOT).as_posix() in TRAINS:
        environment |= {"PYTEST_ADDOPTS": environment["PYTEST_ADDOPTS"].replace(f"--smoke-mode {MODE}", "")}
    assert run_page(page.read_text(), project, environment) == []


@pytest.mark.parametrize("pattern", [*NOT_RUN, *EXIT_STATUS, *OUTPUT_OF_TRAINING])
def test_the_tables_name_commands_of_the_pages(pattern: str) -> None:
    assert any(fnmatchcase(command, pattern) for page in PAGES for command in commands_of(page))


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "commands.md"],  # help texts, which tests/docs/test_reference.py compares
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_shell_commands_are_in_blocks_that_are_run(page: Path) -> None:
    """Those are `sh` blocks, `console` blocks with the output, and `run` in workflows."""
    assert escaping_commands(page.read_text()) == []


def escaping_commands(text: str) -> list[str]:
    """Return the lines of a page that show a command, and are in a block that is not run."""
    found = []
    for fence in FENCE.finditer(text):
        if fence["language"] == "sh" or (fence["language"] == "console" and not fence["title"]):
            continue
        if fence["language"] in ("bash", "shell", "zsh", "shell-session", "powershell"):
            found.append(f"```{fence['language']}")
        if fence["body"] in EXAMPLES:
            continue
        run = list(commands_of_workflow(fence["body"])) if fence["language"] == "yaml" else []
        lines = COMMAND_LINE.findall(re.sub(r"\$\{\{.*?\}\}", "1", fence["body"]))
        found += [line for line in lines if not any(one in line for one in run)]
    return found


def test_commands_in_blocks_that_are_not_run_are_found() -> None:
    text = """
```bash
true
```

- a list

  ~~~text
  $ true
  ~~~

```yaml title="ci.yml"
jobs:
  a:
    steps:
      - run: A=1 python train.py ${{ env.x }}
      - run: |
          cd sub
          pytest --smoke
script:
  - pip install x
```
````
tox -e docs
````
```python
python = 3
pytest_smoke = python
git (1)
```
"""
    assert [line.strip() for line in escaping_commands(text)] == [
        "```bash",
        "$ true",
        "- pip install x",
        "tox -e docs",
        "git (1)",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_block_is_hidden_from_these_tests(page: Path) -> None:
    """A Markdown parser sees the same blocks, in lists and quotations as well."""
    markdown_it = pytest.importorskip("markdown_it", reason="the package markdown-it-py is not installed")
    tokens = [token for token in markdown_it.MarkdownIt().parse(page.read_text()) if token.type == "fence"]
    seen = [(fence["language"], textwrap.dedent(fence["body"])) for fence in FENCE.finditer(page.read_text())]
    assert seen == [(token.info.partition(" ")[0], textwrap.dedent(token.content)) for token in tokens]


def inline_commands(page: Path) -> list[str]:
    """Return the commands within sentences and tables."""
    spans = [" ".join(span.split()) for span in CODE_SPAN.findall(FENCE.sub("", page.read_text()))]
    ours = "|".join(COMMANDS)
    return [span for span in spans if re.match(rf"(?:\w+=\S+ )*(?:{PROGRAMS}) +[^=\s]|(?:{ours}) +-", span)]


def options_of(command: str) -> set[str]:
    """Return the options of one of the package's own commands."""
    return _options("commands", rf"^## {command}\n(.*?)(?=^## |\Z)")


def _options(page: str, part: str = "(.*)") -> set[str]:
    """Return the options on a reference page, which is generated from the code."""
    text = (ROOT / "docs" / "reference" / f"{page}.md").read_text()
    match = re.search(part, text, re.DOTALL | re.MULTILINE)
    assert match is not None
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", match[1]))


def unknown_parts(command: str) -> list[str]:
    """Return what a command within a sentence names and does not exist; the command itself if nobody knows it."""
    words = command.replace("=", " ").split()
    options = [word for word in words if word.startswith("--")]
    name = next((word for word in words if word in COMMANDS), None)
    if re.match(r"(python3? -m pytest_smoke|verdict-smoke) ", command) or words[0] in COMMANDS:
        if name is None:
            return [] if re.search(r" [A-Z]+$", command) else [command]  # `python -m pytest_smoke COMMAND`
        return [option for option in options if option not in options_of(name)]
    if words[0] == "pytest":
        return [option for option in options if option.startswith("--smoke") and option not in _options("options")]
    run = [one for page in PAGES for one in commands_of(page)]
    return [] if matching(command, INLINE_NOT_RUN) is not None or command in run else [command]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_within_sentences_exist(page: Path) -> None:
    assert [part for command in inline_commands(page) for part in unknown_parts(command)] == []


def test_a_command_within_a_sentence_that_does_not_exist_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`pytest --smoke --smoke-gone` `pytest --pdb` `python -m pytest_smoke judge --gone LOG` `verdict-smoke gone`\n"
        "`judge --follow` `init --gone` `python\ngone.py` `pip install x` `python = 3` "
        "`python -m pytest_smoke COMMAND`\n"
    )
    assert [part for command in inline_commands(page) for part in unknown_parts(command)] == [
        "--smoke-gone",
        "--gone",
        "verdict-smoke gone",
        "--gone",
        "python gone.py",
    ]


@pytest.mark.parametrize("pattern", INLINE_NOT_RUN)
def test_the_table_names_commands_within_sentences(pattern: str) -> None:
    assert any(fnmatchcase(command, pattern) for page in PAGES for command in inline_commands(page))


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
- a list
  ```yaml
  - uses: actions/checkout@v4
  - run: |
      echo ${{ github.run_id }} > run.txt
      grep -x 1 run.txt
    if: always()
  - run: cat gone.txt
  ```
"""
    assert run_page(text, project, environment) == [
        "exit status 1, not 0: cat    sub/b.txt",
        "printed something else: python -m pytest_smoke init other",
        "exit status 1, not 0: cat gone.txt",
    ]
