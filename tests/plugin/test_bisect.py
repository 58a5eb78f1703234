"""`--smoke-bisect GOOD BAD`, with recipes that train."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pexpect
import pytest

from tests.conftest import OPTIONS
from tests.plugin.conftest import Project, hear_ctrl_c

CALM = """\
task: tasks:Teacher
args: {momentum: 0.0}
full: {batch_size: 64, learning_rate: 0.1, warmup_steps: 20, max_steps: 20000, grad_clip_norm: 0.1}
smoke: {max_steps: 400}
"""
WILD = """\
args: {momentum: 0.95, noise: 0.1}
full: {learning_rate: 5.0, warmup_steps: 40, max_steps: 30000}
"""
"""Unstable because of the learning rate and the momentum together; either alone is stable."""
KEYS = ["full.learning_rate", "full.warmup_steps", "args.momentum", "args.noise"]
PAIR = ["full.learning_rate", "args.momentum"]
BISECT = ("--smoke-bisect", "calm.smoke.yaml", "wild.smoke.yaml")


@pytest.fixture
def pair(project: Project) -> Project:
    """A stable and an unstable recipe that differ in four settings, of which two together cause the instability."""
    project.recipe("calm", base=CALM)
    project.extending("wild", WILD, of="calm")
    return project


def state(project: Project, folder: str = "out") -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((project.path / folder / "bisect.json").read_text())
    return tree


def trials(tree: dict[str, Any]) -> list[tuple[list[str], str, int | None]]:
    return [(one["settings"], one["verdict"], one["step"]) for one in tree["tried"]]


@pytest.mark.parametrize("workers", [["-n", "1"], ["-p", "no:xdist"]])
def test_a_bisect_finds_two_settings_that_act_together_and_prints_every_trial(
    pair: Project, workers: list[str]
) -> None:
    """Trials: all settings and none, then each one alone, then all but one."""
    (pair.path / "test_other.py").write_text("raise SystemExit('collected')\n")
    result = pair.run(*BISECT, "--smoke-report", "out", "-v", "--junitxml=junit.xml", *workers)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*= bisect =*",
            "calm.smoke.yaml is stable, wild.smoke.yaml is not; 4 settings differ:",
            "  full.learning_rate: 0.1 -> 5",
            "  full.warmup_steps: 20 -> 40",
            "  args.momentum: 0 -> 0.95",
            "  args.noise: not set -> 0.1",
            "  also different, without effect on a smoke run: full.max_steps",
            "trial  verdict * step  settings taken from the unstable recipe",
            "1      unstable (*) * all 4",
            "2      promote * none",
            "3      promote * full.learning_rate",
            "found: full.learning_rate: 0.1 -> 5 and args.momentum: 0 -> 0.95 together make calm.smoke.yaml unstable; "
            "both are needed",
            "report: out/index.html",
        ]
    )
    page = (pair.path / "out" / "index.html").read_text()
    assert "found: full.learning_rate: 0.1 -&gt; 5 and args.momentum" in page
    assert page.count('<th scope="row"') >= len(KEYS) + 2
    tree = state(pair)
    assert tree["minimal"] == PAIR
    assert 'name="smoke_bisect" value="found: full.learning_rate' in (pair.path / "junit.xml").read_text()
    answers = {tuple(one["settings"]): one["answer"] for one in tree["tried"]}
    assert answers[tuple(KEYS)] == answers[tuple(PAIR)] == "fail"
    assert answers[()] == answers[(PAIR[0],)] == answers[(PAIR[1],)] == "pass"
    assert len(answers) == len(tree["tried"]) <= 2 + 4 + 4
    assert not (pair.path / "out" / "verdicts.json").exists(), "the trials of a bisect are not verdicts on its recipes"


def test_an_interrupted_bisect_resumes_with_the_verdicts_it_has(pair: Project) -> None:
    """No trial is repeated, and the trials are those of a bisect that was not interrupted."""
    shell = pexpect.spawn(
        sys.executable,
        ["-m", "pytest", *OPTIONS, "--smoke-report", "out", *BISECT],
        cwd=str(pair.path),
        encoding="utf-8",
        timeout=60,
        preexec_fn=hear_ctrl_c,
    )
    shell.expect("trial 3: promote with full.learning_rate")
    shell.sendintr()
    shell.expect(pexpect.EOF)
    shell.close()
    printed = r"3 smoke runs finished, their verdicts are in \S+bisect\.json: rerun the same command to continue"
    assert re.search(printed, shell.before), shell.before
    assert shell.exitstatus == pytest.ExitCode.INTERRUPTED
    interrupted = state(pair)
    assert interrupted["minimal"] == []
    assert interrupted["text"] == "not finished: rerun the same command to continue"
    resumed = pair.run(*BISECT, "--smoke-report", "out")
    resumed.assert_outcomes(passed=1)
    resumed.stdout.fnmatch_lines(["  trial 3: promote with full.learning_rate (from an earlier session)"])
    pair.run(*BISECT, "--smoke-report", "whole").assert_outcomes(passed=1)
    assert trials(state(pair)) == trials(state(pair, "whole"))
    assert [one["kept"] for one in state(pair)["tried"]] == [True] * 3 + [False] * (len(state(pair)["tried"]) - 3)


def test_saved_verdicts_are_reused_until_the_task_file_changes(project: Project) -> None:
    project.recipe("calm", base=CALM)
    project.extending("wild", "args: {momentum: 0.95}\nfull: {learning_rate: 5.0}\n", of="calm")
    project.run(*BISECT, "--smoke-report", "out").assert_outcomes(passed=1)
    project.run(*BISECT, "--smoke-report", "out").assert_outcomes(passed=1)
    assert all(one["kept"] for one in state(project)["tried"])
    with (project.path / "tasks.py").open("a") as tasks:
        tasks.write("# a change\n")
    project.run(*BISECT, "--smoke-report", "out").assert_outcomes(passed=1)
    assert not any(one["kept"] for one in state(project)["tried"])


def test_a_bisect_names_two_settings_that_are_an_error_without_each_other(project: Project) -> None:
    """A task and an argument that only this task takes: each without the other is an error."""
    project.recipe()
    project.extending("wild", "task: tasks:Unlearns\nargs: {at_batch: 200}\n")
    result = project.run("--smoke-bisect", "good.smoke.yaml", "wild.smoke.yaml", "--smoke-report", "out")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "found: args.at_batch: not set -> 200 and task: 'tasks:Teacher' -> 'tasks:Unlearns' together make "
            "good.smoke.yaml unstable; without args.at_batch the verdict is error (invalid-task), so whether "
            "args.at_batch is needed is not known; without task the verdict is error (invalid-task), so whether task "
            "is needed is not known"
        ]
    )


def test_a_bisect_also_explains_the_verdict_hold_of_an_ablation_cell(project: Project) -> None:
    """The settings searched for are those that lead to the second recipe's verdict."""
    project.recipe(
        base="""\
task: tasks:Teacher
full: {batch_size: 64, learning_rate: 3.0e-3, warmup_steps: 20, max_steps: 20000}
smoke: {max_steps: 400}
checks: {accept: [val_accuracy > 0.8]}
ablate:
  slow: {full.learning_rate: 1.0e-5}
"""
    )
    result = project.run("--smoke-bisect", "good.smoke.yaml::constant", "good.smoke.yaml::slow")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["found: full.learning_rate: 0.003 -> 1e-05 alone makes good.smoke.yaml::constant hold"]
    )


