"""Call the log judges that `log_judges.py` compares, each as its documentation says, with one log per call.

`fail` is a tool's highest severity, `warn` the one below; what it calls informative is a pass. A tool could not judge
a log if it says so (no loss column found, "not checked"), crashes, or prints nothing that can be read.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["fail", "warn", "pass", "could not judge"]
TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A judge of training logs."""

    name: str
    distribution: str
    """Distribution on PyPI; its installed version is printed."""
    judge: Callable[[Path], Outcome]
    """Judges a CSV file `step,loss[,...]`."""
    only: str = ""
    """The only set it is run on; empty for all sets."""

    @property
    def version(self) -> str | None:
        """The installed version; None if it is not installed."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None


def worst(severities: Iterable[str], *, fail: str, warn: str) -> Outcome:
    """Return the outcome of a list of findings by the tool's own names of severities."""
    present = set(severities)
    return "fail" if fail in present else "warn" if warn in present else "pass"


def run_module(module: str, *arguments: str) -> Any:
    """Run `python -m module` and return the JSON it prints. Raises ValueError if it prints none.

    The exit status is ignored: some tools exit 0 whatever they find.
    """
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    return json.loads(result.stdout)


def losslint(log: Path) -> Outcome:
    """Run `losslint check --format json LOG`: error, warning, info."""
    report = run_module("losslint.cli", "check", "--format", "json", str(log))
    return worst((finding["severity"] for finding in report["findings"]), fail="error", warn="warning")


def trainspotter(log: Path) -> Outcome:
    """Run `trainspotter analyze LOG --output json`: error, warning, info."""
    report = run_module("trainspotter.cli", "analyze", str(log), "--output", "json")
    return worst((finding["severity"] for finding in report["findings"]), fail="error", warn="warning")


def runmedic(log: Path) -> Outcome:
    """Run `runmedic diagnose LOG --json`: critical, warning, info."""
    reports = run_module("runmedic", "diagnose", str(log), "--json")
    severities = (finding["severity"] for report in reports for finding in report["findings"])
    return worst(severities, fail="critical", warn="warning")


def trainproof(log: Path) -> Outcome:
    """Run `trainproof doctor LOG --json`: FAIL, WARN, PASS, NOT-CHECKED."""
    outcomes: Mapping[str, Outcome] = {"FAIL": "fail", "WARN": "warn", "PASS": "pass"}
    (report,) = run_module("trainproof", "doctor", str(log), "--json")["reports"]
    return outcomes.get(report["verdict"], "could not judge")


def gradsnitch(log: Path) -> Outcome:
    """Call `gradsnitch.lint_csv(LOG)`: error, warning."""
    from gradsnitch import lint_csv

    return worst((finding.severity for finding in lint_csv(str(log))), fail="error", warn="warning")


def finetune_doctor(log: Path) -> Outcome:
    """Run `finetune-doctor trainer_state.json --format json`, the only format it reads: CRITICAL, WARNING, INFO, OK."""
    state = log.with_suffix("") / "trainer_state.json"
    state.parent.mkdir()
    history = [{k: float(v) for k, v in row.items() if v} | {"step": int(row["step"])} for row in rows(log)]
    state.write_text(json.dumps({"log_history": history, "global_step": history[-1]["step"]}))
    report = run_module("finetune_doctor.cli", "diagnose", str(state), "--format", "json")
    return worst((finding["severity"] for finding in report["findings"]), fail="CRITICAL", warn="WARNING")


def pytest_torch(log: Path) -> Outcome:
    """Call `TrainingRun(...).assert_finite().assert_loss_decreases()`, which has no warnings."""
    from pytest_torch import TrainingRun
    from pytest_torch.training import StepRecord

    losses = [float(row["loss"]) for row in rows(log) if row["loss"]]
    records = [StepRecord(step=n, losses={"loss": loss}) for n, loss in enumerate(losses)]
    try:
        TrainingRun(losses=losses, records=records).assert_finite().assert_loss_decreases()
    except AssertionError:
        return "fail"
    return "pass"


def ours(log: Path) -> Outcome:
    """Run `pytest_smoke judge LOG --format json`; it could not judge what it calls inconclusive or invalid."""
    outcomes: Mapping[str, Outcome] = {"unstable": "fail", "promote": "pass"}
    return outcomes.get(run_module("pytest_smoke", "judge", str(log), "--format", "json")["verdict"], "could not judge")


def ours_without_probe(log: Path) -> Outcome:
    """Run `ours` without the column of the probe batch, which no other tool reads."""
    bare = log.with_suffix(".loss.csv")
    with bare.open("w", newline="") as out:
        write = csv.DictWriter(out, [k for k in next(rows(log)) if k != "probe_loss"], extrasaction="ignore")
        write.writeheader()
        write.writerows(rows(log))
    return ours(bare)


def rows(log: Path) -> Iterator[dict[str, str]]:
    """Iterate over the rows of a CSV log."""
    with log.open(newline="") as lines:
        yield from csv.DictReader(lines)


OURS = "pytest-verdict-smoke"
TOOLS = (
    Tool(name="losslint", distribution="losslint", judge=losslint),
    Tool(name="trainspotter", distribution="trainspotter", judge=trainspotter),
    Tool(name="runmedic", distribution="runmedic", judge=runmedic),
    Tool(name="trainproof", distribution="trainproof", judge=trainproof),
    Tool(name="gradsnitch", distribution="gradsnitch", judge=gradsnitch),
    Tool(name="finetune-doctor", distribution="finetune-doctor", judge=finetune_doctor),
    Tool(name="pytest-torch assertions", distribution="pytest-torch", judge=pytest_torch),
    Tool(name="judge, loss alone", distribution=OURS, judge=ours_without_probe, only="cpu_runs"),
    Tool(name="judge", distribution=OURS, judge=ours),
)
