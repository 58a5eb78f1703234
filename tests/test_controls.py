"""Controls: recipes with a known verdict. Every check has one that fails it, and every verdict one that gets it.

The controls run in one session; the tests read its `verdicts.json`.
"""

from __future__ import annotations

import csv
import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pytest_smoke.environment import git_commit
from pytest_smoke.judge.checks.registry import CHECKS, DEFAULT
from pytest_smoke.outcome import Finding
from pytest_smoke.report.verdicts_schema import json_schema
from tests.judge.registered import is_registered, registered_reason
from tests.session_server import SessionServer

ROOT = Path(__file__).parents[1]

EXPECTED = {
    "base": ("promote", "", []),
    "promotes": ("promote", "", []),
    "command": ("promote", "", []),
    "command_decays": (
        "invalid",
        "other-learning-rate",
        ["the log has the learning rate", "the recipe schedules 0.02"],
    ),
    "command_unknown_rate": ("inconclusive", "unverified", ["not checked: the log has no learning rate"]),
    "balanced": ("promote", "", []),
    "resumes": ("promote", "", []),
    "shift_declared": ("promote", "", []),
    "harder_data": ("promote", "", ["training loss rose at step 4", "but the fixed probe batch did not"]),
    "sampled_mix": ("promote", "", []),
    "sampled_by_batch": ("promote", "", []),
    "overfits": ("promote", "", []),
    "narrow": ("promote", "", []),
    "improves": ("promote", "", []),
    "recites": ("promote", "", []),
    "shifts": ("promote", "", ["training loss rose at step 4", "but the fixed probe batch did not"]),
    "unlearns": ("unstable", None, ["loss"]),
    "diverges": ("unstable", None, ["loss"]),
    "blows_up": ("unstable", "divergence", ["loss on the probe batch rose from 1.38 (step 0)"]),
    "overflows_fp16": ("unstable", "non-finite", ["inf"]),
    "ignored_labels": ("unstable", "non-finite", ["ce is NaN at step 0"]),
    "rounds_bf16": ("unstable", "non-finite", ["nll"]),
    "small_batch": (
        "invalid",
        "different-effective-batch",
        ["effective batch 8 (8 x 1 x 1)", "128 (16 x 8 x 1)", "4.0x larger"],
    ),
    "other_clip": (
        "invalid",
        "different-setting",
        ["grad_clip_norm is 5.0 in the smoke run and 1.0 in the full run"],
    ),
    "cosine": ("invalid", "masked", ["'cosine'", "31 % of its peak"]),
    "long_warmup": ("invalid", "too-little-evidence", ["320 of 800 steps", "needs 400"]),
    "skewed_mix": ("invalid", "dominant-source", ["'nad' is 54.7 %"]),
    "unweighted_sampler": (
        "invalid",
        "sampled-share-off",
        ["'nad' is 5", "not the expected 35.0 %", "more than the tolerance of 2.0 %"],
    ),
    "counted": ("promote", "", []),
    "uncounted_alike": ("promote", "", []),
    "uncounted": (
        "invalid",
        "gradient-depends-on-split",
        [
            "splitting the batch changes the gradient",
            "micro-batches of 16 (smoke run) and 64 (full run)",
            "; ce is 1.",
            " instead of 1.",
        ],
    ),
    "fixed_size": ("invalid", "batch-size-ignored", ["batches(16) yields as many samples as batches(64)"]),
    "same_ranks": (
        "invalid",
        "same-samples",
        ["data-parallel ranks 0 and 1 draw the same samples", "they share 64 of 64 samples"],
    ),
    "one_batch": (
        "invalid",
        "repeated-in-step",
        ["the 2 micro-batches of a step are all the same samples, in each of steps 0-3"],
    ),
    "truncated": ("promote", "", []),
    "eval_mode": ("invalid", "eval-mode", ["the model trains in evaluation mode at step 0"]),
    "frozen_norm": ("promote", "", []),
    "too_large": ("error", "out-of-memory", ["the largest batch does not fit into memory", "tests/controls/tasks.py:"]),
    "ascends": ("hold", "loss-does-not-fall", ["the loss of one repeated batch did not fall in 40 updates"]),
    "half_batch": (
        "invalid",
        "fewer-samples",
        ["a step draws 64 samples instead of 128 (64 x 2 x 1): batches(64) yields 32"],
    ),
    "shortened": (
        "invalid",
        "other-items-per-sample",
        ["a sample of batches(16) has 16 items of ce, one of the full run's batches(64) has 4 items of ce"],
    ),
    "contrasts": (
        "invalid",
        "gradient-depends-on-split",
        ["micro-batches of 32 (smoke run)", "contrast is 3.", " instead of 4."],
    ),
    "own_scheduler": (
        "invalid",
        "other-learning-rate",
        ["the optimizer used the learning rate", "at step 0, the recipe schedules 0"],
    ),
    "too_short": ("inconclusive", "too-short", ["30"]),
    "raises": (
        "error",
        "exception",
        ["RuntimeError: the labels file is empty", "tests/controls/tasks.py:", "after step"],
    ),
    "allocates": ("error", "out-of-memory", ["can't allocate memory", "after step"]),
    "dies": ("error", "crash", ["SIGKILL", "after step"]),
    "exits": ("error", "crash", ["exit status 3", "after step"]),
    "hangs": ("error", "hang", ["made no progress for 15 s and was killed", "after step"]),
    "dominates": ("hold", "ratio-out-of-bounds", ["size/ce", "outside the bounds [0.01, 8]"]),
    "unseeded": (
        "hold",
        "different-data",
        ["resumed at step 301 in a fresh process", "from step 301 on: loss is ", " instead of "],
    ),
    "stops_training": (
        "hold",
        "zero-gradient",
        ["the gradient is exactly 0 from step 400 to the end (step 799)", "the task disabled gradients"],
    ),
    "not_in_optimizer": (
        "hold",
        "parameters-not-updated",
        ["2 of 4 trainable parameters", "0.weight", "not in the optimizer"],
    ),
    "falls_short": ("hold", "criterion-failed", ["val_accuracy", "1.5"]),
    "pipeline_passes": ("promote", "", []),
    "pipeline_branches": ("hold", "exception", ["export failed", "data-dependent", "tests/controls/tasks.py:"]),
    "pipeline_differs": (
        "hold",
        "outputs-differ",
        ["on the example inputs onnxruntime's outputs differ", "0.01 % is allowed"],
    ),
    "pipeline_random": ("hold", "nondeterministic", ["draws random numbers or keeps state", "evaluation mode"]),
    "pipeline_coarse": (
        "hold",
        "quantization-cost",
        ["val_accuracy dropped from 0.9", "with int8 weights", "smoke.pipeline.max_drop allows 0.1"],
    ),
    "pipeline_unsaved": (
        "hold",
        "outputs-differ",
        ["load failed: model.safetensors", "outputs differ from the packaged"],
    ),
    "pipeline_killed": (
        "error",
        "crash",
        ["SIGKILL", "during quantize of the pipeline: evaluate(model) with int8 weights"],
    ),
    "stages": ("promote", "", ["stage A: no rise", "stage B: no rise"]),
    "stages_resume": ("promote", "", ["stage B: no rise"]),
    "stage_rises": ("unstable", None, ["stage B: ", "loss"]),
    "stage_fails": (
        "hold",
        "stage-criteria-failed",
        ["stage A failed 1 of its 2 criteria", "requires > 1.5 by step 400", "Stage B did not start"],
    ),
    "stage_continues": (
        "hold",
        "stage-criteria-failed",
        ["stage A failed its criterion", "Stage B ran nevertheless (continue_on_fail)"],
    ),
    "stage_no_match": (
        "error",
        "invalid-task",
        ["train: 'encodr.*' matches no parameter", "did you mean encoder.*?", "before the first step"],
    ),
    "stage_changes_frozen": ("hold", "frozen-parameter-changed", ["1 frozen parameter changed: head.bias"]),
    "edited": (
        "invalid",
        "edited-during-run",
        ["tests/controls/__pycache__/edited_", "was edited during the smoke run"],
    ),
    "no_baseline": ("invalid", "missing-baseline", ["'tests/controls/nowhere/verdicts.json' cannot be read"]),
    "missing_metric": ("error", "missing-metric", ["val_acuracy", "did you mean val_accuracy?"]),
}
"""Control: verdict, reason (None: any), fragments of the sentence."""