@pytest.mark.parametrize(
    ("good", "bad", "sentence"),
    [
        ("calm", "calm", "calm.smoke.yaml and calm.smoke.yaml differ in no setting that a smoke run uses"),
        (
            "calm",
            "brisk",
            "the verdict on brisk.smoke.yaml is promote; a bisect needs unstable or hold: no rise*",
        ),
        (
            "unfair",
            "wild",
            "unfair.smoke.yaml fails preflight, so there is nothing to bisect: the smoke run has effective batch 32 *",
        ),
        (
            "wilder",
            "wild",
            "the verdict on wilder.smoke.yaml is unstable (*); a bisect needs a stable recipe: loss *",
        ),
        (
            "longer",
            "calm",
            "longer.smoke.yaml and calm.smoke.yaml differ in no setting that a smoke run uses; only full.max_steps "
            "differs",
        ),
    ],
)
def test_a_bisect_that_cannot_find_anything_fails_and_says_why(
    pair: Project, good: str, bad: str, sentence: str
) -> None:
    pair.extending("brisk", "full: {learning_rate: 0.2}\n", of="calm")
    pair.extending("unfair", "smoke: {batch_size: 32}\n", of="calm")
    pair.extending("wilder", "full: {learning_rate: 6.0}\n", of="wild")
    pair.extending("longer", "full: {max_steps: 40000}\n", of="calm")
    result = pair.run("--smoke-bisect", f"{good}.smoke.yaml", f"{bad}.smoke.yaml")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*_ bisect *", sentence])
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["calm.smoke.yaml", "no.smoke.yaml"], "ERROR: --smoke-bisect no.smoke.yaml: there is no file *no.smoke.yaml"),
        ([*BISECT[1:], "tests"], "ERROR: --smoke-bisect runs only its own smoke runs; remove tests"),
        (
            [*BISECT[1:], "--smoke-preflight"],
            "ERROR: --smoke-bisect trains, --smoke-preflight does not: use one of them",
        ),
    ],
)
def test_a_missing_file_or_a_contradicting_argument_is_a_usage_error(
    pair: Project, args: list[str], sentence: str
) -> None:
    (pair.path / "tests").mkdir()
    result = pair.run("--smoke-bisect", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([sentence])


def test_an_unknown_name_or_an_invalid_recipe_is_a_collection_error(pair: Project) -> None:
    """The error lists the names in the file, or what is wrong in it."""
    result = pair.run("--smoke-bisect", "calm.smoke.yaml", "wild.smoke.yaml::cosntant")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["--smoke-bisect wild.smoke.yaml::cosntant matches 0 smoke runs, not one; there are: wild.smoke.yaml::constant"]
    )
    pair.extending("bad", "full: {max_stps: 4}\n", of="calm")
    result = pair.run("--smoke-bisect", "calm.smoke.yaml", "bad.smoke.yaml")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["bad.smoke.yaml:2:8: unknown key max_stps in full; did you mean max_steps?"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "{",
            "is not the state of a bisect (Expecting property name enclosed in double quotes: line 1 column 2 "
            "(char 1)); move it away",
        ),
        ("[]", "is not the state of a bisect (it does not hold the expected objects); move it away"),
        ('{"schema": 9, "decided": {}}', "has schema 9; this version reads 1; move it away"),
        (
            '{"schema": 1, "decided": {"a": {}}}',
            "is not the state of a bisect (the key 'verdict' is missing); move it away",
        ),
    ],
)
def test_a_bisect_json_with_other_content_is_named_and_not_overwritten(pair: Project, text: str, problem: str) -> None:
    (pair.path / "out").mkdir()
    (pair.path / "out" / "bisect.json").write_text(text)
    result = pair.run(*BISECT, "--smoke-report", "out")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*bisect.json {problem}"])
    assert (pair.path / "out" / "bisect.json").read_text() == text


def test_a_bisect_is_one_item_with_the_marker_smoke(pair: Project) -> None:
    """Its id is that of the unstable recipe followed by `::bisect`."""
    pair.run(*BISECT, "--collect-only", "-q").stdout.fnmatch_lines(["wild.smoke.yaml::bisect", "1 test collected*"])
    pair.run(*BISECT, "-m", "not smoke").assert_outcomes(deselected=1)


def test_a_bisect_is_skipped_if_the_unstable_recipe_needs_a_missing_device(pair: Project) -> None:
    pair.extending("picky", "requires: {device: cuda}\n", of="wild")
    result = pair.run("--smoke-bisect", "calm.smoke.yaml", "picky.smoke.yaml", "-rs")
    result.stdout.fnmatch_lines(["SKIPPED*needs cuda, but --smoke-device is cpu*"])
