"""Each check has a recipe that must fail it, and each verdict a recipe that must get it, for its own reason.

The controls run in one real session; the tests read its `verdicts.json`.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

EXPECTED = {
    "base": ("promote", "", []),
    "promotes": ("promote", "", []),
    "balanced": ("promote", "", []),
    "resumes": ("promote", "", []),
    "shift_declared": ("promote", "", []),
    "harder_data": ("promote", "", ["training loss rose at step 4", "but the fixed probe batch did not"]),
    "drawn_mix": ("promote", "", []),
    "drawn_in_turns": ("promote", "", []),
    "overfits": ("promote", "", []),
    "narrow": ("promote", "", []),
    "improves": ("promote", "", []),
    "recites": ("promote", "", []),
    "shifts": ("unstable", None, ["loss"]),
    "unlearns": ("unstable", None, ["loss"]),
    "diverges": ("unstable", None, ["loss"]),
    "blows_up": ("unstable", "divergence", ["loss blew up from 1.3", "in each of the "]),
    "overflows_fp16": ("unstable", "non-finite", ["inf"]),
    "rounds_bf16": ("unstable", "non-finite", ["nll"]),
    "small_batch": ("invalid", "effective-batch", ["effective batch 8 (8 x 1 x 1)", "128 (16 x 8 x 1)", "4.0x larger"]),
    "other_clip": ("invalid", "setting", ["grad_clip_norm is 5.0 in the smoke and 1.0 in the full run"]),
    "cosine": ("invalid", "masked", ["'cosine'", "31 % of the peak"]),
    "long_warmup": ("invalid", "evidence", ["320 of 800 steps", "needs 400"]),
    "skewed_mix": ("invalid", "dominant-source", ["'nad' is 54.7 %"]),
    "unweighted_sampler": (
        "invalid",
        "sampled-share-off",
        ["'nad' is 5", "not the expected 35.0 %", "more than the tolerance of 2.0 %"],
    ),
    "counted": ("promote", "", []),
    "uncounted": (
        "invalid",
        "geometry",
        ["in micro-batches of 16 (the smoke's)", "another gradient than in micro-batches of 64", "; ce is 1."],
    ),
    "fixed_size": ("invalid", "batch-size", ["batches(16) gives as many samples as batches(64)"]),
    "contrasts": ("invalid", "geometry", ["micro-batches of 32", "contrast is 3.", ", not 4."]),
    "too_short": ("inconclusive", "too-short", ["30"]),
    "raises": (
        "error",
        "exception",
        ["RuntimeError: the labels file is empty", "tests/controls/tasks.py:", "after step"],
    ),
    "allocates": ("error", "out-of-memory", ["can't allocate memory", "after step"]),
    "dies": ("error", "crash", ["SIGKILL", "after step"]),
    "exits": ("error", "crash", ["exit status 3", "after step"]),
    "hangs": ("error", "hang", ["said nothing for 15 s", "after step"]),
    "drowns": ("hold", "ratio", ["size/ce", "outside [0.01, 8]"]),
    "forgets": ("hold", "data", ["resumed at step 301 in a fresh process", "from step 301 on: loss "]),
    "stuck": ("hold", "stuck", ["2 of 4 trainable parameters", "0.weight", "not in the optimizer"]),
    "falls_short": ("hold", "criterion-failed", ["val_accuracy", "1.5"]),
    "pipeline_passes": ("promote", "", []),
    "pipeline_balks": ("hold", "exception", ["export failed", "data-dependent", "tests/controls/tasks.py:"]),
    "pipeline_leaves_out": (
        "hold",
        "differs",
        ["on the example inputs onnxruntime's outputs differ", "at most 0.0001"],
    ),
    "pipeline_wavers": ("hold", "nondeterministic", ["draws random numbers or keeps state", "evaluation mode"]),
    "pipeline_coarse": ("hold", "cost", ["val_accuracy dropped from 0.9", "with int8 weights", "at most 0.1"]),
    "pipeline_unsaved": ("hold", "differs", ["load failed: model.safetensors gives other outputs than were packaged"]),
    "pipeline_perishes": ("error", "crash", ["SIGKILL", "in the pipeline's quantize: evaluate(model) with int8"]),
    "stages": ("promote", "", ["stage A: no rise", "stage B: no rise"]),
    "stages_resume": ("promote", "", ["stage B: no rise"]),
    "stage_rises": ("unstable", None, ["stage B: ", "loss"]),
    "stage_fails": (
        "hold",
        "stage[A]",
        ["stage A failed 1 of its 2 criteria", "the recipe requires > 1.5 by step 400", "stage B did not start"],
    ),
    "stage_goes_on": ("hold", "stage[A]", ["stage A failed 1 of its 1 criterion", "went on to stage B"]),
    "stage_no_match": ("error", "task", ["train: 'encodr.*' matches no parameter", "encoder.weight"]),
    "stage_moves": ("hold", "moved", ["1 frozen parameters changed: head.bias"]),
    "no_baseline": ("invalid", "missing-baseline", ["tests/controls/nowhere/verdicts.json cannot be read"]),
    "missing_metric": ("hold", "missing-metric", ["val_acuracy", "val_accuracy"]),
}
"""Control: verdict, reason (None: any), fragments of the sentence."""

ADVISORIES = {
    ("overfits", "peak-regression[val_accuracy]"): (
        "warn",
        "regressed",
        ["(step 800)", "a fall beyond the noise of 2000 items"],
    ),
    ("overfits", "above-chance[val_accuracy]"): ("pass", "", ["better than chance (25.00 %) since step 50"]),
    ("improves", "peak-regression[val_accuracy]"): ("pass", "", ["val_accuracy"]),
    ("improves", "time-to-target[val_accuracy]"): (
        "pass",
        "still-improving",
        ["It should reach the target", "extrapolated"],
    ),
    ("narrow", "time-to-target[val_accuracy]"): (
        "warn",
        "flat-below-target",
        ["Flat: even the steepest slope", "1,200 steps left"],
    ),
    ("recites", "exposure-bias[latent_em]"): (
        "warn",
        "exposure-bias",
        ["latent_nll is", "0 of 200 items", "generates none of them"],
    ),
    ("recites", "above-chance[latent_em]"): ("warn", "at-chance", ["was never better than chance (0.00 %)"]),
    ("recites", "metrics"): ("warn", "missing-metric", ["latent_f1"]),
}
"""Control and finding: status, reason, fragments. None of them changes a verdict: all four controls are promoted."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that one session over all controls wrote."""
    report = tmp_path_factory.mktemp("report")
    command = [sys.executable, "-m", "pytest", "--smoke", "-o", "smoke_files=*.control.yaml", "--smoke-timeout", "15"]
    command += ["--smoke-device", "cpu", "--smoke-report", str(report), "-p", "no:cacheprovider"]
    command += ["-n", "2", "tests/controls"]  # one waits 15 s for the control that hangs
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    return report


