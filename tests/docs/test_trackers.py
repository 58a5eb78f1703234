"""The examples for experiment trackers store what they should: read back through the trackers' own interfaces.

The packages are large and need other versions than constraints.txt, so `.ci/newest` and `tox -e trackers` install them.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.conftest import Project, project

__all__ = ["project"]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "trackers"
PAGE = EXAMPLES.parents[1] / "how-to" / "send-results-to-a-tracker.md"
TASKS = """
import tasks


class Named(tasks.Teacher):
    def evaluate(self, model):
        return {"val accuracy@1": super().evaluate(model)["val_accuracy"]}


class Breaks(tasks.Teacher):
    steps = 0

    def losses(self, model, batch):
        self.steps += model.training
        factor = 1.0 if self.steps < 50 else float("nan")
        return {name: factor * loss for name, loss in super().losses(model, batch).items()}
"""
READERS = {
    "mlflow": """
from mlflow import MlflowClient

client = MlflowClient(tracking_uri="sqlite:///mlflow.db")
[experiment] = client.search_experiments(filter_string="name = 'smoke-runs'")
for run in client.search_runs([experiment.experiment_id]):
    series = {
        name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    files = [file.path for file in client.list_artifacts(run.info.run_id)]
    show(run.info.run_name, {**run.data.tags, "status": run.info.status}, run.data.params, series, files)
""",
    "wandb": """
import pathlib
import subprocess

for log in pathlib.Path("wandb").glob("offline-run-*/*.wandb"):
    command = [pathlib.Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", log]
    records = [json.loads(line) for line in subprocess.check_output(command, text=True).splitlines()]
    run = next(record["run"] for record in records if record["type"] == "run")
    status = next(record["exit"].get("exit_code", 0) for record in records if record["type"] == "exit")
    summary, series, files = {}, {}, []
    for record in records:
        if record["type"] == "summary":
            summary |= record["summary"]["update"]
        elif record["type"] == "history":
            for name, value in record["history"]["item"].items():
                if not name.startswith("_"):
                    series.setdefault(name, []).append((record["history"]["step"].get("num", 0), value))
        elif record["type"] == "artifact":
            files += [entry["path"] for entry in record["artifact"]["manifest"]["contents"]]
    params = run.get("config", {}).get("update", {})
    show(run["display_name"], {**summary, "tags": run.get("tags", []), "status": status}, params, series, files)
""",
    "trackio": """
import trackio
from trackio.sqlite_storage import SQLiteStorage

for run in trackio.Api().runs("smoke-runs"):
    series = {}
    for row in SQLiteStorage.get_logs("smoke-runs", run.name, run_id=run.id):
        for name in row.keys() - {"step", "timestamp"}:
            series.setdefault(name, []).append((row["step"], row[name]))
    show(run.name, run.config or {}, run.config or {}, series, [])
""",
}
"""Programs that show what a tracker stored, by its package. They read it with the tracker's own interface."""
SHOW = """
import json
import sys


def show(name, tags, params, series, files):
    print(json.dumps({"name": name, "tags": tags, "params": params, "series": series, "files": files}))

"""


def stored(project: Project, package: str) -> dict[str, dict[str, Any]]:
    """Return what the tracker stored, by the name of the recipe."""
    command = [sys.executable, "-c", SHOW + READERS[package]]
    shown = subprocess.run(command, cwd=project.path, capture_output=True, text=True, timeout=100, check=True).stdout
    runs = [json.loads(line) for line in shown.splitlines()]
    found = {run["name"].partition(".")[0]: run for run in runs}
    assert len(found) == len(runs)
    return found


@pytest.mark.parametrize("package", READERS)
def test_the_page_shows_the_whole_example(package: str) -> None:
    example = (EXAMPLES / package / "conftest.py").read_text()
    assert f"```python\n{example}```\n" in PAGE.read_text()


@pytest.mark.parametrize("package", READERS)
def test_an_example_stores_settings_all_steps_and_the_verdict_of_each_run(
    project: Project, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec(package) is None:
        pytest.skip(f"needs {package}, which `tox -e trackers` and `.ci/newest` install")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens there: whatever needs the network fails
    monkeypatch.setenv("TRACKIO_DIR", str(project.path / "trackio"))
    shutil.copy(EXAMPLES / package / "conftest.py", project.path)
    (project.path / "more_tasks.py").write_text(TASKS)
    project.recipe(extra="args: {momentum: 0.9}\n")
    project.extending("named", "task: more_tasks:Named\n")
    project.extending("nan", "task: more_tasks:Breaks\n")
    project.extending("unfair", "smoke: {max_steps: 30}\n")

    result = project.run("--smoke", "-n", "2", "--smoke-report", "out", fresh=True)
    result.stdout.no_fnmatch_line("*pytest_smoke_outcome raised*")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    outcomes = {outcome["recipe"].partition(".")[0]: outcome for outcome in project.verdicts()}
    verdicts = {name: outcome["verdict"] for name, outcome in outcomes.items()}
    assert verdicts == {"good": "promote", "named": "promote", "nan": "unstable", "unfair": "invalid"}

    runs = stored(project, package)
    page = runs.pop("report", None)
    assert runs.keys() == outcomes.keys()
    for name, run in runs.items():
        outcome, tags = outcomes[name], run["tags"]
        assert run["name"] == outcome["id"]
        assert tags["verdict"] == outcome["verdict"]
        assert tags["reason"] == outcome["reason"]
        assert float(run["params"]["learning_rate"]) == 3e-3
        trace = trace_of(project, outcome)
        for column in ("loss", "lr", "probe_loss", "loss/ce"):
            expected = {int(row["step"]): float(row[column]) for row in trace if row[column]}
            # In JSON, wandb shows NaN as a text.
            assert {step: float(value) for step, value in run["series"].get(column, [])} == pytest.approx(
                expected, nan_ok=True
            )
    assert len(trace_of(project, outcomes["good"])) == 400
    assert math.isnan(float(runs["nan"]["series"]["loss"][-1][1]))
    assert float(runs["good"]["params"]["args.momentum"]) == 0.9
    [metric] = [series for column, series in runs["named"]["series"].items() if column.startswith("metrics/val acc")]
    assert metric[-1][1] == outcomes["named"]["metrics"]["val accuracy@1"][-1][1]

    if package == "mlflow":
        assert all(run["files"] == ["index.html"] for run in runs.values())
        assert {name: run["tags"]["status"] for name, run in runs.items() if run["tags"]["status"] != "FINISHED"} == {
            "nan": "FAILED",
            "unfair": "FAILED",
        }
    elif package == "wandb":
        assert page is not None
        assert page["files"] == ["index.html"]
        assert runs["nan"]["tags"]["tags"] == ["unstable", "non-finite"]
        assert [runs[name]["tags"]["status"] for name in ("good", "nan")] == [0, 1]
    else:
        assert page is not None
        [blob] = (path for path in (project.path / "trackio" / "artifacts").rglob("*") if path.is_file())
        assert blob.read_bytes() == (project.path / "out" / "index.html").read_bytes()


def trace_of(project: Project, outcome: dict[str, Any]) -> list[dict[str, str]]:
    """Return the rows of an outcome's trace; none if nothing was trained."""
    if "trace" not in outcome["facts"]:
        return []
    with (project.path / "out" / outcome["facts"]["trace"]).open() as file:
        return list(csv.DictReader(file))
