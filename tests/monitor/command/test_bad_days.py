"""What can go wrong with a command, each with a real process: the verdict, the reason and the sentence."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.monitor.smoke import RunOptions, run_smoke
from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe

TRAINER = str(Path(__file__).with_name("train.py"))
FLAGS = {
    "--lr": "{learning_rate}",
    "--max-steps": "{max_steps}",
    "--schedule": "{lr_schedule}",
    "--warmup": "{warmup_steps}",
    "--clip": "{grad_clip_norm}",
    "--batch-size": "{batch_size}",
}
STEPS = 240


def case(*more: str, mode: str = "constant", flags: dict[str, str] | None = None, **keys: Any) -> Case:
    """Return a case that runs the trainer with the recipe's settings and `more` arguments."""
    words = [word for pair in (FLAGS | (flags or {})).items() for word in pair]
    full = {
        "batch_size": 16,
        "learning_rate": 0.02,
        "max_steps": 5000,
        "warmup_steps": 10,
        "grad_clip_norm": 5.0,
        **keys.pop("full", {}),
    }
    smoke = {"max_steps": STEPS, **keys.pop("smoke", {})}
    data = {"command": [sys.executable, TRAINER, *words, *more], "full": full, "smoke": smoke, **keys}
    return Case(path="a.smoke.yaml", recipe=Recipe.model_validate(data), mode=mode)  # type: ignore[arg-type]  # a Mode


def outcome_of(one: Case, root: Path, *, timeout: float | None = 60, report: Path | None = None) -> Outcome:
    options = RunOptions(root=str(root), timeout_seconds=timeout, report_folder=report)
    return run_smoke(one, options, item_id="a.smoke.yaml::constant").outcome


def finding(outcome: Outcome, check: str) -> Finding:
    found = outcome.finding(check)
    assert found is not None, check
    return found


def script(root: Path, text: str) -> dict[str, Any]:
    """Return the keys of a recipe whose command is a Python script with this text."""
    (root / "own.py").write_text(text)
    full = {"batch_size": 4, "learning_rate": 0.1, "max_steps": 5000}
    return {"command": [sys.executable, "own.py"], "full": full, "smoke": {"max_steps": 50}}


def own(root: Path, text: str, **keys: Any) -> Case:
    recipe = Recipe.model_validate(script(root, text) | keys)
    return Case(path="a.smoke.yaml", recipe=recipe, mode="constant")


# a good day


def test_a_healthy_command_is_promoted_with_its_evidence(tmp_path: Path) -> None:
    report = tmp_path / "report"
    outcome = outcome_of(case(), tmp_path, report=report)
    assert (outcome.verdict, outcome.facts.steps) == ("promote", STEPS), outcome.text
    assert finding(outcome, "lr-applied").text == "the log has the scheduled learning rate at all 240 logged steps"
    assert finding(outcome, "updates").text == "not checked: the log of a command does not show the model"
    assert outcome.facts.command[:4] == (sys.executable, TRAINER, "--lr", "0.02")
    assert outcome.facts.log is not None
    assert "step 240: loss" in (report / outcome.facts.log).read_text()
    assert outcome.facts.trace is not None
    rows = (report / outcome.facts.trace).read_text().splitlines()
    assert rows[0] == "step,loss,lr,grad_norm,probe_loss"
    assert [row.partition(",")[0] for row in rows[1:3]] == ["1", "2"]


def test_a_log_of_every_fifth_step_is_planned_with_a_fifth_of_the_points(tmp_path: Path) -> None:
    outcome = outcome_of(case("--log-every", "5", smoke={"max_steps": 1200}), tmp_path)
    assert (outcome.verdict, outcome.facts.steps) == ("promote", 1200), outcome.text
    assert finding(outcome, "finite").text.startswith("the logged losses and gradient norms were finite in all 240")
    assert outcome.facts.evidence_steps == pytest.approx(1190, abs=5)


def test_a_wiring_run_makes_its_few_steps_and_is_stopped(tmp_path: Path) -> None:
    outcome = outcome_of(case("--sleep", "0.05", mode="wiring"), tmp_path)
    assert outcome.completed == "wiring", outcome.text
    assert outcome.facts.steps == 10
    assert finding(outcome, "overfit").status == "not-checked"
    assert finding(outcome, "updates").key == "command"
    assert "the command would have trained on and was stopped" in finding(outcome, "run").text