CONTROLS_OF = {
    "batch-geometry": ("small_batch", "base"),
    "schedule": ("cosine", "base"),
    "settings": ("other_clip", "base"),
    "mix": ("skewed_mix", "sampled_mix"),
    "baseline": ("no_baseline", ""),
    "sources": ("edited", "base"),
    "run": ("raises", "base"),
    "metric-names": ("missing_metric", "promotes"),
    "memory": ("too_large", "counted"),
    "mix-drawn": ("unweighted_sampler", "sampled_mix"),
    "ranks": ("same_ranks", "promotes"),
    "data-repeats": ("one_batch", "base"),
    "model-mode": ("eval_mode", "frozen_norm"),
    "accumulation": ("uncounted", "counted"),
    "batch-drawn": ("half_batch", "base"),
    "items-drawn": ("shortened", "counted"),
    "lr-applied": ("own_scheduler", "base"),
    "finite": ("overflows_fp16", "base"),
    "loss-trend": ("diverges", "base"),
    "learning": ("stops_training", "base"),
    "updates": ("not_in_optimizer", "base"),
    "grad-ratio": ("dominates", "balanced"),
    "stage": ("stage_fails", "stages"),
    "accept": ("falls_short", "promotes"),
    "pipeline": ("pipeline_branches", "pipeline_passes"),
    "resume": ("unseeded", "resumes"),
    "overfit": ("ascends", ""),
}
"""Check: a control that fails it and decides on it, and one that passes it."""
NO_PASSING_CONTROL = {
    "overfit": "a wiring run is never promoted: tests/train/test_rehearsal.py",
    "baseline": "needs the outcomes of an earlier session: tests/plugin/test_metrics.py",
}
"""Check without a control that passes, and why."""

