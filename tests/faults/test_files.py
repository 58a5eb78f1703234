"""A file that is to be read is a pipe or a device, half-written, hostile or huge. Nothing waits for it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.session import SHORT_RECIPE, FaultSession
from tests.faults.table import Fault, assert_outcome, assert_seen, rows

SUBJECT = "Files that are read"

MAIN = """
import contextlib, io, json, signal, sys
from pytest_smoke.__main__ import main

for line in sys.stdin:
    printed = io.StringIO()
    signal.alarm(60)
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = main(json.loads(line))
    print(json.dumps([status, printed.getvalue()]))
"""
"""Program that executes the commands on its standard input, as `python -m pytest_smoke` does."""
ERROR = "exit status 2"
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000

COMMANDS: dict[str, Fault] = {
    command: Fault(name=name, happens=happens, verdict=verdict, sentence=sentence)
    for command, name, happens, verdict, sentence in (
        (
            "judge pipe",
            "judge-pipe",
            "`judge` reads a named pipe that nobody writes to",
            ERROR,
            "pipe: error (unreadable): this is a pipe, not a file: `judge -` judges what it yields on standard input",
        ),
        (
            "judge /dev/zero",
            "judge-device",
            "`judge` reads `/dev/zero`",
            ERROR,
            "/dev/zero: error (unreadable): this is a device, not a file: `judge -` judges what it yields on standard "
            "input",
        ),
        (
            "judge dangling.log",
            "judge-dangling",
            "`judge` reads a symbolic link that leads nowhere",
            ERROR,
            "dangling.log: error (unreadable): file not found",
        ),
        (
            "judge board",
            "judge-events-pipe",
            "An event file of TensorBoard is a named pipe",
            ERROR,
            "board: error (unreadable): this is a pipe, not a file: `judge -` judges what it yields on standard input",
        ),
        (
            "judge line.log",
            "judge-long-line",
            "A line of a log has a million characters",
            "exit status 1",
            "line.log: inconclusive (too-short): 2 points, at least 32 needed to tell a rise from noise",
        ),
        (
            "judge \x1b[31m.log",
            "judge-escape",
            "The name of a log has a sequence that colours the terminal",
            ERROR,
            "\\x1b[31m.log: error (unreadable): file not found",
        ),
        (
            "judge negative.jsonl",
            "judge-negative-steps",
            "The steps of a log are negative",
            "exit status 1",
            "column 'step' is not used as the step, because it holds -1",
        ),
        (
            "report pipe",
            "report-pipe",
            "`report` reads a named pipe",
            ERROR,
            "report: pipe: this is a pipe, not a file: `judge -` judges what it yields on standard input",
        ),
        (
            "report data --output pipe",
            "report-to-pipe",
            "`report` writes to a named pipe",
            ERROR,
            "report: pipe: cannot be read: not a regular file; name another file with --output",
        ),
        (
            "diagnose pipe",
            "diagnose-pipe",
            "`diagnose` reads a named pipe",
            ERROR,
            "diagnose: pipe: cannot be read: not a regular file; to read what a pipe yields, pass - and pipe it in",
        ),
        (
            "diagnose digits.jsonl",
            "diagnose-digits",
            "A number has 100,000 digits",
            ERROR,
            "diagnose: digits.jsonl:1: a number has thousands of digits; allowed: whole numbers of code points",
        ),
        (
            "probe pipe",
            "recipe-pipe",
            "A recipe is a named pipe",
            ERROR,
            "probe: pipe:1:1: this is not a regular file",
        ),
        (
            "package piped",
            "package-pipe",
            "The manifest of a package is a named pipe",
            ERROR,
            "package: piped/manifest.json: not a regular file; a package is a folder with a manifest.json",
        ),
        (
            "package deep",
            "package-deep",
            "The manifest of a package has 100,000 nested levels",
            ERROR,
            "package: deep/manifest.json is not valid JSON: nested too deeply",
        ),
        (
            "package outside",
            "package-outside",
            "The manifest of a package names `../../etc/passwd`",
            ERROR,
            "package: outside/manifest.json: 'files' has '../../etc/passwd', which does not name a file in the same "
            "folder",
        ),
        (
            "audit data --by rows",
            "corpus-pipe",
            "A file of a corpus is a named pipe",
            ERROR,
            "audit: data/a.csv: not a regular file, or a broken link",
        ),
        (
            "compare nested nested",
            "verdicts-deep",
            "`verdicts.json` has 100,000 nested levels",
            ERROR,
            "compare: nested/verdicts.json: not valid JSON (nested too deeply)",
        ),
        (
            "compare half half",
            "verdicts-half",
            "`verdicts.json` ends in the middle",
            ERROR,
            "compare: half/verdicts.json:1:40: not valid JSON (Unterminated string starting at)",
        ),
        (
            "merge binary --output merged",
            "verdicts-binary",
            "`verdicts.json` is not text",
            ERROR,
            "merge: binary/verdicts.json: not valid JSON ('utf-8' codec can't decode byte 0xff in position 1: ...)",
        ),
    )
}
"""Rows by the arguments of a command."""
RECIPES: dict[str, Fault] = {
    text: Fault(name=name, happens=happens, verdict=verdict, sentence=sentence)
    for text, name, happens, verdict, sentence in (
        (
            "checks: {accept: [loss < baseline.loss], baseline: pipe}\n",
            "baseline-pipe",
            "`checks.baseline` is a named pipe",
            "invalid (missing-baseline)",
            "checks.baseline 'pipe' cannot be read: not a regular file",
        ),
        (
            "mix: {corpus: data, sources: {a: {weight: 1}}}\n",
            "mix-pipe",
            "A file of the data mix is a named pipe",
            "invalid (corpus-unreadable)",
            "the corpus cannot be counted: .../data/a.csv: not a regular file, or a broken link",
        ),
        (
            "command: [sh, -c, 'sleep 0.1']\nlog: pipe\n",
            "command-pipe",
            "The log of a command is a named pipe",
            "error (no-loss)",
            "the command ended with exit status 0, but its log pipe cannot be judged: this is a pipe or a device, "
            "which cannot be read again; name a text file",
        ),
    )
}
"""Rows by what a recipe has besides the settings of the runs."""
FAULTS = (*COMMANDS.values(), *RECIPES.values())


@contextmanager
def files(folder: Path) -> Iterator[None]:
    """Write the files that the rows name, and remove those that no program could have left."""
    for name in ("board", "piped", "deep", "outside", "data", "nested", "half", "binary"):
        (folder / name).mkdir()
    for name in ("pipe", "board/events.out.tfevents.1", "piped/manifest.json", "data/a.csv"):
        os.mkfifo(folder / name)
    os.symlink("nowhere", folder / "dangling.log")
    outside = {"../../etc/passwd": {"bytes": 1, "sha256": ""}}
    texts: Mapping[str, str | bytes] = {
        "deep/manifest.json": DEEP,
        "outside/manifest.json": json.dumps({"schema": 1, "files": outside, "tolerance": 0.1}),
        "nested/verdicts.json": DEEP,
        "half/verdicts.json": '{"schema": 1, "outcomes": [{"id": "a", "st',
        "binary/verdicts.json": b"\0\xff",
        "line.log": "step 0 loss 3.0\n" + "a=" * 500_000 + "\nstep 1 loss 2.0\n",
        "negative.jsonl": '{"step": -1, "loss": 1}\n' * 3,
        "digits.jsonl": f'{{"raw": {"9" * 100_000}}}\n',
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    yield
    for name in texts:
        (folder / name).unlink()


@pytest.fixture(scope="module")
def printed(fault_session: Callable[[str], FaultSession]) -> dict[str, tuple[int, str]]:
    """Execute all commands in one process; return their exit status and what they printed."""
    with fault_session("files") as session, files(session.path):
        requests = "".join(json.dumps(command.split(" ")) + "\n" for command in COMMANDS)
        (session.path / "requests").write_text(requests)
        (session.path / "run_main.py").write_text(f"import sys\nsys.stdin = open('requests')\n{MAIN}")
        replies = map(json.loads, session.run("run_main.py").stdout.splitlines())
        return dict(zip(COMMANDS, replies, strict=True))


@rows(tuple(COMMANDS.values()))
def test_a_file_that_a_command_reads(fault: Fault, printed: dict[str, tuple[int, str]]) -> None:
    status, text = next(printed[command] for command, row in COMMANDS.items() if row is fault)
    assert_seen(fault, f"exit status {status}", *text.splitlines())
    assert len(text) < 5000


@pytest.fixture(scope="module")
def outcomes(fault_session: Callable[[str], FaultSession]) -> dict[str, dict[str, Any]]:
    """Run all recipes in one session."""
    with fault_session("recipe-files") as session, files(session.path):
        for text, fault in RECIPES.items():
            settings = SHORT_RECIPE.partition("\n")[2]
            task = "" if "command" in text else "task: tasks:Teacher\n"
            session.recipe(fault.name, base=task + settings + text)
        session.pytest("--smoke", "--smoke-report", "out", "--smoke-timeout", "60")
        return session.outcomes()


@rows(tuple(RECIPES.values()))
def test_a_file_that_a_recipe_names(fault: Fault, outcomes: dict[str, dict[str, Any]]) -> None:
    assert_outcome(fault, outcomes[fault.name])
