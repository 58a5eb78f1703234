"""Store every smoke run in trackio's local database; `trackio show --project smoke-runs` shows it."""

import contextlib
import csv
import io
from collections import defaultdict

PROJECT = "smoke-runs"
STORED = []  # ids of the smoke runs of this session


def pytest_smoke_outcome(config, outcome):
    verdict = {"verdict": outcome.verdict, "reason": outcome.reason, "text": outcome.text}
    commit = {"git_commit": outcome.facts.git_commit or ""}
    with open_run(name=outcome.id, group=outcome.verdict, config=settings_of(outcome) | verdict | commit) as run:
        for step, values in points_of(config, outcome):
            run.log(values, step=step)
        run.log({"promoted": int(outcome.promoted)})  # a run without numbers is not listed
    STORED.append(outcome.id)


def pytest_sessionfinish(session):
    report = session.config.getoption("smoke_report", None)
    page = report and report / "index.html"  # written by now
    if STORED and page and page.is_file():
        with open_run(name="report") as run:
            run.log_artifact(str(page), name="smoke-report", type="report")


@contextlib.contextmanager
def open_run(**given):
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a page of text for each run
        import trackio  # takes a second, and sessions without smoke runs do not need it

        # The use of this machine is not that of the training.
        run = trackio.init(project=PROJECT, embed=False, auto_log_gpu=False, auto_log_cpu=False, **given)
        yield run
        trackio.finish()


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
