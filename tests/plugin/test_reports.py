"""What a session writes: verdicts.json, traces, checkpoints, JUnit XML; with and without xdist workers."""

from __future__ import annotations

import csv
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.conftest import RECIPE, Project


def three(project: Project) -> None:
    project.recipe()
    project.extending("wild", "args: {momentum: 0.99}\nfull: {learning_rate: 5.0}\n")
    project.extending(
        "loud", "task: tasks:TwoTerms\nargs: {scale: 100.0}\nchecks: {grad_ratio: {size/ce: [0.01, 8]}}\n"
    )


def timeless(outcome: dict[str, Any]) -> dict[str, Any]:
    facts = {key: value for key, value in outcome["facts"].items() if "second" not in key and key != "started_at"}
    return {**outcome, "facts": facts}


def written(folder: Path) -> dict[str, str]:
    """Return the text of each file that a session wrote whose content depends on no time."""
    texts = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    timeless = {name: path.read_text() for name, path in texts.items() if name.startswith("traces/")}
    table = re.sub(r"[0-9.]+ (s|min|h)\b", "TIME", texts["summary.md"].read_text())
    table = table.replace(f"<code>{folder.name}</code>", "FOLDER")
    receipts = {name: receipt(path.read_text()) for name, path in texts.items() if name.startswith("receipts/")}
    return dict.fromkeys(texts, "") | timeless | receipts | {"summary.md": table}


def receipt(text: str) -> str:
    """Return a receipt without its times, and without the checksum over them."""

    def kept(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in pairs if not re.search("second|ed_at$|^sha256$", key)}

    return json.dumps(json.loads(text, object_pairs_hook=kept))


@pytest.mark.parametrize("workers", [["-n", "2"], ["-n", "2", "--dist", "worksteal"], ["-p", "no:xdist"]])
def test_reports_are_the_same_with_and_without_workers(project: Project, workers: list[str]) -> None:
    """They differ only in times."""
    three(project)
    result = project.run("--smoke", "-v", "--smoke-report", "out", "--junitxml=junit.xml", *workers)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        ["*= smoke runs =*", "promote*good::*", "hold (ratio-out-of-bounds)*loud::*", "unstable (*wild::*"]
    )
    for word in ("PROMOTE", "HOLD", "UNSTABLE"):
        assert word in result.stdout.str()
    project.run("--smoke", "--smoke-report", "plain")
    assert [timeless(o) for o in project.verdicts()] == [timeless(o) for o in project.verdicts("plain")]
    assert written(project.path / "out") == written(project.path / "plain")
    properties = junit(project.path / "junit.xml")
    assert {name: found["smoke_verdict"] for name, found in properties.items()} == {
        "good.smoke.yaml": "promote",
        "loud.smoke.yaml": "hold",
        "wild.smoke.yaml": "unstable",
    }
    assert properties["loud.smoke.yaml"]["smoke_check[grad-ratio]"] == "fail"
    assert int(properties["good.smoke.yaml"]["smoke_evidence_steps"]) == 384


def test_workers_that_would_write_the_same_files_are_refused(project: Project) -> None:
    project.recipe()
    result = project.run("--smoke", "--smoke-report", "out", "--dist", "each", "--tx", "2*popen")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --dist each executes each smoke run in every worker, *leave out --smoke-report*"]
    )


def junit(path: Path) -> dict[str, dict[str, str]]:
    found = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        properties = {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}
        found[f"{case.attrib['classname']}.yaml".removesuffix(".yaml").replace(".smoke.yaml", "") + ".smoke.yaml"] = (
            properties
        )
    return found


def test_an_infinite_loss_is_a_string_so_that_verdicts_json_is_strict_json(project: Project) -> None:
    project.recipe(
        base=RECIPE.replace("tasks:Teacher", "tasks:Overflows").replace("smoke:", "  precision: fp16\nsmoke:")
    )
    project.run("--smoke", "--smoke-report", "out").assert_outcomes(failed=1)
    (outcome,) = project.verdicts()
    assert (outcome["verdict"], outcome["reason"]) == ("unstable", "non-finite")
    assert "Infinity" in outcome["curve"]["loss"]
    assert set(outcome) >= {"id", "recipe", "mode", "verdict", "reason", "step", "findings", "facts"}


