"""No fault of a task, a plugin or the system loses an outcome, or leaves the session green."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from pytest_smoke.files import file_name
from tests.conftest import OPTIONS
from tests.plugin.conftest import RECIPE, Project

ODD_TASKS = """
import enum
import tasks

class Term(enum.StrEnum):
    CE = "ce"

class Enums(tasks.Teacher):
    def losses(self, model, batch):
        return {Term.CE: super().losses(model, batch)["ce"]}
    def evaluate(self, model):
        return {Term.CE + "_2": 1, "tab\\t\\x1b[31m": 0.5, None: 0.5}

class Raises(tasks.Teacher):
    def __init__(self, how):
        self.how = how
        super().__init__()
    def losses(self, model, batch):
        if self.how == "surrogate":
            raise OSError(2, "no file", "caf\\udce9.txt")
        raise ValueError("\\x1b[2J\\x00\\x07red")
"""
ODD_WAYS = ("surrogate", "escape")
COMMAND = [sys.executable, "-m", "pytest", "--smoke", *OPTIONS, "-p", "no:cacheprovider"]


def by_name(project: Project, folder: str = "out") -> dict[str, dict[str, Any]]:
    return {outcome["recipe"].removesuffix(".smoke.yaml"): outcome for outcome in project.verdicts(folder)}


def test_outcomes_of_tasks_that_report_odd_values_arrive_from_workers_and_can_be_read(project: Project) -> None:
    (project.path / "odd.py").write_text(ODD_TASKS)
    base = RECIPE.replace("max_steps: 400", "max_steps: 40")
    project.recipe("enums", base=base.replace("tasks:Teacher", "odd:Enums"))
    for how in ODD_WAYS:
        project.recipe(how, f"args: {{how: {how}}}\n", base=base.replace("tasks:Teacher", "odd:Raises"))
    named = project.path / os.fsdecode(b"caf\xe9.smoke.yaml")
    named.write_text(RECIPE + "  batch_size: 8\n")
    result = project.run("--smoke", "-n", "2", "--smoke-report", "out", "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=3)
    outcomes = by_name(project)
    assert outcomes.keys() == {"enums", "caf\\udce9", *ODD_WAYS}
    assert outcomes["enums"]["facts"]["steps"] == 40
    assert outcomes["enums"]["metrics"].keys() == {"ce_2", "tab\\t\\x1b[31m", "None"}
    texts = {how: outcomes[how]["text"].partition(" at odd.py")[0] for how in ODD_WAYS}
    assert texts["surrogate"] == "FileNotFoundError: [Errno 2] no file: 'caf\\udce9.txt'"
    assert texts["escape"] == "ValueError: \\x1b[2J\\x00\\x07red"
    assert not {"\x1b", "\x00", "\x07"} & set(result.stdout.str())
    assert len(list(ElementTree.parse(project.path / "junit.xml").getroot().iter("testcase"))) == 4


ABORTS = """
import os
import tasks
import torch

class Held:
    def __del__(self):
        os.abort()

class Aborts(tasks.Teacher):
    def __init__(self, lost):
        super().__init__()
        self.lost, self.first = lost, True
    def losses(self, model, batch):
        held, self.first = Held() if self.first else None, False  # the batch is tried again
        raise (torch.AcceleratorError if self.lost else ValueError)("no such label\\nSearch for advice")
"""


def test_a_process_that_aborts_while_it_cleans_up_reports_what_was_raised_before(project: Project) -> None:
    """As after an assertion on a CUDA device, where freeing any memory of the device aborts the process."""
    (project.path / "aborts.py").write_text(ABORTS)
    for name, lost in {"usable": "false", "lost": "true"}.items():
        project.recipe(name, f"args: {{lost: {lost}}}\n", base=RECIPE.replace("tasks:Teacher", "aborts:Aborts"))
    result = project.run("--smoke", "--smoke-report", "out")
    outcomes = by_name(project)
    assert outcomes["usable"]["text"].startswith("ValueError: no such label")
    assert outcomes["lost"]["text"] == "AcceleratorError: no such label at aborts.py:16 (before the first step)"
    assert {outcome["reason"] for outcome in outcomes.values()} == {"exception"}
    assert "Fatal Python error" not in outcomes["lost"]["output"]
    assert "torch.AcceleratorError: no such label" in outcomes["lost"]["output"]
    result.assert_outcomes(failed=2)


LOSES = """
import pytest

class Strange:
    pass

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if "never" in item.nodeid:
        return True

