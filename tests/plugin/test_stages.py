"""Smoke runs with stages and baselines, as a user runs them."""

from __future__ import annotations

import json
import sys

from tests.plugin.conftest import RECIPE, Project

STAGED = """\
task: tasks:Teacher
full: {batch_size: 64, learning_rate: 3.0e-3, warmup_steps: 20}
smoke: {change: new-recipe}
stages:
  - {name: A, full_steps: 4000, steps: 400, train: ["2.*"], accept: [val_accuracy > 0.3]}
  - {name: B, full_steps: 6000, steps: 400, learning_rate: 1.0e-3}
checks: {accept: [max(grad_norm over stage B) < 500], full_accept: [val_accuracy > 0.99]}
"""


def test_a_run_with_stages_gives_the_same_result_in_the_pytest_process(project: Project) -> None:
    """The table has one row per stage, and a line below it describes the full run."""
    project.recipe(base=STAGED)
    apart = project.run("--smoke", "-v", "--smoke-report", "out")
    here = project.run("--smoke", "-v", "--smoke-report", "here", "--smoke-isolation", "none")
    for result in (apart, here):
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(
            [
                "promote *good::constant * 800 *",
                "  promote *  stage A * 400 *",
                "  promote *  stage B * 400 *",
                "good::constant: the full run has 10,000 steps (12.5x the smoke run) and takes about * at * samples/s; "
                "it must meet val_accuracy > 0.99",
            ]
        )
    ours, theirs = project.verdicts()[0], project.verdicts("here")[0]
    assert ours["curve"] == theirs["curve"]
    assert [f["text"] for f in ours["findings"]] == [f["text"] for f in theirs["findings"]]


def test_the_trace_has_stage_and_phase_columns_and_judge_reads_one_stage_of_it(project: Project) -> None:
    """`judge` expects a log of one stage, so the rows of stage B are copied to their own file."""
    project.recipe(base=STAGED)
    project.run("--smoke", "--smoke-report", "out").assert_outcomes(passed=1)
    (trace,) = (project.path / "out" / "traces").iterdir()
    header, *rows = trace.read_text().splitlines()
    assert header == "step,stage,phase,loss,lr,grad_norm,probe_loss,loss/ce"
    assert [row.split(",")[1] for row in rows] == ["A"] * 400 + ["B"] * 400
    (project.path / "b.csv").write_text("\n".join([header, *rows[400:]]) + "\n")
    judged = project.pytester.run(sys.executable, "-m", "pytest_smoke", "judge", "b.csv")
    judged.stdout.fnmatch_lines(["b.csv: promote: no rise in 400 points*"])


def test_wiring_mode_runs_ten_steps_of_every_stage_and_ignores_criteria(project: Project) -> None:
    project.recipe(base=STAGED.replace("val_accuracy > 0.3]", "val_accuracy > 1.5]"))
    result = project.run("--smoke", "--smoke-mode", "wiring", "--smoke-report", "out")
    result.stdout.fnmatch_lines(["*1 wiring ok*"])
    assert [(s["name"], s["steps"]) for s in project.verdicts()[0]["facts"]["stages"]] == [("A", 10), ("B", 10)]


def test_preflight_names_the_stage_whose_warmup_leaves_too_little_evidence(project: Project) -> None:
    project.recipe(base=STAGED.replace("learning_rate: 1.0e-3", "warmup_steps: 320"))
    result = project.run("--smoke-preflight", "--smoke-report", "out")
    result.assert_outcomes(failed=1)
    (outcome,) = project.verdicts()
    assert (outcome["verdict"], outcome["reason"]) == ("invalid", "too-little-evidence")
    assert outcome["text"] == (
        "stage B: 144 of 400 steps are at 80 % of the full run's peak learning rate or more; constant mode needs 200"
    )
    result.stdout.fnmatch_lines(["  hint: set the steps of stage B to 512 or more"])


def test_criteria_compare_with_the_metrics_of_an_earlier_report(project: Project) -> None:
    """The baseline is a file or a folder, with or without an id; a missing metric or outcome is named."""
    project.recipe()
    project.run("--smoke", "--smoke-report", "earlier").assert_outcomes(passed=1)
    (project.path / "good.smoke.yaml").unlink()

    def judged(name: str, checks: str) -> dict[str, str]:
        project.recipe(name, f"checks: {{{checks}}}\n", base=RECIPE)
        project.run("--smoke", "--smoke-report", "out", f"{name}.smoke.yaml")
        (outcome,) = project.verdicts()
        assert isinstance(outcome, dict)
        return outcome

    half = "accept: [val_accuracy > 0.5 * baseline.val_accuracy]"
    for where in ("earlier", "earlier/verdicts.json", "earlier, baseline_id: 'good.smoke.yaml::constant'"):
        assert judged("ok", f"baseline: {where}, {half}")["verdict"] == "promote"
    short = judged("short", "baseline: earlier, accept: [val_accuracy > 1.5 * baseline.val_accuracy]")
    assert (short["verdict"], short["reason"]) == ("hold", "criterion-failed")
    value = json.loads((project.path / "earlier" / "verdicts.json").read_text())["outcomes"][0]
    assert f"(baseline.val_accuracy was {value['metrics']['val_accuracy'][-1][1]:.4g})" in short["text"]
    missing = judged("missing", "baseline: earlier, accept: [loss < baseline.f1]")
    assert (missing["verdict"], missing["reason"]) == ("invalid", "missing-metric")
    assert "has no f1; it has: ce, grad_norm, loss, lr, probe_loss, val_accuracy" in missing["text"]
    other = judged("other", f"baseline: earlier, baseline_id: x, {half}")
    assert other["text"] == "checks.baseline 'earlier' has no outcome x; it has: good.smoke.yaml::constant"
    (project.path / "broken.json").write_text('{"outcomes": 3}')
    broken = judged("broken", f"baseline: broken.json, {half}")
    assert broken["text"] == "checks.baseline 'broken.json' is not a verdicts.json: it has no list of outcomes"
