"""`--smoke-bisect GOOD BAD`: real searches between real recipes."""

from __future__ import annotations

import json
import re
import signal
import sys
from typing import Any

import pexpect
import pytest

from tests.plugin.conftest import Project

CALM = """\
task: tasks:Teacher
args: {momentum: 0.0}
full: {batch_size: 64, learning_rate: 0.1, warmup_steps: 20, max_steps: 20000, grad_clip_norm: 0.1}
smoke: {max_steps: 400}
"""
WILD = """\
args: {momentum: 0.99, noise: 0.1}
full: {learning_rate: 5.0, warmup_steps: 40, max_steps: 30000}
"""
"""Neither the rate nor the momentum alone makes it unstable."""
KEYS = ["full.learning_rate", "full.warmup_steps", "args.momentum", "args.noise"]
PAIR = ["full.learning_rate", "args.momentum"]
BISECT = ("--smoke-bisect", "calm.smoke.yaml", "wild.smoke.yaml")


@pytest.fixture
def pair(project: Project) -> Project:
    """A stable and an unstable recipe that differ in four settings, of which two make the difference."""
    project.recipe("calm", base=CALM)
    project.extending("wild", WILD, of="calm")
    return project


def state(project: Project, folder: str = "out") -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((project.path / folder / "bisect.json").read_text())
    return tree


def asked(tree: dict[str, Any]) -> list[tuple[list[str], str, int | None]]:
    return [(one["settings"], one["verdict"], one["step"]) for one in tree["tried"]]


@pytest.mark.parametrize("workers", [["-n", "1"], ["-p", "no:xdist"]])
def test_a_pair_of_settings_is_found_and_every_verdict_it_rests_on_is_shown(pair: Project, workers: list[str]) -> None:
    """Both ends first, each setting alone, then all but each; the last lines need nothing but themselves."""
    (pair.path / "test_other.py").write_text("raise SystemExit('collected')\n")
    result = pair.run(*BISECT, "--smoke-report", "out", "-v", "--junitxml=junit.xml", *workers)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*= bisect =*",
            "calm.smoke.yaml is stable, wild.smoke.yaml is not; 4 settings differ:",
            "  full.learning_rate: 0.1 -> 5",
            "  full.warmup_steps: 20 -> 40",
            "  args.momentum: 0 -> 0.99",
            "  args.noise: not set -> 0.1",
            "  also different, without effect on a smoke run: full.max_steps",
            "trial  verdict * step  settings of the unstable recipe",
            "1      unstable (*) * all 4",
            "2      promote * none",
            "3      promote * full.learning_rate",
            "found: full.learning_rate: 0.1 -> 5 and args.momentum: 0 -> 0.99 together make calm.smoke.yaml unstable; "
            "without any one of them it is not",
            "written to *bisect.json",
        ]
    )
    tree = state(pair)
    assert tree["minimal"] == PAIR
    assert 'name="smoke_bisect" value="found: full.learning_rate' in (pair.path / "junit.xml").read_text()
    answers = {tuple(one["settings"]): one["answer"] for one in tree["tried"]}
    assert answers[tuple(KEYS)] == answers[tuple(PAIR)] == "fail"
    assert answers[()] == answers[(PAIR[0],)] == answers[(PAIR[1],)] == "pass"
    assert len(answers) == len(tree["tried"]) <= 2 + 4 + 4
    assert not (pair.path / "out" / "verdicts.json").exists(), "what lies between two recipes is a verdict on neither"


def test_an_interrupted_bisect_goes_on_where_it_was(pair: Project) -> None:
    """What was decided is not run again, and the answer is that of a search that was never interrupted."""
    command = f"{sys.executable} -m pytest --smoke-device cpu -p no:hypothesispytest --smoke-report out "
    shell = pexpect.spawn(
        command + " ".join(BISECT),
        cwd=str(pair.path),
        encoding="utf-8",
        timeout=60,
        # A suite that a script runs in the background ignores SIGINT, and what it starts inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    shell.expect("trial 3: promote with full.learning_rate")
    shell.sendintr()
    shell.expect(pexpect.EOF)
    shell.close()
    said = r"3 smokes decided, kept in \S+bisect.json: the same command goes on from there"
    assert re.search(said, shell.before), shell.before
    assert shell.exitstatus == pytest.ExitCode.INTERRUPTED
    broken_off = state(pair)
    assert broken_off["minimal"] == []
    assert broken_off["text"] == "not finished: the same command goes on from here"
    resumed = pair.run(*BISECT, "--smoke-report", "out")
    resumed.assert_outcomes(passed=1)
    resumed.stdout.fnmatch_lines(["  trial 3: promote with full.learning_rate (from an earlier session)"])
    pair.run(*BISECT, "--smoke-report", "whole").assert_outcomes(passed=1)
    assert asked(state(pair)) == asked(state(pair, "whole"))
    assert [one["kept"] for one in state(pair)["tried"]] == [True] * 3 + [False] * (len(state(pair)["tried"]) - 3)


def test_a_verdict_is_not_kept_when_the_task_is_another(project: Project) -> None:
    """The task's file is part of what was decided; a second run of the same files runs nothing."""
    project.recipe("calm", base=CALM)
    project.extending("wild", "args: {momentum: 0.99}\nfull: {learning_rate: 5.0}\n", of="calm")
    project.run(*BISECT, "--smoke-report", "out").assert_outcomes(passed=1)
    project.run(*BISECT, "--smoke-report", "out").assert_outcomes(passed=1)
    assert all(one["kept"] for one in state(project)["tried"])
    with (project.path / "tasks.py").open("a") as tasks:
        tasks.write("# another line\n")
    project.run(*BISECT, "--smoke-report", "out").assert_outcomes(passed=1)
    assert not any(one["kept"] for one in state(project)["tried"])


def test_what_cannot_run_alone_decides_nothing_and_the_answer_says_so(project: Project) -> None:
    """A task and the argument that only it takes: neither runs without the other."""
    project.recipe()
    project.extending("wild", "task: tasks:Unlearns\nargs: {at_batch: 200}\n")
    result = project.run("--smoke-bisect", "good.smoke.yaml", "wild.smoke.yaml", "--smoke-report", "out")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "found: args.at_batch: not set -> 200 and task: 'tasks:Teacher' -> 'tasks:Unlearns' together make *; "
            "without any one of them it is not; without args.at_batch the verdict is error (*), which decides nothing; "
            "without task the verdict is error (*), which decides nothing"
        ]
    )


