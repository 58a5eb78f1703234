"""The log judges that `peers.py` compares, each called as its documentation says, one log a call.

A tool's FAIL is its own top severity, a warning the one below; what it calls informative is a pass. No output that can
be read (no loss column found, a crash, its own "not checked") is no verdict.
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
    """A judge of logs."""

    name: str
    distribution: str
    """What pip installs; its version is printed."""
    judge: Callable[[Path], Outcome]
    """From a CSV file `step,loss[,...]` to the tool's outcome."""
    only: str = ""
    """The set it is run on, where that is one."""

    @property
    def version(self) -> str | None:
        """The installed version; None: not installed."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None


def worst(severities: Iterable[str], *, fail: str, warn: str) -> Outcome:
    """The outcome of a list of findings."""
    found = set(severities)
    return "fail" if fail in found else "warn" if warn in found else "pass"


def answer(module: str, *arguments: str) -> Any:
    """The JSON that a tool's command prints; ValueError if it prints none.

    The exit status is not read: some tools exit 0 whatever they found.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    return json.loads(done.stdout)


def losslint(log: Path) -> Outcome:
    """`losslint check --format json LOG`: error, warning, info."""
    found = answer("losslint.cli", "check", "--format", "json", str(log))
    return worst((f["severity"] for f in found["findings"]), fail="error", warn="warning")


def trainspotter(log: Path) -> Outcome:
    """`trainspotter analyze LOG --output json`: error, warning, info."""
    found = answer("trainspotter.cli", "analyze", str(log), "--output", "json")
    return worst((f["severity"] for f in found["findings"]), fail="error", warn="warning")


def runmedic(log: Path) -> Outcome:
    """`runmedic diagnose LOG --json`: critical, warning, info."""
    runs = answer("runmedic", "diagnose", str(log), "--json")
    return worst((f["severity"] for run in runs for f in run["findings"]), fail="critical", warn="warning")


def trainproof(log: Path) -> Outcome:
    """`trainproof doctor LOG --json`: FAIL, WARN, PASS, NOT-CHECKED."""
    words: Mapping[str, Outcome] = {"FAIL": "fail", "WARN": "warn", "PASS": "pass"}
    (report,) = answer("trainproof", "doctor", str(log), "--json")["reports"]
    return words.get(report["verdict"], "could not judge")


def gradsnitch(log: Path) -> Outcome:
    """`gradsnitch.lint_csv(LOG)`: error, warning."""
    from gradsnitch import lint_csv

    return worst((f.severity for f in lint_csv(str(log))), fail="error", warn="warning")


def finetune_doctor(log: Path) -> Outcome:
    """`finetune-doctor trainer_state.json --format json`: CRITICAL, WARNING, INFO, OK; it reads no other format."""
    state = log.with_suffix("") / "trainer_state.json"
    state.parent.mkdir()
    history = [{k: float(v) for k, v in row.items() if v} | {"step": int(row["step"])} for row in rows(log)]
    state.write_text(json.dumps({"log_history": history, "global_step": history[-1]["step"]}))
    found = answer("finetune_doctor.cli", "diagnose", str(state), "--format", "json")
    return worst((f["severity"] for f in found["findings"]), fail="CRITICAL", warn="WARNING")


def pytest_torch(log: Path) -> Outcome:
    """`TrainingRun(...).assert_finite().assert_loss_decreases()`, which has no warnings."""
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
    """`pytest_smoke judge LOG --format json`: `inconclusive` and `invalid` are no verdict."""
    words: Mapping[str, Outcome] = {"unstable": "fail", "promote": "pass"}
    return words.get(answer("pytest_smoke", "judge", str(log), "--format", "json")["verdict"], "could not judge")


def ours_without_probe(log: Path) -> Outcome:
    """The same, the fixed-batch column withheld: no other tool knows what `probe_loss` is."""
    bare = log.with_suffix(".loss.csv")
    with bare.open("w", newline="") as out:
        write = csv.DictWriter(out, [k for k in next(rows(log)) if k != "probe_loss"], extrasaction="ignore")
        write.writeheader()
        write.writerows(rows(log))
    return ours(bare)


def rows(log: Path) -> Iterator[dict[str, str]]:
    """A CSV log's rows."""
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
