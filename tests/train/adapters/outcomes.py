"""Executes recipes one after the other in one process, and prints their outcomes as JSON.

In a process of its own, because the trainers' libraries take seconds to import and emit warnings; in one for all
recipes, for the same reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
ONE_CORE = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
SECONDS = 600


def outcomes_of(recipes: Mapping[str, str], folder: Path) -> dict[str, dict[str, Any]]:
    """Return the outcome of each recipe (YAML text by name) of a run in this process's child; `folder` is its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.adapters.outcomes"],
        input=json.dumps(recipes),
        cwd=folder,
        env={**os.environ, **OFFLINE, **ONE_CORE, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def finding_of(outcome: Mapping[str, Any], finding_id: str) -> dict[str, Any]:
    return next(finding for finding in outcome["findings"] if finding["id"] == finding_id)


def main() -> None:
    from pytest_smoke.monitor.smoke import RunOptions, run_smoke
    from pytest_smoke.recipe.load import load_cases

    recipes = json.load(sys.stdin)
    options = RunOptions(root=str(ROOT), device="cpu", isolation="none")
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, text in recipes.items():
            path = Path(temporary) / f"{name}.smoke.yaml"
            path.write_text(text)
            (case,) = load_cases(path, root=ROOT)
            preflight = replace(options, preflight_only=name.startswith("preflight"))
            found[name] = run_smoke(case, preflight, item_id=name).outcome.to_dict()
            found[name]["files_left"] = [str(left) for left in Path().iterdir()]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
