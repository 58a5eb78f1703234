"""How a training process ends, and the `run` finding that says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.errors import ChildDiedError, ChildTimeoutError
from pytest_smoke.events import (
    Abort,
    BatchEquivalence,
    Command,
    Crashed,
    EndAfterStage,
    Ended,
    Event,
    ExportProgress,
    Finish,
    Resumed,
    Step,
)
from pytest_smoke.monitor.child import ProcessResult, run_in_child
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.monitor.smoke import skipped_outcome
from pytest_smoke.train.plan import RunPlan
from tests.judge.registered import is_registered
from tests.monitor.test_run_monitor import STEPS, UPDATED, stage_of, staged, steps_of, unstaged

LAST_LINES = "newest lines of the output"


class FakeChild:
    """A training process that sends these chunks of events, and then raises or leaves."""

    def __init__(self, *chunks: list[Event], end: Exception | None = None, begun: int = 0) -> None:
        self._chunks, self._end, self.steps_begun = iter(chunks), end, begun
        self.commands: list[Command] = []

    def receive(self, timeout_seconds: float | None) -> list[Event] | None:
        chunk = next(self._chunks, None)
        if chunk is None and self._end is not None:
            raise self._end
        return chunk

    def send(self, command: Command) -> None:
        self.commands.append(command)

    def last_lines(self) -> str:
        return LAST_LINES

    def place(self, root: str) -> str:
        return ""

    def dump_stacks(self) -> list[Event]:
        """Write the stacks of all threads to the output."""
        return []


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a fake training process; return the result, the child and the monitor."""

    def run_fake(child: FakeChild, monitor: RunMonitor | None = None) -> tuple[ProcessResult, RunMonitor]:
        @contextmanager
        def child_of(plan: RunPlan) -> Iterator[FakeChild]:
            yield child

        monkeypatch.setattr("pytest_smoke.monitor.child.child_of", child_of)
        monitor = monitor or RunMonitor(unstaged(), early_stop=True)
        plan = RunPlan.of(monitor.case, root=".", device="cpu")
        return run_in_child(plan, monitor, 15.0, None), monitor

    return run_fake


WHOLE: list[Event] = [*steps_of(0, ""), UPDATED]
ENDED = Ended(STEPS, 1.0, None)
TRACEBACK = "Traceback (most recent call last): ..."
NO_SUCH_FILE = Crashed("exception", "FileNotFoundError: labels.txt", "tasks.py:31", TRACEBACK)