def test_other_columns_are_metrics_and_a_named_one_is_the_loss_on_fixed_samples(tmp_path: Path) -> None:
    form = "step {{step}}: loss {{loss:.5f}}, lr {{lr:.3e}}, val loss {{norm:.4f}}, fixed {{norm:.3f}}"
    watched = case(
        "--format", form, checks={"accept": ["val_loss < 100", "probe_loss < 100"]}, log={"probe_loss": "fixed"}
    )
    outcome = outcome_of(watched, tmp_path)
    assert finding(outcome, "accept[val_loss < 100]").status == "pass"
    assert finding(outcome, "accept[probe_loss < 100]").status == "pass"
    assert len(outcome.metrics["val_loss"]) == STEPS


def test_columns_that_are_no_evaluation_get_no_advice_unless_the_recipe_declares_them(tmp_path: Path) -> None:
    form = "step {{step}}: loss {{loss:.5f}}, lr {{lr:.3e}}, speed {{norm:.4f}}"
    for keys in ({}, {"metrics": {"speed": {"better": "higher"}}}):
        outcome = outcome_of(case("--format", form, checks={"accept": ["speed >= 0"]}, **keys), tmp_path)
        assert (outcome.verdict, len(outcome.metrics["speed"])) == ("promote", STEPS), outcome.text
        advised = [one for one in outcome.findings if one.check == "peak-regression"]
        assert bool(advised) == bool(keys), advised