@pytest.fixture(scope="module")
def outcomes(report: Path) -> dict[str, dict[str, Any]]:
    """Every control's outcome, by its name."""
    found = json.loads((report / "verdicts.json").read_text())["outcomes"]
    return {Path(outcome["recipe"]).name.removesuffix(".control.yaml"): outcome for outcome in found}


def finding_of(outcome: dict[str, Any], id: str) -> dict[str, Any]:
    return next(finding for finding in outcome["findings"] if finding["id"] == id)


def test_no_control_is_without_an_expectation(outcomes: dict[str, Any]) -> None:
    """A new control needs a row here."""
    assert outcomes.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_control_ends_in_its_verdict_for_its_own_reason(outcomes: dict[str, Any], name: str) -> None:
    """With the words that make it believable."""
    verdict, reason, fragments = EXPECTED[name]
    outcome = outcomes[name]
    assert outcome["verdict"] == verdict, outcome["text"]
    assert reason in (None, outcome["reason"]), outcome["text"]
    missing = [fragment for fragment in fragments if fragment not in outcome["text"]]
    assert not missing, outcome["text"]


@pytest.mark.parametrize(("name", "id"), ADVISORIES)
def test_an_advisory_describes_its_control_and_never_changes_the_verdict(
    outcomes: dict[str, Any], name: str, id: str
) -> None:
    """A metric that peaks and falls is promoted with a warning: the full run is the verdict on that."""
    status, reason, fragments = ADVISORIES[name, id]
    finding = next(f for f in outcomes[name]["findings"] if f["id"] == id)
    assert (finding["status"], finding["reason"]) == (status, reason), finding["text"]
    missing = [fragment for fragment in fragments if fragment not in finding["text"]]
    assert not missing, finding["text"]
    assert outcomes[name]["verdict"] == "promote"


def test_a_doomed_run_is_stopped_and_its_steps_are_saved(outcomes: dict[str, Any]) -> None:
    """It does not train on to its planned end."""
    assert outcomes["diverges"]["facts"]["steps"] < outcomes["diverges"]["facts"]["planned_steps"] / 2


def test_a_sampler_that_ignores_the_weights_stops_the_run(outcomes: dict[str, Any]) -> None:
    """What is left would rehearse another mix; and where the mix is drawn, the finding says so."""
    facts = outcomes["unweighted_sampler"]["facts"]
    assert facts["steps"] < facts["planned_steps"] / 2
    statuses = {name: finding_of(outcomes[name], "mix-drawn") for name in ("drawn_mix", "drawn_in_turns")}
    assert {name: finding["status"] for name, finding in statuses.items()} == {
        "drawn_mix": "pass",
        "drawn_in_turns": "warn",
    }
    assert "could hide" in statuses["drawn_in_turns"]["text"]