def pytest_runtest_setup(item):
    if "skipped" in item.nodeid:
        pytest.skip("too slow for this machine")
    if "unready" in item.nodeid:
        raise OSError("no scratch disk")

@pytest.hookimpl(trylast=True, wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if "strange" in item.nodeid and report.when == "call":
        report.strange = Strange()
    return report
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_collected_smoke_run_without_an_outcome_fails_the_session(project: Project, workers: tuple[str, ...]) -> None:
    project.pytester.makeconftest(LOSES)
    names = ["good", "never", "skipped", "unready"]
    for name in names:
        project.recipe(name)
    result = project.run("--smoke-preflight", "--smoke-report", "out", "--smoke-mode", "constant", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    outcomes = by_name(project)
    assert outcomes.keys() == set(names)
    options = [outcomes[name]["facts"]["rerun_options"] for name in names]
    assert options == [["--smoke-mode", "constant", *options[0][2:]]] * len(names)
    found = {name: (outcome["verdict"], outcome["reason"]) for name, outcome in outcomes.items()}
    assert found["good"] == ("inconclusive", "preflight")
    assert found["never"] == ("error", "no-outcome")
    assert found["skipped"] == ("inconclusive", "skipped")
    assert found["unready"] == ("error", "setup-failed")
    assert outcomes["skipped"]["text"] == "too slow for this machine"
    assert outcomes["unready"]["text"].endswith("no scratch disk")
    result.stdout.fnmatch_lines(
        ["ERROR: the session ended without an outcome of 1 smoke run: never.smoke.yaml::constant"]
    )


def test_a_report_that_a_worker_cannot_send_fails_the_session(project: Project) -> None:
    """A plugin adds an object to the report of a test that has finished."""
    project.pytester.makeconftest(LOSES)
    for name in ("good", "strange"):
        project.recipe(name)
    result = project.run("--smoke-preflight", "--smoke-report", "out", "-n", "2")
    assert result.ret != pytest.ExitCode.OK
    assert "strange.smoke.yaml::constant" in result.stdout.str()


def test_smoke_runs_that_a_faulty_file_keeps_from_starting_are_named_without_an_error_of_their_own(
    project: Project,
) -> None:
    project.recipe()
    project.recipe("faulty", "task: [\n", base="")
    result = project.run("--smoke-preflight", "--smoke-report", "out")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["1 smoke run was not executed: good.smoke.yaml::constant", "ERROR faulty.smoke.yaml*"])
    result.stdout.no_fnmatch_line("*without an outcome*")
    assert project.verdicts() == []


def test_names_with_escape_sequences_reach_neither_the_terminal_nor_junit(project: Project) -> None:
    """Of a recipe's file, a criterion and a metric, in a verdict, a failure and a fault of the recipe."""
    (project.path / "named.py").write_text(
        "import tasks\n"
        "class Named(tasks.Teacher):\n"
        "    def evaluate(self, model):\n"
        "        return {'val\\x1b[31m': 0.5}\n"
    )
    base = RECIPE.replace("tasks:Teacher", "named:Named").replace("max_steps: 400", "max_steps: 60")
    project.recipe("na\x1b[31mme", base=base)
    project.recipe("unfair\x1b[31m", "  batch_size: 8\n", base=base)
    project.recipe("faulty\x1b[31m", '"k\\e[31mey": 3\n', base=base)
    options = ["--smoke-mode", "wiring", "--smoke-report", "out", "--continue-on-collection-errors"]
    for verbose in ([], ["-v"]):
        result = project.run("--smoke", *verbose, *options, "--junitxml=junit.xml")
        assert "\x1b" not in result.stdout.str()
        assert len(list(ElementTree.parse(project.path / "junit.xml").getroot().iter("testcase"))) == 3
    assert {outcome["id"] for outcome in project.verdicts()} == {
        "na\\x1b[31mme.smoke.yaml::wiring",
        "unfair\\x1b[31m.smoke.yaml::wiring",
    }


def test_the_sentence_alone_fails_a_session_that_pytest_calls_passed(project: Project) -> None:
    project.pytester.makeconftest(LOSES)
    project.recipe("never")
    result = project.run("--smoke")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["ERROR: the session ended without an outcome of 1 smoke run: never.smoke.yaml::constant"]
    )