@pytest.mark.parametrize(
    ("child", "status", "reason", "text", "output"),
    [
        (FakeChild(WHOLE, [ENDED]), "pass", "", "200 steps ran", ""),
        (
            FakeChild(steps_of(0, "", broken_at=19)[:20], [Ended(20, 1.0, None)]),
            "pass",
            "",
            "stopped after 20 steps: a value is not finite",
            "",
        ),
        (
            FakeChild(
                WHOLE[:144], end=ChildDiedError("it was killed by SIGKILL, as the kernel does when memory runs out")
            ),
            "fail",
            "crash",
            "the training process failed: it was killed by SIGKILL, as the kernel does when memory runs out "
            "(after step 143)",
            LAST_LINES,
        ),
        (
            FakeChild(end=ChildDiedError("it ended with exit status 3")),
            "fail",
            "crash",
            "the training process failed: it ended with exit status 3 (before the first step)",
            LAST_LINES,
        ),
        (
            FakeChild(
                [*WHOLE, ExportProgress("quantize", "evaluate(model) with int8 weights")], end=ChildDiedError("...")
            ),
            "fail",
            "crash",
            "the training process failed: ... (after step 199, during quantize of the pipeline: "
            "evaluate(model) with int8 weights)",
            LAST_LINES,
        ),
        (
            FakeChild(WHOLE[:144], end=ChildTimeoutError()),
            "fail",
            "hang",
            "the training process made no progress for 15 s and was killed (after step 143)",
            LAST_LINES,
        ),
        (
            FakeChild(WHOLE[:144]),
            "fail",
            "crash",
            "the training process ended without reporting a result (after step 143)",
            LAST_LINES,
        ),
        (
            FakeChild(WHOLE[:144], [NO_SUCH_FILE]),
            "fail",
            "exception",
            "FileNotFoundError: labels.txt at tasks.py:31 (after step 143)",
            LAST_LINES,
        ),
        (
            FakeChild([Crashed("invalid-task", "train: 'encodr.*' matches no parameter", "", "", "stages[0].train")]),
            "fail",
            "invalid-task",
            "train: 'encodr.*' matches no parameter (before the first step)",
            LAST_LINES,
        ),
        (
            FakeChild([Crashed("missing-device", "device 'cuda' is not available", "", "")]),
            "fail",
            "missing-device",
            "device 'cuda' is not available (before the first step)",
            LAST_LINES,
        ),
        (
            FakeChild(WHOLE[:144], [replace(NO_SUCH_FILE, text="CUDA error")], begun=180),
            "fail",
            "exception",
            "CUDA error at tasks.py:31 (in step 179 or before it: the figures from step 144 on were lost with the "
            "device)",
            LAST_LINES,
        ),
        (
            FakeChild(WHOLE[:144], [replace(NO_SUCH_FILE, reason="out-of-memory", text="MemoryError")], begun=145),
            "fail",
            "out-of-memory",
            "MemoryError at tasks.py:31 (after step 143)",
            LAST_LINES,
        ),
        (
            FakeChild(WHOLE[:144], end=ChildDiedError("it was killed by SIGKILL"), begun=200),
            "fail",
            "crash",
            "the training process failed: it was killed by SIGKILL (after step 198; the figures from step 144 on were "
            "lost)",
            LAST_LINES,
        ),
    ],
)
def test_each_end_of_a_training_process_has_its_reason_and_sentence(
    run: Any, child: FakeChild, status: str, reason: str, text: str, output: str
) -> None:
    result, _ = run(child)
    finding = result.finding
    assert (finding.id, finding.status, finding.reason, finding.text) == ("run", status, reason, text)
    assert result.output == output
    assert is_registered(finding)
    assert finding.step == (
        198
        if "step 198" in text
        else 143
        if "step 143" in text or "step 144" in text
        else 199
        if "step 199" in text
        else None
    )


def test_a_fault_of_the_task_has_its_recipe_key_and_a_line_of_code_its_place(run: Any) -> None:
    result, _ = run(FakeChild([Crashed("invalid-task", "no parameter", "", "", "stages[0].train")]))
    assert (result.finding.key, result.finding.place) == ("stages[0].train", "")
    result, _ = run(FakeChild([NO_SUCH_FILE]))
    assert (result.finding.key, result.finding.place) == ("", "tasks.py:31")


@pytest.mark.parametrize(
    "text", ["IndexError: Target 40 is out of bounds.", "AcceleratorError: CUDA error: device-side assert triggered"]
)
def test_an_index_out_of_range_suggests_to_look_at_labels_and_ids(run: Any, text: str) -> None:
    result, _ = run(FakeChild([Crashed("exception", text, "tasks.py:31", "")]))
    assert result.finding.hint.startswith("look for labels that are not in 0 to the number of classes - 1")


def test_a_part_of_a_sharded_parameter_suggests_to_call_the_model(run: Any) -> None:
    text = "RuntimeError: aten.addmm.default got mixed torch.Tensor and DTensor, need to convert all torch.Tensor"
    result, _ = run(FakeChild([Crashed("exception", text, "tasks.py:31", "")]))
    assert "register_fsdp_forward_method" in result.finding.hint


def test_a_parameter_with_two_gradients_in_a_pass_is_named_and_suggests_another_checkpoint(run: Any) -> None:
    raised = "RuntimeError: Expected to mark a variable ready only once. This error is caused by one of"
    text = f"rank 0 of 2: {raised}\nParameter at index 3 with name held.0.block.0.bias has been marked as ready twice."
    for given, subject in ((text, "rank 0 of 2: Distributed"), (raised, "Distributed")):
        result, _ = run(FakeChild([Crashed("exception", given, "", "")]))
        name = "block.0.bias" if given == text else "a parameter"
        assert result.finding.text.startswith(f"{subject}DataParallel got the gradient of {name} twice in one backward")
        assert result.finding.hint.startswith("call torch.utils.checkpoint.checkpoint with use_reentrant=False")


def test_a_hang_suggests_a_longer_timeout(run: Any) -> None:
    result, _ = run(FakeChild(end=ChildTimeoutError()))
    assert result.finding.hint == "raise --smoke-timeout if the task needs longer between two steps"


