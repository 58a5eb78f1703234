"""Store every smoke run in MLflow: settings as parameters, all steps as metrics, the verdict as tags."""

import csv
import re
import time
from collections import defaultdict

STORE = "sqlite:///mlflow.db"  # or the address of your tracking server
EXPERIMENT = "smoke-runs"
BATCH = 1000  # metrics that MLflow takes at once
RUNS = []  # ids of the runs of this session


def pytest_smoke_outcome(config, outcome):
    # Imported here, because it takes seconds and sessions without smoke runs do not need it.
    from mlflow.entities import Metric, Param

    client = client_of_store()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    tags = {
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "mlflow.note.content": outcome.text,
        "mlflow.source.git.commit": outcome.facts.git_commit or "",
    }
    run_id = client.create_run(experiment_id, tags=tags, run_name=outcome.id).info.run_id
    RUNS.append(run_id)

    params = [Param(allowed(name), str(value)[:6000]) for name, value in settings_of(outcome).items()]
    now = int(time.time() * 1000)
    metrics = [
        Metric(allowed(name), value, now, step)
        for step, values in points_of(config, outcome)
        for name, value in values.items()
    ]
    for start in range(0, len(params), 100):
        client.log_batch(run_id, params=params[start : start + 100])
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])
    client.set_terminated(run_id, "FINISHED" if outcome.promoted else "FAILED")


def pytest_sessionfinish(session):
    report = session.config.getoption("smoke_report", None)
    page = report and report / "index.html"  # written by now
    for run_id in RUNS if page and page.is_file() else []:
        client_of_store().log_artifact(run_id, str(page))


def client_of_store():
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=STORE)


def allowed(name):
    """Replace the characters that MLflow refuses in names."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)


def settings_of(outcome):
    """Return the settings of a run, the arguments of its task and where it ran."""
    facts = outcome.facts
    settings = {**facts.settings, "mode": outcome.mode, "seed": facts.seed, "device": facts.device}
    return settings | {f"args.{name}": value for name, value in facts.args.items()}


def points_of(config, outcome):
    """Return step and values of each point: of every step with --smoke-report, otherwise of blocks of steps."""
    points = defaultdict(dict)
    report = config.getoption("smoke_report")
    if report and outcome.facts.trace:
        with open(report / outcome.facts.trace) as trace:
            for row in csv.DictReader(trace):
                names = row.keys() - {"step", "stage", "phase"}
                points[int(row["step"])] = {name: float(row[name]) for name in names if row[name]}
    else:
        for step, loss in zip(outcome.curve.get("step", []), outcome.curve.get("loss", []), strict=True):
            points[step]["loss"] = loss
    for name, series in outcome.metrics.items():
        for step, value in series:
            points[step][f"metrics/{name}"] = value
    return sorted(points.items())
