"""Store every smoke run as an offline run of Weights & Biases; `wandb sync` uploads them."""

import csv
from collections import defaultdict

PROJECT = "smoke-runs"
STORED = []  # ids of the smoke runs of this session


def pytest_smoke_outcome(config, outcome):
    run = start_run(
        config.rootpath,
        name=outcome.id,
        job_type="smoke",
        notes=outcome.text,
        tags=[tag for tag in (outcome.verdict, outcome.reason) if tag],
        config=settings_of(outcome),
    )
    for step, values in points_of(config, outcome):
        run.log(values, step=step)
    run.summary.update(
        {"verdict": outcome.verdict, "reason": outcome.reason, "git_commit": outcome.facts.git_commit or ""}
    )
    run.finish(exit_code=0 if outcome.promoted else 1)
    STORED.append(outcome.id)


def pytest_sessionfinish(session):
    report = session.config.getoption("smoke_report", None)
    page = report and report / "index.html"  # written by now
    if STORED and page and page.is_file():
        run = start_run(session.config.rootpath, name="report", job_type="report")
        run.log_artifact(str(page), name="smoke-report", type="report")
        run.finish()


def start_run(folder, **given):
    import wandb  # takes seconds, and sessions without smoke runs do not need it

    # `create_new` leaves a run alone that other code has open. The use of this machine is not that of the training.
    settings = wandb.Settings(silent=True, x_disable_stats=True, reinit="create_new")
    return wandb.init(project=PROJECT, dir=folder, mode="offline", settings=settings, **given)


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