def test_recipes_outside_the_rootdir_and_files_named_twice_have_ids_of_their_own(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    project.recipe()
    paths = [outside / name / "good.smoke.yaml" for name in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(RECIPE if path.parent.name == "a" else RECIPE + "  batch_size: 8\n")
    inside = "good.smoke.yaml"
    project.run("--smoke-preflight", "--smoke-report", "out", "--keep-duplicates", *map(str, paths), inside, inside)
    verdicts = {outcome["id"]: outcome["verdict"] for outcome in project.verdicts()}
    assert verdicts == {
        f"{paths[0]}::constant": "inconclusive",
        f"{paths[1]}::constant": "invalid",
        "good.smoke.yaml::constant": "inconclusive",
        "good.smoke.yaml::constant#2": "inconclusive",
    }


def test_an_item_that_is_executed_again_keeps_both_outcomes(project: Project) -> None:
    """As under pytest-rerunfailures."""
    project.pytester.makeconftest(
        "from _pytest.runner import runtestprotocol\n"
        "def pytest_runtest_protocol(item, nextitem):\n"
        "    for _ in range(2):\n"
        "        reports = runtestprotocol(item, nextitem=nextitem, log=True)\n"
        "        (item.path.parent / 'tasks.py').write_text('')\n"
        "    return True\n"
    )
    project.recipe()
    project.run("--smoke", "--smoke-mode", "wiring", "--smoke-report", "out")
    assert [(outcome["id"], outcome["verdict"]) for outcome in project.verdicts()] == [
        ("good.smoke.yaml::wiring", "inconclusive"),
        ("good.smoke.yaml::wiring#2", "error"),
    ]


def test_a_second_session_in_a_report_folder_is_refused_and_a_dead_one_locks_nothing(project: Project) -> None:
    project.recipe()
    project.pytester.makeconftest(
        "import os, time\n"
        "def pytest_collection_finish():\n"
        "    if os.environ.get('SLOW'):\n"
        "        open('started', 'w').close()\n"
        "        time.sleep(600)\n"
    )
    arguments = [*COMMAND, "--smoke-preflight", "--smoke-report", "out"]
    first = subprocess.Popen(arguments, cwd=project.path, env={**os.environ, "SLOW": "1"})
    try:
        deadline = time.monotonic() + 120
        while not (project.path / "started").exists():
            assert time.monotonic() < deadline, "the first session did not start"
            time.sleep(0.05)
        for option in ("--smoke-preflight", "--smoke-resume"):
            result = project.run("--smoke", option, "--smoke-report", "out")
            assert result.ret == pytest.ExitCode.USAGE_ERROR
            lines = [line for line in result.errlines if line.strip()]
            folder = project.path / "out"
            assert lines == [
                f"ERROR: --smoke-report: another pytest session (process {first.pid}) is writing to {folder}: wait for "
                "it, or name another folder"
            ]
        assert project.run("--smoke", "--collect-only", "--smoke-report", "out").ret == pytest.ExitCode.OK
    finally:
        first.kill()
        first.wait()
    assert project.run("--smoke-preflight", "--smoke-report", "out").ret == pytest.ExitCode.OK
    assert len(project.verdicts()) == 1


def test_a_recipe_that_was_edited_after_it_was_read_is_invalid(project: Project) -> None:
    project.pytester.makeconftest(
        "def pytest_collection_finish(session):\n"
        "    path = session.config.rootpath / 'good.smoke.yaml'\n"
        "    path.write_text(path.read_text() + '# a comment\\n')\n"
    )
    project.recipe()
    project.extending("longer", "smoke: {max_steps: 500}\n")
    project.run("--smoke", "--smoke-report", "out").assert_outcomes(failed=2)
    for outcome in project.verdicts():
        assert (outcome["verdict"], outcome["reason"]) == ("invalid", "edited-during-run")
        assert outcome["text"].startswith("good.smoke.yaml was edited before the smoke run started")


def test_nothing_of_an_earlier_promotion_stays_beside_another_verdict(project: Project) -> None:
    project.recipe()
    project.run("--smoke", "--smoke-report", "out").assert_outcomes(passed=1)
    (outcome,) = project.verdicts()
    name = file_name(outcome["id"])
    assert outcome["facts"]["trace"] == f"traces/{name}.csv"
    files = [f"traces/{name}.csv", f"checkpoints/{name}/trained", f"packages/{name}", f"predictions/{name}.jsonl"]
    (project.path / "out" / files[2]).mkdir(parents=True)
    (project.path / "out" / files[3]).parent.mkdir(exist_ok=True)
    (project.path / "out" / files[3]).touch()
    project.recipe(base=RECIPE + "  batch_size: 8\n")
    project.run("--smoke", "--smoke-report", "out").assert_outcomes(failed=1)
    assert [name for name in files if (project.path / "out" / name).exists()] == []
    assert [name for name in files if not (project.path / "out" / "stale" / name).exists()] == []
    assert not (project.path / "out" / "checkpoints" / name).exists()
    judged = project.pytester.run(sys.executable, "-m", "pytest_smoke", "judge", "out")
    assert "no log in this folder" in judged.stdout.str()


def test_compare_reads_no_trace_of_another_run(project: Project) -> None:
    project.recipe()
    project.run("--smoke", "--smoke-report", "out").assert_outcomes(passed=1)
    tree = json.loads((project.path / "out" / "verdicts.json").read_text())
    (trace,) = (project.path / "out" / "traces").iterdir()
    trace.write_text(trace.read_text().replace("\n1,", "\n1,9"))
    result = project.pytester.run(sys.executable, "-m", "pytest_smoke", "compare", "out", "out", "--format", "json")
    assert "is not that of this smoke run" in result.stdout.str()
    assert tree["outcomes"][0]["facts"]["trace_sha256"] not in result.stdout.str()


def test_a_task_without_a_process_of_its_own_does_not_change_the_next_one(project: Project) -> None:
    (project.path / "leaky.py").write_text(
        "import os, torch\n"
        "import tasks\n"
        "class Leaky(tasks.Teacher):\n"
        "    calls = 0\n"
        "    def evaluate(self, model):\n"
        "        self.calls += 1\n"
        "        if self.calls == 2:  # after the last step\n"
        "            torch.set_default_dtype(torch.float64)\n"
        "            os.chdir('/')\n"
        "        return {}\n"
        "class Exits(tasks.Teacher):\n"
        "    def losses(self, model, batch):\n"
        "        import pytest\n"
        "        pytest.exit('no labels')\n"
        "class Odd(tasks.Teacher):\n"
        "    def losses(self, model, batch):\n"
        "        raise GeneratorExit\n"
        "class Looks(tasks.Teacher):\n"
        "    def evaluate(self, model):\n"
        "        bits = next(model.parameters()).element_size() * 8\n"
        "        return {'bits': bits}\n"
    )
    base = RECIPE.replace("max_steps: 400", "max_steps: 60")
    project.recipe("a", base=base.replace("tasks:Teacher", "leaky:Leaky"))
    project.recipe("a-exits", base=base.replace("tasks:Teacher", "leaky:Exits"))
    project.recipe("a-odd", base=base.replace("tasks:Teacher", "leaky:Odd"))
    project.recipe("b", base=base.replace("tasks:Teacher", "leaky:Looks"))
    project.run("--smoke", "--smoke-mode", "wiring", "--smoke-isolation", "none", "--smoke-report", "out")
    outcomes = by_name(project)
    (run,) = [finding for finding in outcomes["a"]["findings"] if finding["id"] == "run"]
    assert (run["status"], run["reason"]) == ("warn", "global-state-changed")
    assert "torch's default dtype" in run["text"]
    assert "the current folder" in run["text"]
    assert outcomes["a-exits"]["text"] == "Exit: no labels at leaky.py:14 (before the first step)"
    assert outcomes["a-odd"]["text"] == "GeneratorExit at leaky.py:17 (before the first step)"
    assert outcomes["b"]["metrics"]["bits"][-1][1] == 32
    assert [finding["status"] for finding in outcomes["b"]["findings"] if finding["id"] == "run"] == ["pass"]


def test_smoke_runs_of_fixtures_keep_their_outcomes_until_the_teardown(project: Project) -> None:
    project.recipe()
    project.pytester.makepyfile(
        test_fixtures="""
        import pytest

        @pytest.fixture
        def around(smoke):
            smoke("good.smoke.yaml")
            yield
            smoke("good.smoke.yaml")

        def test_pair(around):
            pass

        @pytest.fixture
        def broken(smoke):
            smoke("good.smoke.yaml")
            raise OSError

        def test_broken(broken):
            pass
        """
    )
    project.run("--smoke-preflight", "test_fixtures.py", "--smoke-report", "out")
    assert [outcome["id"] for outcome in project.verdicts()] == [
        "test_fixtures.py::test_broken#0",
        "test_fixtures.py::test_pair#0",
        "test_fixtures.py::test_pair#1",
    ]
