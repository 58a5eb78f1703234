"""One smoke run with two processes on a CPU: the same training as with one, and a failure names the rank."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from pytest_smoke.events import (
    Abort,
    BatchDigest,
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
    SourceCounts,
    Window,
)
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.monitor.smoke import RunOptions, run_smoke
from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.report.terminal import not_shown
from pytest_smoke.train.endings import place_in_stack
from pytest_smoke.train.processes import (
    Ending,
    described,
    first_failure,
    hang_of,
    is_waiting,
    visible_devices,
    without_devices,
)
from pytest_smoke.train.ranks import Together, decoded, encoded

ROOT = Path(__file__).parents[2]
STEPS = 40
Alone = tuple[Outcome, RunMonitor, Path]
"""A run without `launch`: its outcome, its monitor and its report folder."""
ROUNDING = 2.0**-24
"""Largest relative error of rounding to fp32."""


def case(
    processes: int | None,
    *,
    full: dict[str, Any] | None = None,
    task: str = "Regression",
    resume: bool = False,
    **args: Any,
) -> Case:
    """Return a case with as many processes; None: without `launch`. `resume`: with the check of that name."""
    settings = {"batch_size": 8, "grad_accum_steps": 2, "world_size": 2, "learning_rate": 0.01, "max_steps": 1000}
    data = {
        "task": f"tests.train.launched_task:{task}",
        "args": args,
        "full": {**settings, "grad_clip_norm": 1.0, **(full or {})},
        "smoke": {"max_steps": STEPS},
        "checks": {"resume": resume},
        **({} if processes is None else {"launch": {"nproc_per_node": processes}}),
    }
    return Case(path="a.smoke.yaml", recipe=Recipe.model_validate(data), mode="constant")


class Seen:
    """Keeps the monitor of a run."""

    monitor: RunMonitor

    def phase(self, doing: str) -> None:
        pass

    def on_events(self, monitor: RunMonitor) -> None:
        self.monitor = monitor


def trained(one: Case, *, report: Path | None = None, device: str = "cpu") -> tuple[Outcome, RunMonitor]:
    seen = Seen()
    options = RunOptions(root=str(ROOT), device=device, timeout_seconds=60.0, report_folder=report)
    outcome = run_smoke(one, options, item_id="a.smoke.yaml::constant", watch=seen).outcome
    assert outcome.verdict == "promote", (outcome.text, outcome.output)
    return outcome, seen.monitor


def outcome_of(one: Case) -> Outcome:
    options = RunOptions(root=str(ROOT), device="cpu", timeout_seconds=60.0)
    return run_smoke(one, options, item_id="a.smoke.yaml::constant").outcome


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    report = tmp_path_factory.mktemp("alone")
    return *trained(case(None), report=report), report


def findings_of(outcome: Outcome) -> list[tuple[str, str, str]]:
    """Return the findings but for those about resuming."""
    about_resuming = ("resume", "resumed")
    return [(one.id, one.status, one.reason) for one in outcome.findings if one.id not in about_resuming]


def weights_in(report: Path) -> dict[str, Any]:
    (file,) = report.rglob("model.safetensors")
    return dict(load_file(file))


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


def assert_same_run(alone: Alone, outcome: Outcome, together: RunMonitor, report: Path) -> None:
    """Compare losses, findings, what was reported of the data and the weights, and the checkpoint."""
    (expected_outcome, expected, expected_report) = alone
    assert_same_training(expected, together)
    assert findings_of(outcome) == findings_of(expected_outcome)
    assert together.events(SourceCounts)
    for kind in (DrawnSamples, BatchSizes, SourceCounts, Window):
        assert together.events(kind) == expected.events(kind)
    probes, expected_probes = together.events(Gradients), expected.events(Gradients)
    assert len(probes) == len(expected_probes) > 1
    for probe, other in zip(probes, expected_probes, strict=True):
        # An inner product in fp32 over 49 parameters.
        assert probe.raw == pytest.approx(other.raw, rel=49 * 2 * ROUNDING)
    torch.testing.assert_close(weights_in(report), weights_in(expected_report), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_train_as_one_with_uneven_counts_accumulation_and_gradient_probes(
    alone: Alone, processes: int, tmp_path: Path
) -> None:
    outcome, together = trained(case(processes, resume=processes == 1), report=tmp_path)
    assert_same_run(alone, outcome, together, tmp_path)
    resumed = [(finding.status, finding.text) for finding in outcome.findings if finding.id == "resume"]
    text = "resumed at step 23 in a fresh process, 17 steps match the uninterrupted run bit for bit"
    assert resumed == ([("pass", text)] if processes == 1 else [])


def test_killed_rank_is_named_and_the_run_of_sharded_ranks_resumes_and_trains_as_one(
    alone: Alone, tmp_path: Path
) -> None:
    fault = f"(p := pathlib.Path({str(tmp_path / 'killed')!r})).exists() or (p.touch(), os.kill(os.getpid(), 9))"
    one, seen = case(2, task="Sharded", fault=fault), Seen()
    options = RunOptions(root=str(ROOT), device="cpu", timeout_seconds=60.0, report_folder=tmp_path, resume=True)
    killed = run_smoke(one, options, item_id="a.smoke.yaml::constant").outcome
    assert killed.text.startswith("rank 1 of 2 was killed by SIGKILL")
    outcome = run_smoke(one, options, item_id="a.smoke.yaml::constant", watch=seen).outcome
    assert (outcome.verdict, len(outcome.facts.resumed_at_steps)) == ("promote", 1), (outcome.text, outcome.output)
    assert_same_run(alone, outcome, seen.monitor, tmp_path)


@pytest.mark.parametrize("task", ["Regression", "Sharded"])
@pytest.mark.parametrize(
    "processes",
    [pytest.param(1, marks=pytest.mark.gpu(count=1)), pytest.param(2, marks=pytest.mark.gpu(count=2))],
)
def test_processes_on_gpus_train_as_one(processes: int, task: str, tmp_path: Path) -> None:
    """NCCL connects them. A GPU adds up in another order than a CPU, and atomically: losses agree to 1e-6."""
    expected_outcome, expected = trained(case(None), report=tmp_path / "alone", device="cuda:0")
    outcome, together = trained(case(processes, task=task), report=tmp_path / "together", device="cuda")
    assert outcome.facts.device == "cuda:0"
    assert findings_of(outcome) == findings_of(expected_outcome)
    assert len(together.trace.steps) == STEPS
    for one, two in zip(expected.trace.steps, together.trace.steps, strict=True):
        assert two.terms == pytest.approx(one.terms, rel=1e-6)
        assert two.grad_norm == pytest.approx(one.grad_norm, rel=1e-6)
    torch.testing.assert_close(weights_in(tmp_path / "together"), weights_in(tmp_path / "alone"), rtol=1e-6, atol=1e-8)


def test_devices_are_counted_in_a_copy_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the process itself, counting may start the driver, which its copies could not use any more."""
    asked_in: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: asked_in.append(os.getpid()) or 7)
    assert visible_devices() == 7
    assert not asked_in


