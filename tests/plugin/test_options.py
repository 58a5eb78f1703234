"""Each option of the plugin, as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from tests.plugin.conftest import RECIPE, Project


@pytest.mark.parametrize(
    ("option", "value", "fragment"),
    [
        ("--smoke-mode", "cosine", "invalid choice: 'cosine'"),
        ("--smoke-device", "gpu", "'gpu': must be auto, cpu, mps, cuda or cuda:N"),
        ("--smoke-timeout", "-1", "'-1': must be a number of seconds, 0 or more"),
        ("--smoke-isolation", "thread", "invalid choice: 'thread'"),
    ],
)
def test_an_invalid_option_value_is_a_usage_error_that_names_it(
    project: Project, option: str, value: str, fragment: str
) -> None:
    result = project.run("--smoke", f"{option}={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert fragment in result.stderr.str()


def test_preflight_checks_every_recipe_and_trains_none(project: Project) -> None:
    """A recipe with another effective batch fails; neither torch nor the task is imported."""
    project.recipe()
    project.extending("unfair", "full: {grad_accum_steps: 16}\nsmoke: {grad_accum_steps: 1}\n")
    project.extending("never", "task: explosive:Task\n")
    (project.path / "explosive.py").write_text("raise SystemExit('imported')\nTask = None\n")
    project.pytester.makeconftest(
        "import sys\ndef pytest_unconfigure():\n    assert 'torch' not in sys.modules\n    print('NO TORCH')\n"
    )
    result = project.run("--smoke-preflight", "-v", "--smoke-report", "out")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "good.smoke.yaml::constant PREFLIGHT OK*",
            "never.smoke.yaml::constant PREFLIGHT OK*",
            "unfair.smoke.yaml::constant INVALID*",
            "invalid (different-effective-batch): the smoke run has effective batch 64 (64 x 1 x 1), the full run "
            "1,024 (64 x 16 x 1). The smoke run's gradient noise is 4.0x larger, so it says nothing about the full run",
            "*1 failed, 2 preflight ok*",
            "NO TORCH",
        ]
    )
    verdicts = {outcome["recipe"]: (outcome["verdict"], outcome["reason"]) for outcome in project.verdicts()}
    assert verdicts == {
        "good.smoke.yaml": ("inconclusive", "preflight"),
        "never.smoke.yaml": ("inconclusive", "preflight"),
        "unfair.smoke.yaml": ("invalid", "different-effective-batch"),
    }


def test_preflight_exits_with_status_0_if_every_recipe_passes(project: Project) -> None:
    """CI without a GPU reads only the exit status."""
    project.recipe()
    assert project.run("--smoke-preflight").ret == 0


@pytest.mark.parametrize(
    ("option", "word"), [("--smoke-preflight", "preflight ok"), ("--smoke-mode=wiring", "wiring ok")]
)
def test_junit_shows_a_completed_run_as_ok_at_its_place_in_the_recipe(project: Project, option: str, word: str) -> None:
    project.recipe()
    assert project.run("--smoke", option, "--junitxml=junit.xml").ret == 0
    text = (project.path / "junit.xml").read_text()
    assert f'<property name="smoke_verdict" value="{word}" />' in text
    assert ">good.smoke.yaml:" in text
    assert "inconclusive" not in text
    assert 'failures="0"' in text


def test_smoke_mode_on_the_command_line_overrides_the_recipe(project: Project) -> None:
    """Wiring mode takes ten steps and is inconclusive; long-tail mode is invalid with too few steps near the peak."""
    project.recipe(extra="  mode: constant\n")
    wiring = project.run("--smoke", "--smoke-mode", "wiring", "-v", "--smoke-report", "out")
    assert wiring.ret == 0
    wiring.stdout.fnmatch_lines(["good.smoke.yaml::wiring WIRING OK*", "*1 wiring ok*"])
    (outcome,) = project.verdicts()
    assert (outcome["verdict"], outcome["reason"], outcome["facts"]["steps"]) == ("inconclusive", "wiring", 10)
    tail = project.run("--smoke", "--smoke-mode", "long-tail")
    tail.stdout.fnmatch_lines(
        [
            "invalid (too-little-evidence): * of 400 steps are at 80 % of the full run's peak learning rate or more; "
            "long-tail mode needs 2,500"
        ]
    )


def test_an_exception_in_wiring_mode_fails_the_test(project: Project) -> None:
    project.recipe(base=RECIPE.replace("tasks:Teacher", "tasks:Breaks"), extra="args: {how: raise, at_batch: 4}\n")
    result = project.run("--smoke", "--smoke-mode", "wiring")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["error (exception): RuntimeError: the labels file is empty at tasks.py:*"])


def test_a_smoke_run_that_hangs_is_killed_and_the_next_one_starts(project: Project) -> None:
    """The verdict names the timeout and the last step; the last output shows where the task hangs."""
    project.recipe(
        "a_hangs", base=RECIPE.replace("tasks:Teacher", "tasks:Breaks"), extra="args: {how: hang, at_batch: 300}\n"
    )
    project.recipe("b_good")
    result = project.run("--smoke", "--smoke-timeout", "4", "-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "a_hangs.smoke.yaml::constant ERROR*",
            "b_good.smoke.yaml::constant PROMOTE*",
            "error (hang): the training process made no progress for 4.0 s and was killed at tasks.py:* (after step *)",
            "*about to hang",
            "*tasks.py*in losses*",
        ]
    )


def test_isolation_none_trains_in_the_pytest_process_with_the_same_findings(project: Project) -> None:
    """The pytest process imports torch only with isolation none."""
    project.recipe()
    project.pytester.makeconftest(
        "import sys\ndef pytest_unconfigure():\n    print('TORCH' if 'torch' in sys.modules else 'NONE')\n"
    )
    same_process = project.run("--smoke", "--smoke-isolation", "none", "--smoke-report", "same_process")
    same_process.stdout.fnmatch_lines(["TORCH"])
    own_process = project.run("--smoke", "--smoke-report", "own_process")
    own_process.stdout.fnmatch_lines(["NONE"])
    (one,), (other,) = project.verdicts("same_process"), project.verdicts("own_process")
    assert one["findings"] == other["findings"]
    assert one["curve"] == other["curve"]


def test_the_command_that_reruns_has_the_options_of_the_session(project: Project) -> None:
    project.recipe(extra="launch: {nproc_per_node: 1}\n")
    result = project.run("--smoke", "--smoke-isolation", "none", "--smoke-report", "out")
    rerun = "pytest --smoke --smoke-device cpu --smoke-isolation none good.smoke.yaml::constant"
    result.stdout.fnmatch_lines(["error (needs-processes): *", f"  rerun: {rerun}"])
    assert f"rerun: <code>{rerun}</code>" in (project.path / "out" / "summary.md").read_text()


def test_a_report_folder_that_cannot_be_created_is_a_usage_error(project: Project) -> None:
    project.recipe()
    result = project.run("--smoke", "--smoke-report", "good.smoke.yaml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --smoke-report good.smoke.yaml: cannot create the folder: a file or a broken link has this name"]
    )


def test_a_missing_device_is_reported_as_missing_and_not_as_an_invalid_task(project: Project) -> None:
    project.recipe()
    result = project.run("--smoke", "--smoke-device", "cuda:77")
    result.stdout.fnmatch_lines(
        ["error (missing-device): there is no device 'cuda:77': torch * sees * cuda device* (before the first step)"]
    )


def test_pdb_stops_in_the_frame_of_the_task_that_raised(project: Project) -> None:
    """--pdb implies isolation none, because a debugger sees only the frames of its own process."""
    project.recipe(base=RECIPE.replace("tasks:Teacher", "tasks:Breaks"), extra="args: {how: raise, at_batch: 4}\n")
    command = f"{sys.executable} -m pytest --smoke --smoke-device cpu --pdb -p no:hypothesispytest good.smoke.yaml"
    shell = pexpect.spawn(command, cwd=str(project.path), encoding="utf-8", timeout=60)
    try:
        shell.expect("the labels file is empty")
        shell.expect(r"\(Pdb\)")
        shell.sendline("p self.how")
        shell.expect("'raise'")
        shell.sendline("q")
        shell.expect(pexpect.EOF)
    finally:
        shell.close(force=True)


def test_a_finished_run_is_promoted_even_if_a_thread_keeps_its_process_alive(project: Project) -> None:
    """The prefetching thread of a data loader can do that."""
    project.recipe(base=RECIPE.replace("tasks:Teacher", "lingers:Lingers"))
    (project.path / "lingers.py").write_text(
        "import threading, time, tasks\n"
        "class Lingers(tasks.Teacher):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        threading.Thread(target=time.sleep, args=(600,)).start()\n"
    )
    project.run("--smoke").assert_outcomes(passed=1)


def test_no_early_stop_trains_to_the_last_step_with_the_same_verdict(project: Project) -> None:
    project.recipe(extra="args: {momentum: 0.99}\n", base=RECIPE.replace("3.0e-3", "5.0"))
    project.run("--smoke", "--smoke-report", "early").assert_outcomes(failed=1)
    project.run("--smoke", "--smoke-no-early-stop", "--smoke-report", "late").assert_outcomes(failed=1)
    (early,), (late,) = project.verdicts("early"), project.verdicts("late")
    assert early["verdict"] == late["verdict"] == "unstable"
    assert (early["reason"], early["step"], early["text"]) == (late["reason"], late["step"], late["text"])
    assert early["facts"]["steps"] < late["facts"]["steps"] == 400


def test_a_recipe_whose_requires_are_not_met_is_skipped_and_fails_with_strict(project: Project) -> None:
    """The skip reason lists the devices that torch sees."""
    project.recipe(extra="requires: {device: cuda, memory_gib: 5000}\n")
    lacking = ("--smoke-device", "auto", "--smoke")
    result = project.run(*lacking, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*needs 1 cuda device with 5000 GiB; torch sees: *"])
    strict = project.run(*lacking, "--smoke-strict", "--smoke-report", "out")
    strict.assert_outcomes(failed=1)
    strict.stdout.fnmatch_lines(["inconclusive (unmet-requirements): needs 1 cuda device with 5000 GiB; torch sees: *"])
    (outcome,) = project.verdicts()
    assert (outcome["verdict"], outcome["reason"]) == ("inconclusive", "unmet-requirements")
    project.run("--smoke", "-rs").stdout.fnmatch_lines(["SKIPPED*needs cuda, but --smoke-device is cpu*"])


def test_a_test_marked_gpu_is_skipped_without_the_gpus_and_fails_with_strict(project: Project) -> None:
    """The marker works without --smoke, and rejects arguments other than count and memory_gib."""
    project.pytester.makepyfile(
        test_gpu="import pytest\n@pytest.mark.gpu(count=99, memory_gib=1)\ndef test_it():\n    pass\n"
    )
    result = project.run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*needs 99 cuda devices with 1 GiB; torch sees: *"])
    project.run("--smoke-strict").assert_outcomes(errors=1)
    project.pytester.makepyfile(test_gpu="import pytest\n@pytest.mark.gpu(memory=1)\ndef test_it():\n    pass\n")
    project.run().stdout.fnmatch_lines(["*marker gpu got *memory*it takes count and memory_gib*"])


def test_an_installed_pytest_smoke_is_a_usage_error_that_says_what_to_uninstall(project: Project) -> None:
    """PyPI's pytest-smoke has the same import package and the same option; its metadata is enough to detect it."""
    site = project.path / "site"
    info = site / "pytest_smoke-0.11.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-smoke\nVersion: 0.11.0\n")
    (info / "entry_points.txt").write_text("[pytest11]\nsmoke = pytest_smoke.plugin\n")
    environment = {**os.environ, "PYTHONPATH": str(site)}
    run = subprocess.run(
        [sys.executable, "-m", "pytest"], cwd=project.path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in run.stderr.splitlines() if line]
    assert line == (
        "ERROR: pytest-smoke 0.11.0 and pytest-verdict-smoke are both installed. They are different projects that "
        "share the import package pytest_smoke and the option --smoke: uninstall both, then install the one you need"
    )


def test_a_report_folder_that_pytest_takes_for_a_test_is_an_error(project: Project, tmp_path: Path) -> None:
    """Without a test on the command line, the folder would be the rootdir, and no ini file would count."""
    project.recipe()
    result = project.run("--smoke-preflight", "--smoke-report", str(tmp_path))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"*instead of {project.path}: write --smoke-report={tmp_path}")
    for arguments in ((f"--smoke-report={tmp_path}",), ("good.smoke.yaml", "--smoke-report", str(tmp_path))):
        project.run("--smoke-preflight", *arguments)
        assert [outcome["id"] for outcome in project.verdicts(str(tmp_path))] == ["good.smoke.yaml::constant"]
