"""The files of a project that a command consists of."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_smoke.recipe.command import CommandPlan
from pytest_smoke.recipe.load import load_cases

FILES = {
    "train.py": "import json\nimport torch\nfrom lib import model\ndef late():\n    import helpers\n",
    "lib/__init__.py": "",
    "lib/model.py": "from . import layers\nfrom lib.losses import ce\n",
    "lib/layers.py": "",
    "lib/losses.py": "ce = 1\n",
    "helpers.py": "import nowhere\n",
    "unused.py": "",
    "src/deep.py": "import train\n",
    "broken.py": "import helpers\ndef (",
    ".venv/lib/site-packages/installed.py": "",
    ".venv/pyvenv.cfg": "",
    ".venv/bin/python": "",
    "run": "#!/bin/sh\n",
    "config.yaml": "a: 1\n",
    "out.bin": "",
}
TRAIN = ["helpers.py", "lib/__init__.py", "lib/layers.py", "lib/losses.py", "lib/model.py", "train.py"]


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ('["{python}", train.py, --config, config.yaml, --out, out.bin]', sorted(["config.yaml", *TRAIN])),
        ('[torchrun, --nproc_per_node=1, train.py, --config=config.yaml]', sorted(["config.yaml", *TRAIN])),
        ('["{python}", -m, lib.model]', ["lib/__init__.py", "lib/layers.py", "lib/losses.py", "lib/model.py"]),
        ('["{python}", -m, json.tool]', []),
        ('["{python}", broken.py]', ["broken.py"]),
        ("[./run, '1']", ["run"]),
        ("[.venv/bin/python, .venv/lib/site-packages/installed.py]", []),
        ("[.venv/bin/python, helpers.py]", ["helpers.py"]),
        ("[sh, run]", []),
        ("[ls]", []),
    ],
)  # fmt: skip
def test_the_program_its_files_and_what_they_import_are_found(tmp_path: Path, command: str, found: list[str]) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    recipe = tmp_path / "a.smoke.yaml"
    full = "{batch_size: 8, learning_rate: 1.0e-3, max_steps: 100}"
    recipe.write_text(f"command: {command}\nfull: {full}\nsmoke: {{max_steps: 10}}\n")
    (case,) = load_cases(recipe, root=tmp_path)
    paths = CommandPlan.of(case, tmp_path).sources(tmp_path)
    assert [Path(path).relative_to(tmp_path).as_posix() for path in paths] == found


def test_modules_are_looked_for_in_the_python_path_of_the_recipe(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    recipe = tmp_path / "a.smoke.yaml"
    full = "{batch_size: 8, learning_rate: 1.0e-3, max_steps: 100}"
    command = 'command: ["{python}", -m, deep]\nenv: {PYTHONPATH: src}\n'
    recipe.write_text(f"{command}full: {full}\nsmoke: {{max_steps: 10}}\n")
    (case,) = load_cases(recipe, root=tmp_path)
    paths = CommandPlan.of(case, tmp_path).sources(tmp_path)
    assert [Path(path).relative_to(tmp_path).as_posix() for path in paths] == sorted(["src/deep.py", *TRAIN])