def test_the_launcher_does_not_ask_for_devices_in_a_process_that_is_to_be_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.delenv("PYTORCH_NVML_BASED_CUDA_CHECK", raising=False)
    with without_devices():
        assert torch.cuda._parse_visible_devices() == []
        assert torch.cuda._nvml_based_avail()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ


def test_ranks_with_the_same_samples_are_invalid() -> None:
    outcome = outcome_of(case(2, same_samples=True))
    assert (outcome.verdict, outcome.reason) == ("invalid", "same-samples")
    assert outcome.text.startswith("data-parallel ranks 0 and 1 draw the same samples")


def test_launch_in_the_pytest_process_is_refused() -> None:
    options = RunOptions(root=str(ROOT), device="cpu", isolation="none")
    outcome = run_smoke(case(2), options, item_id="a.smoke.yaml::constant").outcome
    assert (outcome.verdict, outcome.reason) == ("error", "needs-processes")


@pytest.mark.parametrize(
    ("processes", "text"),
    [
        (
            None,
            "the full run's 8 data-parallel devices were folded onto one: communication between them, and statistics",
        ),
        (1, "the full run's 8 data-parallel devices were folded onto one: communication between them, and"),
        (
            2,
            "the full run's 8 data-parallel devices were folded onto 2: communication between more than 2",
        ),
        (8, ""),
    ],
)
def test_outcome_says_how_many_processes_trained_and_what_they_cannot_show(processes: int | None, text: str) -> None:
    options = RunOptions(root=str(ROOT), device="cpu", preflight_only=True)
    one = case(processes, full={"world_size": 8})
    outcome = run_smoke(one, options, item_id="a.smoke.yaml::constant").outcome
    assert outcome.facts.launched_world_size == processes
    assert [shown[: len(text)] for shown in outcome.facts.not_shown] == ([text] if text else [])
    assert " ".join(not_shown([outcome])).startswith(f"a::constant: not shown: {text[:40]}" if text else "")
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