def test_a_cell_that_holds_is_bisected_as_well(project: Project) -> None:
    """The word to explain is the second recipe's own; a cell is named as an item is, or by itself."""
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
        ("calm", "calm", "calm.smoke.yaml and calm.smoke.yaml do not differ in any setting that a smoke sees"),
        (
            "calm",
            "brisk",
            "the verdict on brisk.smoke.yaml is promote, and a bisect starts from unstable or hold: no rise*",
        ),
        (
            "unfair",
            "wild",
            "unfair.smoke.yaml is no fair rehearsal, so there is nothing to bisect: effective batch 32 *",
        ),
        (
            "wilder",
            "wild",
            "the verdict on wilder.smoke.yaml is unstable (*), and a bisect starts from a stable recipe: loss *",
        ),
        ("longer", "calm", "* do not differ in any setting that a smoke sees; only full.max_steps differ"),
    ],
)
def test_where_there_is_nothing_to_find_one_sentence_says_why(
    pair: Project, good: str, bad: str, sentence: str
) -> None:
    """And the session fails."""
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
        ([*BISECT[1:], "tests"], "ERROR: --smoke-bisect runs nothing but its own smokes; leave out tests"),
        ([*BISECT[1:], "--smoke-preflight"], "ERROR: --smoke-bisect trains, and --smoke-preflight runs nothing: *"),
    ],
)
def test_a_command_that_cannot_mean_what_it_says_is_a_usage_error(
    pair: Project, args: list[str], sentence: str
) -> None:
    """Before anything runs."""
    (pair.path / "tests").mkdir()
    result = pair.run("--smoke-bisect", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([sentence])


def test_names_and_files_that_are_wrong_are_one_collection_error(pair: Project) -> None:
    """With the names there are, or the file's own faults."""
    result = pair.run("--smoke-bisect", "calm.smoke.yaml", "wild.smoke.yaml::cosntant")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["--smoke-bisect wild.smoke.yaml::cosntant names 0 of its smokes; it must name one: wild.smoke.yaml::constant"]
    )
    pair.extending("bad", "full: {max_stps: 4}\n", of="calm")
    result = pair.run("--smoke-bisect", "calm.smoke.yaml", "bad.smoke.yaml")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["bad.smoke.yaml:2:8: unknown key max_stps in full; did you mean max_steps?"])


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 9, "decided": {}}', '{"schema": 1, "decided": {"a": {}}}'])
def test_another_file_in_the_place_of_the_state_is_left_alone(pair: Project, text: str) -> None:
    """It is named, and nothing is run."""
    (pair.path / "out").mkdir()
    (pair.path / "out" / "bisect.json").write_text(text)
    result = pair.run(*BISECT, "--smoke-report", "out")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*bisect.json *: move it away"])
    assert (pair.path / "out" / "bisect.json").read_text() == text


def test_it_is_one_item_that_can_be_collected_and_left_out(pair: Project) -> None:
    """Under its own id in the unstable recipe."""
    pair.run(*BISECT, "--collect-only", "-q").stdout.fnmatch_lines(["wild.smoke.yaml::bisect", "1 test collected*"])
    pair.run(*BISECT, "-m", "not smoke").assert_outcomes(deselected=1)


def test_without_a_device_it_is_skipped(pair: Project) -> None:
    """As a smoke of the unstable recipe is."""
    pair.extending("picky", "requires: {device: cuda}\n", of="wild")
    result = pair.run("--smoke-bisect", "calm.smoke.yaml", "picky.smoke.yaml", "-rs")
    result.stdout.fnmatch_lines(["SKIPPED*needs cuda, and --smoke-device is cpu*"])