ADVISORIES = {
    ("overfits", "peak-regression[val_accuracy]"): (
        "warn",
        "regressed",
        ["(step 800), more than noise explains", "2,000 items"],
    ),
    ("overfits", "above-chance[val_accuracy]"): ("pass", "", ["better than chance (25.00 %) since step 50"]),
    ("improves", "peak-regression[val_accuracy]"): ("pass", "", ["val_accuracy"]),
    ("improves", "time-to-target[val_accuracy]"): (
        "pass",
        "still-improving",
        ["At this trend it reaches the target", "extrapolated"],
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
    ("uncounted_alike", "accumulation"): (
        "warn",
        "uneven-micro-batches",
        ["ce is a mean over items whose number varies", "The full run has the same error"],
    ),
    ("frozen_norm", "shared-storage"): ("warn", "shared-storage", ["share memory, but are different parameters"]),
    ("truncated", "supervised-tokens"): (
        "warn",
        "samples-without-label",
        ["of source 'long' in the first"],
    ),
    ("recites", "metrics"): ("warn", "missing-metric", ["latent_f1"]),
}
"""Control and finding: status, reason, fragments. None of them changes a verdict: all these controls are promoted."""


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory, session_server: SessionServer, fork_server: dict[str, str]
) -> Path:
    """The folder that one session over all controls wrote."""
    report = tmp_path_factory.mktemp("report")
    arguments = ["--smoke", "-o", "smoke_files=*.control.yaml", "--smoke-timeout", "15", "--smoke-device", "cpu"]
    arguments += ["--smoke-report", str(report), "-p", "no:cacheprovider", "-p", "tests.shared_fork_server"]
    arguments += ["-n", "2", "tests/controls"]  # one waits 15 s for the control that hangs
    # The server has imported the plugin, which pytest wants to import itself where it finds it in this folder.
    arguments += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    run = session_server.run(arguments, cwd=ROOT, env={**os.environ, **fork_server})
    assert run.ret == pytest.ExitCode.TESTS_FAILED
    return report


@pytest.fixture(scope="module")
def outcomes(report: Path) -> dict[str, dict[str, Any]]:
    """The outcome of every control, by its name."""
    found = json.loads((report / "verdicts.json").read_text())["outcomes"]
    return {Path(outcome["recipe"]).name.removesuffix(".control.yaml"): outcome for outcome in found}


def finding_of(outcome: dict[str, Any], finding_id: str) -> dict[str, Any]:
    return next(finding for finding in outcome["findings"] if finding["id"] == finding_id)


def test_every_control_has_an_expectation(outcomes: dict[str, Any]) -> None:
    assert outcomes.keys() == EXPECTED.keys()


def test_the_report_is_valid_by_its_json_schema(report: Path) -> None:
    Draft202012Validator(json_schema()).validate(json.loads((report / "verdicts.json").read_text()))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_control_gets_its_verdict_for_its_own_reason(outcomes: dict[str, Any], name: str) -> None:
    verdict, reason, fragments = EXPECTED[name]
    outcome = outcomes[name]
    assert outcome["verdict"] == verdict, outcome["text"]
    assert reason in (None, outcome["reason"]), outcome["text"]
    missing = [fragment for fragment in fragments if fragment not in outcome["text"]]
    assert not missing, outcome["text"]