def test_ranks_that_all_wait_for_another_one_made_different_passes() -> None:
    waiting = 'Stack:\n  File "/lib/torch/distributed/c10d.py", line 4 in all_gather\n  File "/a.py", line 7\n'
    assert is_waiting(waiting)
    assert not is_waiting('Stack:\n  File "/a.py", line 7 in losses\n' + waiting)
    assert is_waiting('Stack:\n  File "/lib/torch/_ops.py", line 4 in __call__\n' + waiting.removeprefix("Stack:\n"))
    assert not is_waiting('Stack:\n  File "/lib/torch/_ops.py", line 4 in __call__\n  File "/a.py", line 7\n')
    crash = hang_of([3, 4], ["", "a.py:7"], all_wait=True)
    assert crash.text.startswith("the 2 ranks wait for one another: do all")
    assert crash.hint.startswith("make every rank call the same modules")


def test_parameters_that_one_process_does_not_use_are_reported() -> None:
    """DistributedDataParallel would raise in the second step, and find_unused_parameters hides it."""
    (warning,) = [one for one in trained(case(2, task="Branching"))[0].findings if one.id == "ranks[unused]"]
    assert (warning.status, warning.reason) == ("warn", "unused-parameters")
    assert "process 1 made a step without a gradient of 0.0.weight, 0.0.bias." in warning.text
    assert "find_unused_parameters=True" in warning.hint


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


def test_digest_of_a_step_is_that_of_the_batches_of_all_ranks() -> None:
    both, other = (Together(2).add([[BatchDigest(3, "a")], [BatchDigest(3, last)]]) for last in ("b", "c"))
    assert len(both) == len(other) == 1
    assert both != other
    assert Together(2).add([[BatchDigest(3, "a")], []]) == []


def test_diagnosis_of_the_rank_that_found_the_cause_counts_with_its_micro_batch() -> None:
    unknown = LossDiagnosis(step=1, weights_step=0, micro_batches=2, kind="not-reproduced")
    found = replace(unknown, kind="input", micro_batch=1, name="x")
    assert Together(2).add([[unknown], [found]]) == [replace(found, micro_batch=3, micro_batches=4)]
    (of_one,) = Together(2).add([[unknown], [replace(unknown, rank=1)]])
    (of_all,) = Together(2).add([[replace(unknown, rank=0)], [replace(unknown, rank=1)]])
    assert isinstance(of_one, LossDiagnosis)
    assert isinstance(of_all, LossDiagnosis)
    assert (of_one.rank, of_all.rank) == (1, None)
