"""The command `compare` on reports of real smoke runs."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from tests.plugin.conftest import Project

EVALUATED = "  evaluate_every_steps: 100\n"


def compare(project: Project, *args: str) -> pytest.RunResult:
    return project.pytester.run(sys.executable, "-m", "pytest_smoke", "compare", *args)


@pytest.fixture
def reports(project: Project) -> Project:
    """Write two reports of one recipe: `old` has 400 steps of 64 samples; `new` has 300 of 128, and a second recipe."""
    recipe = project.recipe(extra=EVALUATED)
    assert project.run("--smoke", "--smoke-report", "old").ret == 0
    recipe.write_text(recipe.read_text().replace("batch_size: 64", "batch_size: 128").replace("400", "300"))
    project.extending("other", "args: {noise: 0.0}\n")
    assert project.run("--smoke", "--smoke-report", "new").ret == 0
    return project


def test_two_reports_are_compared_at_equal_samples(reports: Project) -> None:
    """Text, JSON and Markdown agree; an outcome that only one report has is named and not compared."""
    result = compare(reports, "old", "new")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "OLD old::good.smoke.yaml::constant",
            "    no rise in 400 points*",
            "*OLD *NEW *change",
            "verdict *promote *promote",
            "steps *400 *300 *-25 %",
            "samples seen *25,600 *38,400 *+50 %",
            "loss, first tenth *",
            "loss at 25,600 samples *",
            "val_accuracy, peak *(step *) *(step *)*",
            "val_accuracy, final *(step 400) *(step 300) *",
            "val_accuracy at 25,600 samples *(step 400) *(step 200) *",
            "gradient norm, peak *(step *) *(step *) *",
            "seconds *",
            "effective batches differ (64 and 128)*25,600 samples are step 400 of OLD and step 200 of NEW",
            "settings that differ",
            "  batch_size *64 *128",
        ]
    )
    result.stderr.fnmatch_lines(["note: only new has other.smoke.yaml::constant, so it was not compared"])
    wire = json.loads(compare(reports, "old", "new", "--format", "json").stdout.str())
    (one,) = wire["comparisons"]
    rows = {row["name"]: row for row in one["rows"]}
    (outcome,) = reports.verdicts("old")
    assert rows["val_accuracy, final"]["old"] == outcome["metrics"]["val_accuracy"][-1][1]
    assert rows["loss, last tenth"]["old"] == pytest.approx(outcome["facts"]["loss_last"])
    assert {row["name"] for row in one["settings"]} >= {"batch_size", "effective_batch_samples", "planned_steps"}
    assert "learning_rate" not in {row["name"] for row in one["settings"]}
    table = compare(reports, "old", "new", "--format", "markdown").stdout.str()
    assert "|  | OLD | NEW | change |\n| --- | --- | --- | --- |\n| verdict | promote | promote |  |\n" in table


def test_an_outcome_is_chosen_by_its_id_and_compares_with_a_log(reports: Project) -> None:
    """Compare two smoke runs of one report, then a smoke run with its own trace: the losses are equal."""
    result = compare(reports, "new::good.smoke.yaml::constant", "new/verdicts.json::other.smoke.yaml::constant")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["loss, last tenth *none", "  recipe *good.* other.*", "  args.noise *not set *0.0"])
    (trace,) = (reports.path / "old" / "traces").iterdir()
    result = compare(reports, "old", str(trace), "--new-batch", "64")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["steps *400 *400 *none", "loss, lowest *none", "gradient norm, peak *none"])
    ambiguous = compare(reports, "new", str(trace))
    assert ambiguous.ret == 2
    ambiguous.stderr.fnmatch_lines(["compare: new contains 2 smoke runs; choose one with new::ID: good*, other*"])


def test_a_report_without_its_trace_compares_with_a_note_on_what_is_missing(reports: Project) -> None:
    """Only verdicts.json was kept, as in an archive."""
    shutil.copy(reports.path / "old" / "verdicts.json", reports.path / "kept.json")
    result = compare(reports, "kept.json::good.smoke.yaml::constant", "old")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "gradient norm, peak *- *(step *)*",
            "note: *the per-step log * is missing, so losses are means of several steps and gradient norms unknown",
        ]
    )