def test_judge_reads_a_trace_and_gives_the_same_verdict(project: Project) -> None:
    """A trace has a row for every step with all loss terms, and the loss of the probe batch 41 times."""
    project.recipe()
    project.run("--smoke", "--smoke-report", "out").assert_outcomes(passed=1)
    (trace,) = (project.path / "out" / "traces").iterdir()
    with trace.open() as lines:
        rows = list(csv.DictReader(lines))
    assert [int(row["step"]) for row in rows] == list(range(400))
    assert set(rows[0]) == {"step", "loss", "lr", "grad_norm", "probe_loss", "loss/ce"}
    assert len([row for row in rows if row["probe_loss"]]) == 41
    assert float(rows[0]["lr"]) == 0.0
    assert float(rows[20]["lr"]) == 0.003
    judged = project.pytester.run(sys.executable, "-m", "pytest_smoke", "judge", str(trace))
    assert judged.ret == 0
    judged.stdout.fnmatch_lines(["*promote*"])


def test_a_session_without_smoke_runs_clears_the_verdicts_of_the_last_session(project: Project) -> None:
    """Nobody must take an old promotion for a new one. `--collect-only` changes nothing."""
    project.recipe()
    project.run("--smoke", "--smoke-report", "out")
    project.run("--smoke", "--smoke-report", "out", "--collect-only")
    assert len(project.verdicts()) == 1
    project.run("--smoke", "--smoke-report", "out", "-k", "nothing")
    assert project.verdicts() == []


def test_the_smoke_fixture_executes_smoke_runs_inside_a_test(project: Project) -> None:
    """The test passes or fails by its own assertions; the reports contain the outcomes under the test's id."""
    project.recipe(extra="ablate:\n  short: {full.warmup_steps: 260}\n")
    project.pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.smoke
        def test_pair(smoke):
            assert smoke("good.smoke.yaml").verdict == "promote"
            unfair = smoke("good.smoke.yaml", cell="short")
            assert unfair.verdict == "invalid"
            assert unfair.finding("schedule").status == "fail"

        def test_mistaken(smoke):
            message = "no smoke run with cell='shrt'; mode= and cell= must choose one of: constant, constant.short.$"
            with pytest.raises(ValueError, match=message):
                smoke("good.smoke.yaml", cell="shrt")
            with pytest.raises(ValueError, match="mode='const': must be one of constant, long-tail, wiring"):
                smoke("good.smoke.yaml", mode="const")
        """
    )
    project.run("test_mine.py").assert_outcomes(skipped=2)
    result = project.run("--smoke", "test_mine.py", "--smoke-report", "out")
    result.assert_outcomes(passed=2)
    assert [(o["id"], o["verdict"]) for o in project.verdicts()] == [
        ("test_mine.py::test_pair#0", "promote"),
        ("test_mine.py::test_pair#1", "invalid"),
    ]


def test_a_report_contains_the_trained_or_the_last_good_checkpoint(project: Project) -> None:
    """A completed run leaves its trained state, a stopped run the last good one."""
    project.recipe()
    project.extending("wild", "args: {momentum: 0.99}\nfull: {learning_rate: 5.0}\n")
    for _ in range(2):  # the checkpoints of the second session replace those of the first
        project.run("--smoke", "--smoke-report", "out").assert_outcomes(passed=1, failed=1)
        good, wild = (outcome["facts"]["checkpoints"] for outcome in project.verdicts())
        assert [(one["kind"], one["step"]) for one in good] == [("trained", 400)]
        assert [one["kind"] for one in wild] == ["last-good"]
        folders = sorted(path.name for path in (project.path / "out" / "checkpoints").glob("*/*"))
        assert folders == ["last-good", "trained"]
    trained = project.path / "out" / good[0]["folder"]
    about = json.loads((trained / "checkpoint.json").read_text())
    assert about["id"] == "good.smoke.yaml::constant"
    assert about["task"] == "tasks:Teacher"
    assert sorted(path.name for path in trained.iterdir()) == ["checkpoint.json", "model.safetensors", "training.pt"]
    assert (trained / "model.safetensors").stat().st_mode & 0o044


def test_a_checkpoint_that_cannot_be_written_leaves_the_promotion_and_is_reported(project: Project) -> None:
    project.recipe()
    (project.path / "out").mkdir()
    (project.path / "out" / "checkpoints").write_text("in the way")
    project.run("--smoke", "--smoke-report", "out").assert_outcomes(passed=1)
    (problem,) = project.verdicts()[0]["facts"]["checkpoint_problems"]
    assert problem.startswith("the trained checkpoint could not be written: ")
