"""Each option by itself, as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys

import pexpect
import pytest

from tests.plugin.conftest import RECIPE, Project


@pytest.mark.parametrize(
    ("option", "value", "fragment"),
    [
        ("--smoke-mode", "cosine", "invalid choice: 'cosine'"),
        ("--smoke-device", "gpu", "'gpu': must be auto, cpu, mps, cuda or cuda:N"),
        ("--smoke-timeout", "-1", "'-1': must be seconds, 0 or more"),
        ("--smoke-isolation", "thread", "invalid choice: 'thread'"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(project: Project, option: str, value: str, fragment: str) -> None:
    """With the accepted form, as a usage error."""
    result = project.run("--smoke", f"{option}={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert fragment in result.stderr.str()


def test_preflight_checks_every_recipe_and_runs_none(project: Project) -> None:
    """Unfair ones fail, fair ones are no verdict, no torch is imported and the task is never touched."""
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
            "invalid (effective-batch): effective batch 64 (64 x 1 x 1) is not the full run's 1024 (64 x 16 x 1): the "
            "smoke's gradient noise is 4.0x larger, so it cannot see what the full run will",
            "*1 failed, 2 preflight ok*",
            "NO TORCH",
        ]
    )
    verdicts = {outcome["recipe"]: (outcome["verdict"], outcome["reason"]) for outcome in project.verdicts()}
    assert verdicts == {
        "good.smoke.yaml": ("inconclusive", "preflight"),
        "never.smoke.yaml": ("inconclusive", "preflight"),
        "unfair.smoke.yaml": ("invalid", "effective-batch"),
    }


def test_a_session_of_fair_recipes_passes_preflight(project: Project) -> None:
    """What continuous integration without a GPU looks at is the exit status."""
    project.recipe()
    assert project.run("--smoke-preflight").ret == 0


def test_the_mode_of_the_command_line_overrides_the_recipes(project: Project) -> None:
    """Wiring runs ten steps and is never a verdict; long-tail under 10,000 steps warns, and its evidence decides."""
    project.recipe(extra="  mode: constant\n")
    wiring = project.run("--smoke", "--smoke-mode", "wiring", "-v", "--smoke-report", "out")
    assert wiring.ret == 0
    wiring.stdout.fnmatch_lines(["good.smoke.yaml::wiring WIRING OK*", "*1 wiring ok*"])
    (outcome,) = project.verdicts()
    assert (outcome["verdict"], outcome["reason"], outcome["facts"]["steps"]) == ("inconclusive", "wiring", 10)
    tail = project.run("--smoke", "--smoke-mode", "long-tail")
    tail.stdout.fnmatch_lines(["invalid (evidence): * of 400 steps are at 80 % or more*mode long-tail needs 2500"])


def test_a_wiring_run_that_crashes_fails(project: Project) -> None:
    """That is what it is for."""
    project.recipe(base=RECIPE.replace("tasks:Teacher", "tasks:Breaks"), extra="args: {how: raise, at_batch: 4}\n")
    result = project.run("--smoke", "--smoke-mode", "wiring")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["error (exception): RuntimeError: the labels file is empty at tasks.py:*"])


def test_a_hanging_smoke_is_killed_and_the_session_goes_on(project: Project) -> None:
    """The verdict names the timeout and the last step, and the next smoke runs."""
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
            "error (hang): the run said nothing for 4 s (--smoke-timeout) and was killed (after step *",
            "*about to hang",
            "*tasks.py*in losses*",
        ]
    )


def test_isolation_none_runs_in_pytests_own_process(project: Project) -> None:
    """The same verdict, and torch in the process that asked for it."""
    project.recipe()
    project.pytester.makeconftest(
        "import sys\ndef pytest_unconfigure():\n    print('TORCH' if 'torch' in sys.modules else 'NONE')\n"
    )
    here = project.run("--smoke", "--smoke-isolation", "none", "--smoke-report", "here")
    here.stdout.fnmatch_lines(["TORCH"])
    apart = project.run("--smoke", "--smoke-report", "apart")
    apart.stdout.fnmatch_lines(["NONE"])
    (one,), (other,) = project.verdicts("here"), project.verdicts("apart")
    assert one["findings"] == other["findings"]
    assert one["curve"] == other["curve"]


def test_a_report_folder_that_cannot_be_made_is_refused_before_anything_runs(project: Project) -> None:
    """In one line."""
    project.recipe()
    result = project.run("--smoke", "--smoke-report", "good.smoke.yaml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --smoke-report good.smoke.yaml: no folder can be made there:*"])


def test_a_device_that_is_not_there_is_an_error_of_the_device(project: Project) -> None:
    """And not of the task."""
    project.recipe()
    result = project.run("--smoke", "--smoke-device", "cuda:77")
    result.stdout.fnmatch_lines(
        ["error (device): there is no device 'cuda:77': torch * sees * (before its first step)"]
    )


def test_pdb_stops_in_the_users_own_frame(project: Project) -> None:
    """--pdb implies isolation none, because a debugger cannot see into another process."""
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


def test_a_thread_that_never_ends_does_not_undo_a_run_that_did(project: Project) -> None:
    """A prefetcher keeps the process alive; every step ran, and the verdict stands."""
    project.recipe(base=RECIPE.replace("tasks:Teacher", "lingers:Lingers"))
    (project.path / "lingers.py").write_text(
        "import threading, time, tasks\n"
        "class Lingers(tasks.Teacher):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        threading.Thread(target=time.sleep, args=(600,)).start()\n"
    )
    project.run("--smoke").assert_outcomes(passed=1)


def test_no_early_stop_runs_a_doomed_smoke_to_its_end(project: Project) -> None:
    """The verdict is the same, at the same step, with the whole curve."""
    project.recipe(extra="args: {momentum: 0.99}\n", base=RECIPE.replace("3.0e-3", "5.0"))
    project.run("--smoke", "--smoke-report", "early").assert_outcomes(failed=1)
    project.run("--smoke", "--smoke-no-early-stop", "--smoke-report", "late").assert_outcomes(failed=1)
    (early,), (late,) = project.verdicts("early"), project.verdicts("late")
    assert early["verdict"] == late["verdict"] == "unstable"
    assert (early["reason"], early["step"], early["text"]) == (late["reason"], late["step"], late["text"])
    assert early["facts"]["steps"] < late["facts"]["steps"] == 400


def test_what_a_machine_lacks_skips_and_fails_under_strict(project: Project) -> None:
    """A recipe's `requires`, with what torch sees in the reason."""
    project.recipe(extra="requires: {device: cuda, memory_gib: 5000}\n")
    lacking = ("--smoke-device", "auto", "--smoke")
    result = project.run(*lacking, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*needs 1 cuda device with 5000 GiB; torch sees *"])
    strict = project.run(*lacking, "--smoke-strict", "--smoke-report", "out")
    strict.assert_outcomes(failed=1)
    strict.stdout.fnmatch_lines(["inconclusive (requires): needs 1 cuda device*"])
    (outcome,) = project.verdicts()
    assert (outcome["verdict"], outcome["reason"]) == ("inconclusive", "requires")
    project.run("--smoke", "-rs").stdout.fnmatch_lines(["SKIPPED*needs cuda, and --smoke-device is cpu*"])


def test_the_gpu_marker_skips_and_fails_under_strict(project: Project) -> None:
    """On any test, with or without --smoke; arguments it does not take are refused."""
    project.pytester.makepyfile(
        test_gpu="import pytest\n@pytest.mark.gpu(count=99, memory_gib=1)\ndef test_it():\n    pass\n"
    )
    result = project.run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*needs 99 cuda devices with 1 GiB; torch sees *"])
    project.run("--smoke-strict").assert_outcomes(errors=1)
    project.pytester.makepyfile(test_gpu="import pytest\n@pytest.mark.gpu(memory=1)\ndef test_it():\n    pass\n")
    project.run().stdout.fnmatch_lines(["*marker gpu got *memory*it takes count and memory_gib*"])


def test_a_live_line_shows_on_a_terminal_and_nowhere_else(project: Project) -> None:
    """Step, loss, learning rate and time left, wiped before the verdict."""
    project.recipe(base=RECIPE.replace("max_steps: 400", "max_steps: 3000"))
    command = f"{sys.executable} -m pytest --smoke --smoke-device cpu -p no:hypothesispytest"
    shell = pexpect.spawn(command, cwd=str(project.path), encoding="utf-8", timeout=60, dimensions=(24, 100))
    shell.expect(r"\r\x1b\[K  step \d+/3000  loss [\d.]+  lr 0.003  (\d+ min )?[\d.]+ s left")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 0
    assert "left" not in project.run("--smoke").stdout.str()


def test_the_namesake_is_refused_in_one_sentence(project: Project) -> None:
    """PyPI's pytest-smoke has the same import package and the same option; its metadata is enough to tell."""
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
    assert line.startswith("ERROR: pytest-smoke 0.11.0 is installed beside pytest-verdict-smoke: another project")
