"""One smoke run with two processes on a CPU: the same training as with one, and a failure names the rank."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import (
    Abort,
    BatchSizes,
    Command,
    Continue,
    Crashed,
    DrawnSamples,
    EndAfterStage,
    Finish,
    Gradients,
    LearningRateDiffers,
    LossDiagnosis,
)
from pytest_smoke.monitor.child import run_in_child
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.monitor.smoke import RunOptions, run_smoke
from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.train.endings import place_in_stack
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.processes import Ending, described, first_failure, hang_of
from pytest_smoke.train.ranks import Together, decoded, encoded

ROOT = Path(__file__).parents[2]
STEPS = 40
ROUNDING = 2.0**-24
"""Largest relative error of rounding to fp32."""


def case(processes: int, *, full: dict[str, Any] | None = None, **args: Any) -> Case:
    settings = {"batch_size": 8, "grad_accum_steps": 2, "world_size": 2, "learning_rate": 0.01, "max_steps": 1000}
    data = {
        "task": "tests.train.launched_task:Regression",
        "args": args,
        "full": {**settings, "grad_clip_norm": 1.0, **(full or {})},
        "smoke": {"max_steps": STEPS},
        "launch": {"nproc_per_node": processes},
    }
    return Case(path="a.smoke.yaml", recipe=Recipe.model_validate(data), mode="constant")


def trained(one: Case) -> RunMonitor:
    monitor = RunMonitor(one, early_stop=True)
    plan = RunPlan.of(one, root=str(ROOT), device="cpu")
    result = run_in_child(plan, monitor, 60.0, None)
    assert result.finding.status == "pass", (result.finding.text, result.output)
    return monitor


def outcome_of(one: Case, *, timeout: float = 60.0) -> Outcome:
    options = RunOptions(root=str(ROOT), device="cpu", timeout_seconds=timeout)
    return run_smoke(one, options, item_id="a.smoke.yaml::constant").outcome


@pytest.fixture(scope="module")
def alone() -> RunMonitor:
    return trained(case(1))


def assert_same_training(alone: RunMonitor, together: RunMonitor) -> None:
    """Compare all figures of two runs.

    The task trains in fp64, where sums in another order differ by about 1e-16 of their size; Adam and 40 steps make
    1e-12 of it at most. What is reported was rounded to fp32: once by one process, and once by each of two, whose parts
    are of one sign and are added up exactly enough in fp64.
    """
    assert len(alone.trace.steps) == len(together.trace.steps) == STEPS
    for one, two in zip(alone.trace.steps, together.trace.steps, strict=True):
        assert two.terms == pytest.approx(one.terms, rel=2 * ROUNDING + 1e-12)
        assert two.loss == pytest.approx(one.loss, rel=2 * ROUNDING + 1e-12)
        assert two.grad_norm == pytest.approx(one.grad_norm, rel=2 * ROUNDING + 1e-12)
        assert two.lr == one.lr
    assert together.trace.probe_loss == pytest.approx(alone.trace.probe_loss, rel=2 * ROUNDING + 1e-12)


def test_two_processes_train_as_one_with_uneven_counts_accumulation_and_gradient_probes(alone: RunMonitor) -> None:
    together = trained(case(2))
    assert_same_training(alone, together)
    assert together.events(DrawnSamples) == alone.events(DrawnSamples)
    assert together.events(BatchSizes) == alone.events(BatchSizes)
    probes, expected = together.events(Gradients), alone.events(Gradients)
    assert len(probes) == len(expected) > 1
    for probe, other in zip(probes, expected, strict=True):
        # An inner product in fp32 over 49 parameters.
        assert probe.raw == pytest.approx(other.raw, rel=49 * 2 * ROUNDING)


def test_ranks_with_the_same_samples_are_invalid() -> None:
    outcome = outcome_of(case(2, same_samples=True))
    assert (outcome.verdict, outcome.reason) == ("invalid", "same-samples")
    assert outcome.text.startswith("ranks 0 and 1 draw the same samples")


def test_another_learning_rate_on_one_rank_is_invalid_and_names_it() -> None:
    outcome = outcome_of(case(2, fault="self.made.param_groups[0]['lr'] *= 1.5"))
    assert (outcome.verdict, outcome.reason) == ("invalid", "other-learning-rate")
    assert outcome.text.startswith("the optimizer of rank 1 used the learning rate 0.015 at step ")


@pytest.mark.parametrize(
    ("fault", "reason", "text"),
    [
        ("raise ValueError('no such label')", "exception", "rank 1 of 2: ValueError: no such label"),
        ("os.kill(os.getpid(), 9)", "crash", "rank 1 of 2 was killed by SIGKILL, as the kernel does when memory runs"),
        ("os._exit(0)", "crash", "rank 1 of 2 ended with exit status 0 before the run was over"),
    ],
)
def test_rank_that_dies_is_named(fault: str, reason: str, text: str) -> None:
    outcome = outcome_of(case(2, fault=fault))
    assert (outcome.verdict, outcome.reason) == ("error", reason)
    assert outcome.text.startswith(text)


def test_rank_that_hangs_is_named_with_its_place_and_stack() -> None:
    outcome = outcome_of(case(2, fault="time.sleep(600)"), timeout=2.0)
    assert (outcome.verdict, outcome.reason) == ("error", "hang")
    assert "rank 0 waited for rank 1 of 2, which hangs at tests/train/launched_task.py:" in outcome.text
    assert "rank 1:\nFatal Python error: Aborted" in outcome.output


def test_unstable_loss_stops_all_ranks_early(alone: RunMonitor) -> None:
    outcome = outcome_of(
        case(
            2,
            fault="self.losses = lambda model, batch: {'mse': model(batch['x']).sum() * 1e200 * "
            "1e200, 'l1': model(batch['x']).sum()}",
        )
    )
    assert (outcome.verdict, outcome.reason) == ("unstable", "non-finite")


def test_sharded_model_is_refused_and_its_parameter_named() -> None:
    outcome = outcome_of(case(2, sharded=True))
    assert (outcome.verdict, outcome.reason) == ("error", "invalid-task")
    assert ": the parameter 0.weight is sharded, and launch trains with DistributedDataParallel" in outcome.text
    assert "leave out fully_shard, or start the sharded training with torchrun as a command" in outcome.text


def test_launch_in_the_pytest_process_is_refused() -> None:
    options = RunOptions(root=str(ROOT), device="cpu", isolation="none")
    outcome = run_smoke(case(2), options, item_id="a.smoke.yaml::constant").outcome
    assert (outcome.verdict, outcome.reason) == ("error", "needs-processes")


def test_outcome_says_how_many_processes_trained_and_what_they_cannot_show() -> None:
    options = RunOptions(root=str(ROOT), device="cpu", preflight_only=True)
    outcome = run_smoke(case(2, full={"world_size": 8}), options, item_id="a.smoke.yaml::constant").outcome
    assert outcome.facts.launched_world_size == 2
    (text,) = outcome.facts.not_shown
    assert text.startswith("the full run's 8 data-parallel devices were folded onto 2: communication between more than")
    assert Outcome.from_dict(outcome.to_dict()) == outcome


# Pure functions


@pytest.mark.parametrize("command", [None, Continue(), Finish(), EndAfterStage(), Abort(None), Abort(0), Abort(41)])
def test_every_command_reaches_all_ranks(command: Command | None) -> None:
    assert decoded(*encoded(command)) == command


CRASH = Crashed("exception", "ValueError: no", "a.py:3", "")
LOST = Ending(0, replace(CRASH, text="RuntimeError: Connection closed by peer"), is_lost_connection=True)


@pytest.mark.parametrize(
    ("endings", "rank"),
    [
        ([Ending(1, CRASH), Ending(0)], 1),
        ([LOST, Ending(1)], 1),
        ([Ending(1), LOST, Ending(2)], 1),
        ([LOST], 0),
    ],
)
def test_rank_that_failed_first_is_to_blame_and_not_those_that_lost_it(endings: list[Ending], rank: int) -> None:
    found = first_failure(endings)
    assert found is not None
    assert found.rank == rank


def test_run_without_failures_has_nobody_to_blame() -> None:
    assert first_failure([]) is None


def test_described_crash_keeps_the_cause_and_names_the_rank() -> None:
    cause = replace(CRASH, cause="the label 7 is out of range")
    assert described(Ending(3, cause), 4, 1, "").cause == "rank 3 of 4: the label 7 is out of range"
    assert described(Ending(3), 4, -11, "a.py:3") == Crashed("crash", "rank 3 of 4 was killed by SIGSEGV", "a.py:3", "")


@given(st.lists(st.integers(0, 3), min_size=2, max_size=6))
def test_rank_that_entered_least_often_hangs(counters: list[int]) -> None:
    crash = hang_of(counters, [f"a.py:{rank}" for rank in range(len(counters))])
    behind = counters.index(min(counters))
    assert crash.place == f"a.py:{behind}"
    assert ("which hang" in crash.text) == (len(set(counters)) > 1)


def test_place_is_the_innermost_frame_of_the_user(tmp_path: Path) -> None:
    library = '  File "/usr/lib/python3/site-packages/torch/x.py", line 3 in f'
    stack = f'Stack (most recent call first):\n{library}\n  File "{tmp_path}/a.py", line 7 in g\n'
    assert place_in_stack(stack, str(tmp_path)) == "a.py:7"


def sizes(samples: int) -> BatchSizes:
    return BatchSizes(step=9, first_step=2, declared=16, samples=samples, micro_batch=8, steps=10, steps_off=0)


def test_ranks_that_agree_are_reported_as_one_and_others_by_themselves() -> None:
    rate = LearningRateDiffers(step=3, group=0, scheduled=0.1, used=0.2, groups=1, planned_groups=1)
    assert Together(2).add([[rate], [rate]]) == [rate]
    assert Together(2).add([[], [rate]]) == [replace(rate, rank=1)]
    assert Together(2).add([[rate], [replace(rate, used=0.3)]]) == [
        replace(rate, rank=0),
        replace(rate, rank=1, used=0.3),
    ]
    assert Together(2).add([[sizes(16)], [sizes(16)]]) == [replace(sizes(16), declared=32, samples=32)]
    together = Together(2)
    assert together.add([[], [sizes(12)]]) == [replace(sizes(12), rank=1)]
    assert together.add([[sizes(16)], []]) == []


def test_samples_wait_for_all_ranks_and_follow_each_other_in_turn() -> None:
    together = Together(2)
    assert together.add([[DrawnSamples(step=0, micro_batches=(("a",), ("c",)))], []]) == []
    drawn = together.add([[], [DrawnSamples(step=0, micro_batches=(("b",), ("d",)))]])
    assert drawn == [DrawnSamples(step=0, micro_batches=(("a",), ("b",), ("c",), ("d",)))]


def test_diagnosis_of_the_rank_that_found_the_cause_counts_with_its_micro_batch() -> None:
    unknown = LossDiagnosis(step=1, weights_step=0, micro_batches=2, kind="not-reproduced")
    found = replace(unknown, kind="input", micro_batch=1, name="x")
    assert Together(2).add([[unknown], [found]]) == [replace(found, micro_batch=3, micro_batches=4)]