def test_a_command_ends_with_a_killed_pytest_process(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import os, time\nopen('id', 'w').write(str(os.getpid()))\nprint('step 1: loss 2', flush=True)\n"
        "time.sleep(600)\n"
    )
    (tmp_path / "a.smoke.yaml").write_text(
        "command: ['{python}', own.py]\nfull: {batch_size: 4, learning_rate: 0.1, max_steps: 5000}\n"
        "smoke: {max_steps: 50}\n"
    )
    (tmp_path / "pytest.ini").touch()
    session = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--smoke", "a.smoke.yaml", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: (tmp_path / "id").exists() and (tmp_path / "id").read_text() != "")
    session.kill()
    session.wait()
    pid = int((tmp_path / "id").read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition. Fails after 30 s."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# a loss that goes wrong


def test_a_nan_is_unstable_at_its_step(tmp_path: Path) -> None:
    outcome = outcome_of(case("--nan-at", "99"), tmp_path)
    assert (outcome.verdict, outcome.reason, outcome.step) == ("unstable", "non-finite", 100)


def test_a_divergence_stops_a_command_that_ignores_sigterm_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_smoke.monitor.command.process.TERM_SECONDS", 0.3)
    ids = tmp_path / "ids"
    doomed = case(
        "--blow-up-at", "100", "--sleep", "0.004", "--ignore-term", "--spawn", str(ids), smoke={"max_steps": 20_000}
    )
    began = time.monotonic()
    outcome = outcome_of(doomed, tmp_path)
    assert outcome.verdict == "unstable", outcome.text
    assert outcome.step is not None
    assert 100 < outcome.step < 1000
    assert finding(outcome, "run").status == "pass"
    assert time.monotonic() - began < 20
    assert [pid for pid in map(int, ids.read_text().split()) if Path(f"/proc/{pid}").exists()] == []


# a schedule or a batch that is not the recipe's


@pytest.mark.parametrize(
    ("flags", "used"),
    [
        ({"--schedule": "cosine"}, "a decaying rate"),
        ({"--lr": "0.01"}, "another peak"),
        ({"--warmup": "200"}, "another warmup"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_learning_rate_that_is_not_the_scheduled_one_is_invalid(
    tmp_path: Path, flags: dict[str, str], used: str
) -> None:
    outcome = outcome_of(case(flags=flags), tmp_path)
    assert (outcome.verdict, outcome.decided_by) == ("invalid", "lr-applied"), f"{used}: {outcome.text}"
    assert outcome.facts.steps == outcome.step  # counted from 1 in the log


def test_without_a_learning_rate_in_the_log_only_a_recipe_that_accepts_it_is_promoted(tmp_path: Path) -> None:
    form = ("--format", "step {{step}}: loss {{loss:.5f}}")
    outcome = outcome_of(case(*form), tmp_path)
    assert (outcome.verdict, outcome.reason, outcome.decided_by) == ("inconclusive", "unverified", "schedule")
    assert outcome.text == (
        "not checked: the log has no learning rate, so nothing shows that the schedule of the mode was used"
    )
    assert "checks: {accept_unverified: [schedule]}" in finding(outcome, "schedule").hint
    accepted = outcome_of(case(*form, checks={"accept_unverified": ["schedule"]}), tmp_path)
    assert accepted.verdict == "promote", accepted.text
    assert finding(accepted, "schedule").status == "warn"
    assert "checks.accept_unverified accepts it" in finding(accepted, "schedule").text


def test_a_batch_in_the_log_that_is_not_the_declared_one_is_invalid(tmp_path: Path) -> None:
    line = "global_batch_size ......... 32"
    outcome = outcome_of(case("--format", line + "\nstep {{step}} loss {{loss:.5f}} lr {{lr:.3e}}"), tmp_path)
    assert (outcome.verdict, outcome.decided_by) == ("invalid", "batch-drawn"), outcome.text
    assert outcome.text.startswith(f"the log says {line!r}, the recipe declares 16 (16 x 1 x 1)")


def test_a_batch_size_in_every_line_that_is_not_the_declared_one_is_invalid(tmp_path: Path) -> None:
    form = "step {{step}} loss {{loss:.5f}} lr {{lr:.3e}} batch size 32"
    outcome = outcome_of(case("--format", form), tmp_path)
    assert (outcome.verdict, outcome.reason) == ("invalid", "more-samples"), outcome.text
    assert outcome.text.startswith("the log says 'batch size 32', the recipe declares 16 (16 x 1 x 1)")


def test_too_few_points_for_the_steps_are_answered_by_a_hint_to_log_more_often(tmp_path: Path) -> None:
    outcome = outcome_of(case("--log-every", "10"), tmp_path)
    assert (outcome.verdict, outcome.reason) == ("inconclusive", "too-short"), outcome.text
    hint = finding(outcome, "loss-trend").hint
    assert hint == "log the loss of every step, not of every 10 steps; or set smoke.max_steps to 320 or more"


def test_a_setting_that_no_placeholder_passes_on_is_named(tmp_path: Path) -> None:
    outcome = outcome_of(case(full={"precision": "bf16"}, args={"width": 3}), tmp_path)
    warned = finding(outcome, "settings")
    assert (warned.status, warned.reason) == ("warn", "not-passed-on")
    assert warned.text.startswith("the command does not get precision and args.width: ")


# a command that does not run


def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    outcome = outcome_of(own(tmp_path, "", command=["no-such-trainer"]), tmp_path)
    assert (outcome.verdict, outcome.reason) == ("error", "command-not-started")
    assert "no-such-trainer: No such file or directory" in outcome.text


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    outcome = outcome_of(own(tmp_path, "", cwd="nowhere"), tmp_path)
    assert (outcome.verdict, outcome.reason) == ("error", "command-not-started")
    assert "there is no folder nowhere" in outcome.text


def test_a_traceback_at_import_is_shown_with_its_line(tmp_path: Path) -> None:
    outcome = outcome_of(own(tmp_path, "import os\nimport no_such_library\n"), tmp_path)
    assert (outcome.verdict, outcome.reason) == ("error", "exception")
    assert outcome.text.startswith(
        "the command ended with exit status 1: ModuleNotFoundError: No module named 'no_such_library' at own.py:2"
    )
    assert outcome.output.splitlines()[0] == "Traceback (most recent call last):"


def test_a_command_that_exits_early_is_not_promoted(tmp_path: Path) -> None:
    outcome = outcome_of(case("--stop-at", "200"), tmp_path)
    assert (outcome.verdict, outcome.reason) == ("error", "ended-early")
    assert outcome.text == (
        "the command ended with exit status 0, but its log ends at step 200: the smoke run has 240 steps"
    )


def test_a_flag_that_the_command_does_not_know_is_in_the_verdict(tmp_path: Path) -> None:
    outcome = outcome_of(case("--no-such-flag"), tmp_path)
    assert outcome.reason == "crash"
    assert "exit status 2: train.py: error: unrecognized arguments: --no-such-flag (before" in outcome.text


@pytest.mark.parametrize("then", ["", "import time; time.sleep(600)"])
def test_a_log_that_starts_after_the_run_is_an_error(tmp_path: Path, then: str) -> None:
    text = f"for i in range(500, 550): print(f'step {{i}}: loss {{9 / i}}', flush=True)\n{then}\n"
    outcome = outcome_of(own(tmp_path, text), tmp_path)
    assert (outcome.verdict, outcome.reason) == ("error", "steps-out-of-order"), outcome.text
    assert outcome.text == "the log starts at step 500, after the 50 steps of the smoke run"


def test_a_log_that_stops_growing_ends_the_run(tmp_path: Path) -> None:
    text = "import time\nfor i in range(9): print(f'step {i}: loss {1 / (i + 1)}', flush=True)\ntime.sleep(600)\n"
    outcome = outcome_of(own(tmp_path, text), tmp_path, timeout=1.0)
    assert (outcome.verdict, outcome.reason) == ("error", "hang")


# a log that is not there


def test_output_without_a_loss(tmp_path: Path) -> None:
    outcome = outcome_of(own(tmp_path, "for step in range(50): print('step', step, 'done')\n"), tmp_path)
    assert (outcome.verdict, outcome.reason) == ("error", "no-loss")
    assert outcome.text.endswith("but what it prints has no loss of any step: its numbers are 'step'")


def test_a_column_that_the_log_does_not_have_is_named_with_those_that_it_has(tmp_path: Path) -> None:
    text = "for step in range(50): print(f'step {step}: loss {1 / (step + 1)}')\n"
    outcome = outcome_of(own(tmp_path, text, log={"loss": "totl"}), tmp_path)
    assert (outcome.verdict, outcome.reason) == ("error", "no-loss")
    assert outcome.text.endswith("cannot be judged: log.loss 'totl': no such column; columns: 'step' and 'loss'")


def test_a_log_that_is_a_folder_or_has_several_runs_says_so(tmp_path: Path) -> None:
    text = (
        "for i in range(9):\n"
        "    for s in (1, 2): print(f'seed {s} step {i}: loss {i + s}', file=open('b.log', 'a'), flush=True)\n"
    )
    outcome = outcome_of(own(tmp_path, text, log="."), tmp_path)
    assert outcome.text.endswith("its log . cannot be judged: this is a folder; name a text file in it")
    assert finding(outcome, "run").hint == "it wrote b.log: set log to that file"
    assert finding(outcome, "schedule").hint == ""  # there is no log to add a learning rate to
    (tmp_path / "b.log").unlink()
    outcome = outcome_of(own(tmp_path, text, log="b.log"), tmp_path)
    assert "its log b.log cannot be judged: the log holds 2 runs (seed 1 and seed 2): split it" in outcome.text


@pytest.mark.parametrize("name", ["train.log", "other.jsonl"])
def test_a_log_in_another_folder_is_suggested(tmp_path: Path, name: str) -> None:
    text = f"import os\nos.makedirs('runs/7')\nopen('runs/7/{name}', 'w').write('step 1: loss 2.0\\n')\n"
    outcome = outcome_of(own(tmp_path, text, log="out/train.log"), tmp_path)
    assert (outcome.verdict, outcome.reason) == ("error", "no-log")
    assert "its log out/train.log did not exist" in outcome.text
    assert finding(outcome, "run").hint == f"it wrote runs/7/{name}: set log to that file"


def test_a_log_that_never_appears_ends_the_run(tmp_path: Path) -> None:
    outcome = outcome_of(own(tmp_path, "import time\ntime.sleep(600)\n", log="train.log"), tmp_path, timeout=0.5)
    assert (outcome.verdict, outcome.reason) == ("error", "no-log")
    assert "while the command still ran, its log train.log did not exist" in outcome.text


def test_what_a_log_file_held_before_is_not_judged(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("".join(f"step {step}: loss {step}.0, lr 1.0\n" for step in range(1, 241)))
    outcome = outcome_of(own(tmp_path, "", log="train.log"), tmp_path)
    assert (outcome.verdict, outcome.reason) == ("error", "no-log")
    assert "was not written to" in outcome.text
    for expected in (480, 240):
        outcome = outcome_of(case("--log", str(log), log=str(log)), tmp_path)
        assert outcome.verdict == "promote", outcome.text
        assert len(log.read_text().splitlines()) == expected
        log.unlink()


def test_tens_of_megabytes_of_output_are_read_in_time(tmp_path: Path) -> None:
    began = time.monotonic()
    outcome = outcome_of(case("--noise-mib", "30"), tmp_path)
    assert outcome.verdict == "promote", outcome.text
    assert time.monotonic() - began < 30


def test_the_environment_and_the_folder_are_those_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "own.py").write_text(
        "import os\nfor i in range(50): print(f\"step {i}: loss 1.{os.environ['RATE']} lr 0.1\")\nprint(os.getcwd())\n"
    )
    recipe = Recipe.model_validate(
        script(tmp_path, "")
        | {"cwd": "inner", "env": {"RATE": "{batch_size}"}, "spelling": {"batch_size": {"4": "77"}}}
    )
    outcome = outcome_of(
        Case(path="a.smoke.yaml", recipe=recipe, mode="constant"), tmp_path, report=tmp_path / "report"
    )
    assert outcome.facts.loss_last == pytest.approx(1.77)
    assert outcome.facts.log is not None
    assert (tmp_path / "report" / outcome.facts.log).read_text().splitlines()[-1] == os.path.realpath(
        tmp_path / "inner"
    )
