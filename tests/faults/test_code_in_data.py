"""A recipe, a config, a package or a checkpoint names code that is not the project's own. It is not executed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from hashlib import sha256

import pytest
import torch
from safetensors.torch import save_file

from tests.faults.session import SHORT_RECIPE, FaultSession
from tests.faults.table import Fault, assert_seen, rows

SUBJECT = "Code in data"

SETTINGS = SHORT_RECIPE.partition("\n")[2]
TOUCH = "{command: touch called}"
EVIL = b"cposix\nsystem\n(S'touch called'\ntR."
"""A pickle that calls `os.system`."""
LIBRARY = "is part of Python's standard library; name a class or function of your own"
NOT_A_PATH = "it must be an import path, package.module:Name"

REFUSED: dict[str, Fault] = {
    text: Fault(name=name, happens=happens, verdict="exit status 2", sentence=sentence)
    for text, name, happens, sentence in (
        (
            f"task: os:system\nargs: {TOUCH}\n{SETTINGS}",
            "task-os-system",
            "A recipe's task is `os:system`, and its arguments are a command",
            f"task-os-system.smoke.yaml:1:7: task os:system {LIBRARY}",
        ),
        (
            f"hf: subprocess:Popen\nargs: {{args: [touch, called]}}\n{SETTINGS}",
            "factory-popen",
            "A recipe's factory is `subprocess:Popen`",
            f"factory-popen.smoke.yaml:1:5: hf subprocess:Popen {LIBRARY}",
        ),
        (
            f"task: torch:load\nargs: {{f: evil.pickle, weights_only: false}}\n{SETTINGS}",
            "task-torch-load",
            "A recipe's task is `torch:load`, and its arguments name a pickle",
            "task-torch-load.smoke.yaml:1:7: task torch:load is outside pytest's rootdir ...; a recipe may name it if "
            "the project's ini file allows it: smoke_allow_tasks = torch",
        ),
        (
            f"task: pytest_smoke.train.pickled:load\nargs: {{path: evil.pickle}}\n{SETTINGS}",
            "task-own-loader",
            "A recipe's task is the function that reads pickled tasks",
            "task-own-loader.smoke.yaml:1:7: task pytest_smoke.train.pickled:load is part of pytest_smoke, which has "
            "no task; name a class or function of your own",
        ),
        (
            f"task: tasks:os.system\nargs: {TOUCH}\n{SETTINGS}",
            "task-attribute",
            "A recipe's task is an attribute of something that its module imports",
            f"task-attribute.smoke.yaml:1:7: task is the text 'tasks:os.system'; {NOT_A_PATH}",
        ),
        (
            f"task: ../evil:Teacher\n{SETTINGS}",
            "task-path",
            "A recipe's task is a path that leads out of the project",
            f"task-path.smoke.yaml:1:7: task is the text '../evil:Teacher'; {NOT_A_PATH}",
        ),
        (
            f"task: tasks:Teacher\nargs: {{noise: !!python/object/apply:os.system [touch called]}}\n{SETTINGS}",
            "yaml-tag",
            "A recipe has a YAML tag that calls `os.system`",
            "yaml-tag.smoke.yaml:2:15: tag !!python/object/apply:os.system is not allowed; write the value without a "
            "tag",
        ),
        (
            f"task: tasks:Teacher\n{SETTINGS}checks: {{accept: [\"__import__('os').system('touch called') < 1\"]}}\n",
            "criterion-call",
            "A criterion calls `os.system`",
            "criterion-call.smoke.yaml:...:19: criterion \"__import__('os').system('touch called') < 1\": column 12: "
            '"\'" is not part of the criteria language; allowed: ...',
        ),
    )
}
"""Rows by the recipe."""
COMMANDS: dict[str, Fault] = {
    "package evil": Fault(
        name="package-os-system",
        happens="The recipe in a package has the task `os:system`",
        verdict="exit status 1",
        sentence=f"FAIL  model.safetensors: cannot be loaded and run: ...task os:system {LIBRARY}",
    ),
    "package exits": Fault(
        name="package-sys-exit",
        happens="The recipe in a package has the task `sys:exit`, with the argument 0",
        verdict="exit status 1",
        sentence=f"FAIL  model.safetensors: cannot be loaded and run: ...task sys:exit {LIBRARY}",
    ),
    "probe good.smoke.yaml --checkpoint evil.pickle": Fault(
        name="checkpoint-pickle",
        happens="A checkpoint is a pickle that calls `os.system`",
        verdict="exit status 2",
        sentence="probe: evil.pickle cannot be read by torch.load(weights_only=True), which accepts tensors and plain "
        "values: ...nsupported ...",
    ),
}
"""Rows by the arguments of a command."""
RUN_MAIN = """
import contextlib, io, json, sys
from pytest_smoke.__main__ import main

for command in sys.argv[1:]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = main(command.split())
    print(json.dumps([status, printed.getvalue()]))
"""
"""Program that executes its arguments as `python -m pytest_smoke` does."""
FAULTS = (*REFUSED.values(), *COMMANDS.values())


@pytest.fixture(scope="module")
def seen(fault_session: Callable[[str], FaultSession]) -> dict[str, tuple[str, list[str]]]:
    """Load all recipes and execute all commands; return status and printed lines by the name of a row."""
    with fault_session("code") as session:
        (session.path / "evil.pickle").write_bytes(EVIL)
        for text, fault in REFUSED.items():
            session.recipe(fault.name, base=text)
        result = session.pytest("--smoke", "--smoke-report", "out")
        assert result.ret == pytest.ExitCode.INTERRUPTED
        found = {fault.name: ("exit status 2", result.outlines) for fault in REFUSED.values()}
        session.recipe("good")
        for folder, task, args in (("evil", "os:system", {"command": "touch called"}), ("exits", "sys:exit", {})):
            write_package(session, folder, {"task": task, "args": args, "smoke": {"args": {}, "cpu_threads": 1}})
        (session.path / "run_main.py").write_text(RUN_MAIN)
        replies = map(json.loads, session.run("run_main.py", *COMMANDS).stdout.splitlines())
        for fault, (status, text) in zip(COMMANDS.values(), replies, strict=True):
            found[fault.name] = (f"exit status {status}", text.splitlines())
        assert not (session.path / "called").exists()
        return found


def write_package(session: FaultSession, name: str, recipe: dict[str, object]) -> None:
    """Write a package with a sound manifest."""
    folder = session.path / name
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"recipe": recipe}))
    for file in ("examples", "model"):
        save_file({"input.0": torch.ones(1), "output.0": torch.ones(1)}, folder / f"{file}.safetensors")
    (folder / "model.onnx").write_bytes(b"")
    files = {
        path.name: {"bytes": os.path.getsize(path), "sha256": sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
    }
    (folder / "manifest.json").write_text(json.dumps({"schema": 1, "files": files, "tolerance": 0.1}))


@rows(FAULTS)
def test_code_that_data_names_is_not_executed(fault: Fault, seen: dict[str, tuple[str, list[str]]]) -> None:
    status, lines = seen[fault.name]
    assert_seen(fault, status, *lines)