# the registry of checks


@pytest.mark.parametrize("name", EXPECTED)
def test_every_finding_of_a_control_is_in_the_registry(outcomes: dict[str, Any], name: str) -> None:
    findings = [Finding.from_dict(finding) for finding in outcomes[name]["findings"]]
    unknown = [(finding.id, finding.status, finding.reason) for finding in findings if not is_registered(finding)]
    assert unknown == []
    keys = [finding.id for finding in findings if not finding.key and DEFAULT.row(finding).key]  # type: ignore[union-attr]  # registered
    assert keys == []


@pytest.mark.parametrize("name", EXPECTED)
def test_the_verdict_is_that_of_the_row_of_the_finding_that_decided(outcomes: dict[str, Any], name: str) -> None:
    outcome = outcomes[name]
    deciding = Finding.from_dict(finding_of(outcome, outcome["decided_by"]))
    row, reason = DEFAULT.row(deciding), registered_reason(deciding)
    assert row is not None
    if outcome["verdict"] == "promote":
        assert deciding.check == "loss-trend"
    else:
        assert (outcome["reason"], outcome["step"], outcome["text"]) == (deciding.reason, deciding.step, deciding.text)
        assert reason is not None
        expected = reason.verdict or (row.verdict if deciding.status == "fail" else "inconclusive")
        assert outcome["verdict"] == expected


def test_every_check_that_can_fail_has_controls() -> None:
    assert CONTROLS_OF.keys() == {check.id for check in CHECKS if check.verdict is not None}
    assert {check for check, (_, passes) in CONTROLS_OF.items() if not passes} == NO_PASSING_CONTROL.keys()


@pytest.mark.parametrize("check", CONTROLS_OF)
def test_a_check_fails_one_control_and_passes_another(outcomes: dict[str, Any], check: str) -> None:
    fails, passes = CONTROLS_OF[check]
    assert outcomes[fails]["decided_by"].partition("[")[0] == check
    assert finding_of(outcomes[fails], outcomes[fails]["decided_by"])["status"] == "fail"
    statuses = [f["status"] for f in outcomes[passes or fails]["findings"] if f["id"].partition("[")[0] == check]
    if passes:
        assert set(statuses) == {"pass"}
        assert outcomes[passes]["verdict"] == "promote"


# figures


@pytest.mark.parametrize("name", EXPECTED)
def test_every_outcome_knows_when_where_and_with_which_versions_it_was_made(
    outcomes: dict[str, Any], name: str
) -> None:
    facts = outcomes[name]["facts"]
    assert datetime.fromisoformat(facts["started_at"]).tzinfo is not None
    assert {"python", "pytest", "torch"} <= facts["versions"].keys()
    if git_commit(ROOT) is not None:  # a checkout, not an unpacked archive
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", facts["git_commit"])


@pytest.mark.parametrize(("name", "finding_id"), ADVISORIES)
def test_an_advisory_describes_its_control_and_does_not_change_the_verdict(
    outcomes: dict[str, Any], name: str, finding_id: str
) -> None:
    """A metric that peaks and falls is promoted with a warning: only the full run can decide on that."""
    status, reason, fragments = ADVISORIES[name, finding_id]
    finding = finding_of(outcomes[name], finding_id)
    assert (finding["status"], finding["reason"]) == (status, reason), finding["text"]
    missing = [fragment for fragment in fragments if fragment not in finding["text"]]
    assert not missing, finding["text"]
    assert outcomes[name]["verdict"] == "promote"


def test_an_unstable_run_is_stopped_early_and_saves_its_steps(outcomes: dict[str, Any]) -> None:
    assert outcomes["diverges"]["facts"]["steps"] < outcomes["diverges"]["facts"]["planned_steps"] / 2


def test_a_sampler_that_ignores_the_weights_stops_the_run(outcomes: dict[str, Any]) -> None:
    """With samplers that follow the mix the finding says so, and warns if too few samples were drawn to tell."""
    facts = outcomes["unweighted_sampler"]["facts"]
    assert facts["steps"] < facts["planned_steps"] / 2
    findings = {name: finding_of(outcomes[name], "mix-drawn") for name in ("sampled_mix", "sampled_by_batch")}
    assert {name: finding["status"] for name, finding in findings.items()} == {
        "sampled_mix": "pass",
        "sampled_by_batch": "warn",
    }
    assert "could go unnoticed" in findings["sampled_by_batch"]["text"]