STEP_ROWS = [event for event in WHOLE if isinstance(event, Step)]


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        ([STEP_ROWS[:20], STEP_ROWS[19:]], "reported step 19 instead of step 20 (after step 19)"),
        ([STEP_ROWS[:20], STEP_ROWS[21:]], "reported step 21 instead of step 20 (after step 19)"),
        ([STEP_ROWS[:20], STEP_ROWS[:1]], "reported step 0 instead of step 20 (after step 19)"),
        ([STEP_ROWS[1:]], "reported step 1 instead of step 0 (before the first step)"),
        ([[replace(STEP_ROWS[0], step=-1)]], "reported step -1 instead of step 0 (before the first step)"),
        ([[replace(STEP_ROWS[0], step=10**9)]], "reported step 1000000000 instead of step 0 (before the first step)"),
        ([STEP_ROWS, [replace(STEP_ROWS[0], step=STEPS)]], "reported step 200 after all 200 steps (after step 199)"),
        ([STEP_ROWS[:50], [Ended(STEPS, 1.0, None)]], "made 200 steps and reported 50 of them (after step 49)"),
    ],
)
@pytest.mark.parametrize("early_stop", [True, False])
def test_steps_that_are_not_each_reported_once_in_order_are_an_error(
    run: Any, chunks: list[list[Event]], text: str, early_stop: bool
) -> None:
    child = FakeChild(*chunks, [Ended(STEPS, 1.0, None)])
    result, monitor = run(child, RunMonitor(unstaged(), early_stop=early_stop))
    assert (result.finding.status, result.finding.reason) == ("fail", "steps-out-of-order")
    assert result.finding.text == f"the training process {text}"
    assert is_registered(result.finding)
    assert not monitor.complete
    assert child.commands == [Abort(last_good_step=None)]


def test_a_run_that_is_resumed_at_another_step_than_the_next_is_an_error(run: Any) -> None:
    result, _ = run(FakeChild([*STEP_ROWS[:20], Resumed(50)], STEP_ROWS[50:], [ENDED]))
    assert result.finding.reason == "steps-out-of-order"
    assert result.finding.text.startswith("the run was resumed at step 50, but its first 20 steps are known")


def test_a_process_that_does_not_leave_after_a_complete_run_does_not_matter(run: Any) -> None:
    """A prefetcher may keep it alive."""
    for end in (ChildTimeoutError(), ChildDiedError("it was killed by SIGKILL")):
        result, monitor = run(FakeChild(WHOLE, [ENDED], end=end))
        assert (result.finding.status, monitor.complete) == ("pass", True)


def test_a_command_is_sent_once_right_after_the_events_that_cause_it(run: Any) -> None:
    child = FakeChild(WHOLE, [ENDED], [])
    run(child)
    assert child.commands == [Finish()]
    child = FakeChild(steps_of(0, "", broken_at=19)[:20], [], [])
    run(child)
    assert child.commands == [Abort(last_good_step=18)]


def test_a_run_that_a_stage_ended_or_a_check_stopped_says_so(run: Any) -> None:
    child = FakeChild(stage_of(0, "A", 0.0), [ENDED])
    result, _ = run(child, RunMonitor(staged(), early_stop=True))
    assert child.commands == [EndAfterStage()]
    assert result.finding.text == "stopped after stage A (200 steps): its criteria failed"
    unequal = BatchEquivalence(
        step=0, samples=16, smoke_batch_size=8, full_batch_size=16, batch_norm_layers=0, difference=0.3
    )
    child = FakeChild([unequal, *steps_of(0, "")[:8]], [Ended(8, 1.0, None)])
    result, _ = run(child)
    assert result.finding.text == "stopped after 0 steps: the check accumulation failed"


def test_a_run_that_this_machine_cannot_execute_is_inconclusive_with_all_planned_facts(tmp_path: Path) -> None:
    outcome = skipped_outcome(unstaged(), "needs cuda; torch sees: none", item_id="a::constant", root=tmp_path)
    assert (outcome.verdict, outcome.reason, outcome.decided_by) == ("inconclusive", "unmet-requirements", "run")
    assert is_registered(outcome.findings[0])
    assert outcome.findings[0].key == "requires"
    assert {"planned_steps", "versions", "started_at"} <= outcome.facts.to_dict().keys()