def test_an_instability_is_looked_at_on_the_last_good_checkpoint(outcomes: dict[str, Any]) -> None:
    """The hint names the checkpoint's step and the terms' norms."""
    finite = finding_of(outcomes["overflows_fp16"], "finite")
    assert finite["hint"].startswith("on the last good checkpoint (step ")
    assert "ce " in finite["hint"]
    assert "size " in finite["hint"]


def test_the_advice_names_the_rate_and_its_stage(outcomes: dict[str, Any]) -> None:
    """Also where the terms were looked at: a rate too high is the likeliest cause of all."""
    staged = finding_of(outcomes["stage_rises"], "loss-trend[B]")["hint"]
    assert staged.endswith("; or else reduce the learning_rate (0.002) of stage B")
    assert finding_of(outcomes["overflows_fp16"], "finite")["hint"].endswith("; or else reduce learning_rate (0.003)")


def stages_of(outcome: dict[str, Any]) -> dict[str, str]:
    """Status by stage of the pipeline."""
    found = {f["id"].removeprefix("pipeline[").removesuffix("]"): f["status"] for f in outcome["findings"]}
    return {name: found[name] for name in ("evaluate", "export", "quantize", "package", "load")}


@pytest.mark.parametrize(
    ("name", "ran"),
    [
        ("passes", ["pass", "pass", "pass", "pass", "pass"]),
        ("balks", ["pass", "fail", "not-checked", "not-checked", "not-checked"]),
        ("coarse", ["pass", "pass", "fail", "pass", "pass"]),
        ("unsaved", ["pass", "pass", "pass", "pass", "fail"]),
        ("perishes", ["pass", "pass", "not-checked", "not-checked", "not-checked"]),
    ],
)
def test_a_broken_stage_keeps_what_the_others_found(outcomes: dict[str, Any], name: str, ran: list[str]) -> None:
    """Those before it always; those after it where they do not build on it."""
    assert list(stages_of(outcomes[f"pipeline_{name}"]).values()) == ran


def rows_of(report: Path, control: str) -> list[dict[str, str]]:
    """The trace of a control."""
    (trace,) = (report / "traces").glob(f"*{control}.control.yaml*")
    with trace.open() as lines:
        return list(csv.DictReader(lines))


def test_a_stage_that_fails_its_criteria_stops_the_next(report: Path, outcomes: dict[str, Any]) -> None:
    """Not one step of B was run, and its checks say why; with `continue_on_fail` all of them were."""
    rows = rows_of(report, "stage_fails")
    assert {(row["stage"], row["phase"]) for row in rows} == {("A", "text"), ("A", "latent")}
    assert len(rows) == 800
    findings = {finding["id"]: finding for finding in outcomes["stage_fails"]["findings"]}
    assert {findings[f"{check}[B]"]["status"] for check in ("loss-trend", "updates", "stage")} == {"not-checked"}
    assert [row["stage"] for row in rows_of(report, "stage_goes_on")] == ["A"] * 800 + ["B"] * 600


def test_a_jump_at_a_declared_edge_is_no_rise(report: Path) -> None:
    """The promoted smoke's loss does jump, where its second phase and its second stage begin."""
    losses = [float(row["loss"]) for row in rows_of(report, "stages")]
    for edge in (400, 800):
        before, after = losses[edge - 20 : edge], losses[edge : edge + 20]
        assert min(after) > 1.1 * sum(before) / 20, edge


def test_a_smoke_says_what_each_stage_cost(outcomes: dict[str, Any]) -> None:
    """Steps, seconds, loss and verdict by stage; the full run's time is each stage's pace times its full steps."""
    facts = outcomes["stages"]["facts"]
    stages = facts["stages"]
    assert [(s["name"], s["steps"], s["full_steps"], s["loss_verdict"]) for s in stages] == [
        ("A", 800, 8000, "promote"),
        ("B", 600, 16000, "promote"),
    ]
    expected = sum(s["train_seconds"] / s["steps"] * s["full_steps"] for s in stages)
    assert facts["estimated_full_seconds"] == pytest.approx(expected, rel=0.01)
    assert facts["samples_per_second"] == pytest.approx(64 * 1400 / facts["train_seconds"], rel=0.01)
    assert facts["smoke_to_full_steps"] == pytest.approx(1400 / 24000, rel=1e-3)
    assert facts["full_accept"] == ["val_accuracy > 0.95"]