def test_the_gradients_of_an_unstable_run_are_probed_on_the_last_good_checkpoint(outcomes: dict[str, Any]) -> None:
    trend = finding_of(outcomes["stage_rises"], "loss-trend[B]")
    assert trend["hint"].startswith("on the last good checkpoint (step ")
    assert "the weighted gradient norms are " in trend["hint"]


def test_the_hint_of_an_overflow_names_the_operation_and_that_it_is_finite_in_fp32(outcomes: dict[str, Any]) -> None:
    hint = finding_of(outcomes["overflows_fp16"], "finite")["hint"]
    assert "the first value that is not finite is that of pow (tests/controls/tasks.py:" in hint
    assert "finite in fp32: it overflows in 16 bits" in hint


def test_the_hint_of_a_loss_that_was_never_finite_names_its_source_and_not_the_learning_rate(
    outcomes: dict[str, Any],
) -> None:
    hint = finding_of(outcomes["ignored_labels"], "finite")["hint"]
    assert hint.startswith("all 64 labels are -100, which the loss ignores (tests/controls/tasks.py:")
    assert "learning_rate" not in hint


def test_the_hint_names_the_learning_rate_and_its_stage_also_after_a_probe(outcomes: dict[str, Any]) -> None:
    """A learning rate that is too high is the most likely cause of all."""
    staged = finding_of(outcomes["stage_rises"], "loss-trend[B]")["hint"]
    assert staged.endswith(". Otherwise reduce the learning_rate (0.002) of stage B")
    assert finding_of(outcomes["overflows_fp16"], "finite")["hint"].endswith(". Otherwise reduce learning_rate (0.003)")


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("passes", ["pass", "pass", "pass", "pass", "pass"]),
        ("branches", ["pass", "fail", "not-checked", "not-checked", "not-checked"]),
        ("coarse", ["pass", "pass", "fail", "pass", "pass"]),
        ("unsaved", ["pass", "pass", "pass", "pass", "fail"]),
        ("killed", ["pass", "pass", "not-checked", "not-checked", "not-checked"]),
    ],
)
def test_a_failed_pipeline_step_keeps_the_results_of_the_others(
    outcomes: dict[str, Any], name: str, statuses: list[str]
) -> None:
    """Always those before it, and those after it that do not need it."""
    steps = ("evaluate", "export", "quantize", "package", "load")
    findings = [finding_of(outcomes[f"pipeline_{name}"], f"pipeline[{step}]") for step in steps]
    assert [finding["status"] for finding in findings] == statuses


def rows_of(report: Path, control: str) -> list[dict[str, str]]:
    """Return the trace of a control."""
    (trace,) = (report / "traces").glob(f"*{control}.control.yaml*")
    with trace.open() as lines:
        return list(csv.DictReader(lines))


def test_a_stage_that_fails_its_criteria_keeps_the_next_one_from_starting(
    report: Path, outcomes: dict[str, Any]
) -> None:
    """With `continue_on_fail` the next stage makes all its steps."""
    rows = rows_of(report, "stage_fails")
    assert {(row["stage"], row["phase"]) for row in rows} == {("A", "text"), ("A", "latent")}
    assert len(rows) == 800
    findings = {finding["id"]: finding for finding in outcomes["stage_fails"]["findings"]}
    assert {findings[f"{check}[B]"]["status"] for check in ("loss-trend", "updates", "stage")} == {"not-checked"}
    assert [row["stage"] for row in rows_of(report, "stage_continues")] == ["A"] * 800 + ["B"] * 600


def test_a_declared_jump_is_not_a_rise(report: Path) -> None:
    """The loss of the promoted run does jump where its second phase and its second stage start."""
    losses = [float(row["loss"]) for row in rows_of(report, "stages")]
    for jump in (400, 800):
        before, after = losses[jump - 20 : jump], losses[jump : jump + 20]
        assert min(after) > 1.1 * sum(before) / 20, jump


def test_the_facts_of_each_stage_give_the_estimate_of_the_full_run(outcomes: dict[str, Any]) -> None:
    """It is the sum of each stage's time per step times its steps in the full run."""
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
