"""A recorder judges a loop while it trains, and leaves a log that is complete and that other commands read."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_smoke import Recorder, RecorderError, UnstableError
from pytest_smoke.__main__ import main
from pytest_smoke.logs.read import read


def losses(count: int, *, rises_at: int | None = None) -> list[float]:
    noise = random.Random(0)
    return [
        1 + 2 * math.exp(-step / 50) + noise.gauss(0, 0.03) + 2 * (rises_at is not None and step >= rises_at)
        for step in range(count)
    ]


def optimizer(*rates: float) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "a.jsonl"


def leave(run: Recorder) -> None:
    """Leave the block of a recorder without an exception."""
    with run:
        pass


def judged(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    main(["judge", "--format", "json", *options, str(path)])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_healthy_loop_promotes_and_its_log_does_too(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Recorder(path, planned_steps=400, learning_rate=0.1) as run:
        stops = [run.step(loss=loss, grad_norm=1.0, optimizer=optimizer(0.1)) for loss in losses(400)]
    assert (any(stops), run.should_stop, run.verdict.verdict, run.verdict.points) == (False, False, "promote", 400)
    assert judged(path, capsys) == {
        "log": str(path),
        "verdict": "promote",
        "reason": "",
        "step": None,
        "text": run.verdict.text,
        "points": 400,
        "notes": [],
    }


def test_a_diverging_loop_stops_where_the_judge_of_its_log_does(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Recorder(path, planned_steps=600) as run:
        for loss in losses(600, rises_at=300):
            if run.step(loss=loss):
                break
    assert (run.verdict.verdict, run.should_stop) == ("unstable", True)
    assert run.verdict.data["last_good_step"] == pytest.approx(297, abs=4)
    log = judged(path, capsys, "--planned", "600")
    assert (log["verdict"], log["step"], log["text"]) == ("unstable", run.verdict.step, run.verdict.text)
    assert "no learning rate column: judged by the loss alone" in run.verdict.notes


def test_two_recorded_runs_are_compared(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, rises_at in (("old", None), ("new", 200)):
        with Recorder(path.with_stem(name), planned_steps=400) as run:
            for loss in losses(400, rises_at=rises_at):
                run.step(loss=loss, terms={"ce": loss, "kl": 0.1})
    assert main(["compare", str(path.with_stem("old")), str(path.with_stem("new"))]) == 0
    out = capsys.readouterr().out
    assert "promote" in out
    assert "unstable" in out


def test_unstable_can_be_raised_once(path: Path) -> None:
    run = Recorder(path, planned_steps=10, on_unstable="raise")
    run.step(loss=1.0)
    run.step(loss=1.0)
    with run, pytest.raises(UnstableError) as raised:
        run.step(loss=math.nan)
    assert str(raised.value) == "unstable (non-finite) at step 2: loss is NaN at step 2"
    assert raised.value.verdict == run.verdict
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    run = Recorder(path, planned_steps=10, on_unstable="raise")
    run.step(loss=tensor(math.inf))
    with pytest.raises(UnstableError):
        leave(run)
    assert path.read_text() == '{"step": 0, "loss": "Infinity"}\n'


def test_nan_in_a_term_names_the_term(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Recorder(path, planned_steps=100) as run:
        for step in range(3):
            run.step(loss=math.nan if step == 2 else 1.0, terms={"ce": 0.5, "kl": math.nan if step == 2 else 0.5})
    assert (run.verdict.reason, run.verdict.series, run.verdict.step) == ("non-finite", "kl", 2)
    assert path.read_text().splitlines()[-1] == '{"step": 2, "loss": "NaN", "loss/ce": 0.5, "loss/kl": "NaN"}'
    assert (judged(path, capsys)["verdict"], judged(path, capsys)["step"]) == ("unstable", 2)


def test_the_highest_rate_of_several_groups_is_recorded(path: Path) -> None:
    with Recorder(path, planned_steps=2) as run:
        run.step(loss=1.0, optimizer=optimizer(0.0, 0.1, 0.01))
        run.step(loss=1.0, lr=torch.tensor(0.25))
    assert [point.lr for point in read(str(path)).points] == [0.1, 0.25]


def test_a_decayed_learning_rate_is_masked(path: Path) -> None:
    with Recorder(path, planned_steps=400, learning_rate=0.1, mode="constant") as run:
        for step, loss in enumerate(losses(400)):
            run.step(loss=loss, lr=0.1 * 0.98**step)
    assert (run.verdict.verdict, run.verdict.reason) == ("invalid", "masked")


@pytest.mark.parametrize(("mode", "verdict"), [("constant", "promote"), ("long-tail", "invalid"), (None, "promote")])
def test_the_mode_sets_the_evidence_that_a_promotion_needs(path: Path, mode: Any, verdict: str) -> None:
    with Recorder(path, planned_steps=600, learning_rate=0.1, mode=mode) as run:
        for loss in losses(600):
            run.step(loss=loss, lr=0.1)
    assert run.verdict.verdict == verdict


def test_a_loop_that_ends_early_is_not_promoted(path: Path) -> None:
    with Recorder(path, planned_steps=400) as run:
        assert (run.verdict.reason, run.verdict.points) == ("ended-early", 0)
        for loss in losses(300):
            run.step(loss=loss)
    assert (run.verdict.verdict, run.verdict.reason) == ("inconclusive", "ended-early")


def test_a_resumed_run_that_records_every_tenth_step_has_its_own_length(path: Path) -> None:
    with Recorder(path, planned_steps=9000, every=10) as run:
        run.step(loss=3.0, step=5000)
        for loss in losses(399):
            run.step(loss=loss)
    assert (run.verdict.verdict, run.verdict.data["planned_points"], run.verdict.data["last_step"]) == (
        "promote",
        400,
        8990,
    )


def test_the_numbers_of_the_steps_tell_how_far_apart_they_are(path: Path) -> None:
    with Recorder(path, planned_steps=4000) as run:
        for at, loss in enumerate(losses(400)):
            run.step(loss=loss, step=10 * at)
    assert (run.verdict.verdict, run.verdict.data["planned_points"]) == ("promote", 400), run.verdict.text
    with Recorder(path, planned_steps=405) as run:
        for at, loss in enumerate(losses(400)):
            run.step(loss=loss, step=at if at < 1 else at + 5)  # resumed after its first step
    assert (run.verdict.verdict, run.verdict.data["planned_points"]) == ("promote", 405), run.verdict.text


@pytest.mark.filterwarnings("error")
def test_a_loss_that_still_has_its_graph_is_read_without_a_warning(path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(()))
    with Recorder(path, planned_steps=2) as run:
        run.step(loss=weight * 2, terms={"ce": weight * 2}, grad_norm=weight, probe_loss=weight)
    assert read(str(path)).points[0].loss == 2.0


def test_expected_jumps_and_training_from_scratch_are_known(path: Path) -> None:
    with Recorder(path, planned_steps=400, expected_jumps=[200]) as run:
        for loss in losses(400, rises_at=200):
            run.step(loss=loss)
    assert run.verdict.verdict == "promote"
    with Recorder(path, planned_steps=400, from_scratch=True, classes=10) as run:
        for loss in losses(400):
            run.step(loss=math.log(10) + loss % 0.01)
    assert (run.verdict.verdict, run.verdict.reason) == ("inconclusive", "no-progress")
    assert "chance" in run.verdict.text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"loss": "1.5"}, "loss is '1.5', must be a number or a tensor with one element"),
        ({"loss": None}, "loss is None (NoneType), must be a number"),
        ({"loss": True}, "loss is True, must be a number"),
        ({"loss": 1j}, "loss is 1j (complex), must be a number"),
        ({"loss": torch.zeros(2, 3)}, "loss is a tensor of shape 2x3, must have one element; average it first"),
        ({"loss": 1.0, "terms": 3}, "terms is 3, must map names of loss terms to numbers"),
        ({"loss": 1.0, "terms": {"ce": "x"}}, "terms['ce'] is 'x', must be a number"),
        ({"loss": 1.0, "step": 3}, "step is 3, must be above 3, the last recorded step"),
        ({"loss": 1.0, "step": 4.5}, "step is 4.5, must be a whole number of 0 or more"),
        ({"loss": 1.0, "lr": 0.1, "optimizer": optimizer(0.1)}, "both lr and optimizer are given"),
        ({"loss": 1.0, "optimizer": object()}, "optimizer is of type object, without param_groups that have an lr"),
    ],
)
def test_bad_values_are_one_clear_error(path: Path, given: dict[str, Any], says: str) -> None:
    with Recorder(path, planned_steps=10) as run:
        run.step(loss=1.0, step=3)
        with pytest.raises(RecorderError) as raised:
            run.step(**given)
        assert says in str(raised.value)
        run.step(loss=1.0)
    assert [point.step for point in read(str(path)).points] == [3, 4]


def test_unknown_keywords_and_calls_after_close_are_errors(path: Path) -> None:
    run = Recorder(path, planned_steps=10)
    with pytest.raises(TypeError, match="gradnorm"):
        run.step(loss=1.0, gradnorm=1.0)  # type: ignore[call-arg]  # that is the point
    run.close()
    run.close()
    with pytest.raises(RecorderError, match=r"step\(\) was called after close\(\)"):
        run.step(loss=1.0)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"planned_steps": 0}, "planned_steps is 0, must be a whole number of 1 or more"),
        ({"planned_steps": True}, "planned_steps is True"),
        ({"learning_rate": -1}, "learning_rate is -1, must be a number above 0"),
        ({"mode": "cosine"}, "mode is 'cosine', must be one of None, 'constant', 'long-tail'"),
        ({"on_unstable": "kill"}, "on_unstable is 'kill', must be one of 'stop', 'raise'"),
        ({"read_every": 0}, "read_every is 0"),
        ({"path": "a.csv"}, "a recorder writes JSON Lines; use another suffix"),
        ({"path": "/proc/nowhere/a.jsonl"}, "cannot be written: No such file or directory"),
    ],
)
def test_bad_settings_are_one_clear_error(path: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(RecorderError) as raised:
        Recorder(**{"path": path, "planned_steps": 10, **given})
    assert says in str(raised.value)


def test_a_second_recorder_of_one_file_is_an_error_and_harms_nothing(path: Path) -> None:
    with Recorder(path, planned_steps=10) as run:
        run.step(loss=1.0)
        with pytest.raises(RecorderError, match="only one may record"):
            Recorder(path, planned_steps=10)
    assert len(read(str(path)).points) == 1
    Recorder(path, planned_steps=10).close()
    assert path.read_text() == ""


def test_an_exception_inside_the_block_leaves_a_complete_log(path: Path) -> None:
    run = Recorder(path, planned_steps=100)
    with contextlib.suppress(ZeroDivisionError), run:
        for step in range(9):
            run.step(loss=1 / (5 - step))
    assert len(read(str(path)).points) == 5
    assert run.verdict.reason == "ended-early"


def test_a_killed_run_leaves_complete_lines_and_imports_nothing_heavy(path: Path) -> None:
    code = f"""
import os, sys
from pytest_smoke import Recorder
with Recorder({str(path)!r}, planned_steps=100) as run:
    for step in range(50):
        run.step(loss=1.0 + step, terms={{"ce": 1.0}})
        if step == 40:
            heavy = {{"torch", "numpy", "yaml", "pydantic"}} & set(sys.modules)
            os.kill(os.getpid(), 9 if not heavy else 15)
"""
    done = subprocess.run([sys.executable, "-c", code])
    assert done.returncode == -signal.SIGKILL
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == list(range(41))


def test_a_full_disk_warns_once_and_judging_goes_on() -> None:
    run = Recorder("/dev/full", planned_steps=3)
    with pytest.warns(UserWarning, match=r"/dev/full cannot be written from step 0 on \(No space left on device\)"):
        run.step(loss=1.0)
    run.step(loss=1.0)
    assert run.step(loss=math.nan)


class OnAccelerator(torch.Tensor):
    """A tensor that counts how often it is read. It is on the CPU, for machines without an accelerator."""

    reads = 0

    @property
    def device(self) -> Any:  # type: ignore[override]  # a stand-in
        return torch.device("cuda")

    def tolist(self) -> Any:
        type(self).reads += 1
        return super().tolist()

    def __float__(self) -> float:
        raise AssertionError("read one by one")


def tensor(value: float) -> torch.Tensor:
    """Return a tensor on an accelerator."""
    if torch.cuda.is_available():
        return torch.tensor(value, device="cuda")
    return torch.tensor(value).as_subclass(OnAccelerator)


def test_tensors_on_an_accelerator_are_read_in_batches(path: Path) -> None:
    OnAccelerator.reads = 0
    loss = tensor(0.0)
    with Recorder(path, planned_steps=20, read_every=8) as run:
        for step in range(20):
            loss.fill_(math.nan if step == 9 else step)  # the loop may use its memory again
            stops = run.step(loss=loss, lr=tensor(0.1), terms={"ce": loss}, grad_norm=1.0)
            assert len(path.read_text().splitlines()) == (step + 1) // 8 * 8
            assert stops == (step >= 15)
    assert len(path.read_text().splitlines()) == 20
    assert torch.cuda.is_available() or OnAccelerator.reads == 3
    assert (run.verdict.step, run.verdict.series) == (9, "ce")
    assert [point.loss for point in read(str(path)).points][10:] == list(range(10, 20))


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(1, 9), st.floats(), st.floats(0, 1), st.none() | st.floats(allow_infinity=False)),
        min_size=1,
        max_size=30,
    )
)
def test_the_log_holds_what_was_recorded(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, float, float, float | None]]
) -> None:
    path = tmp_path_factory.mktemp("run") / "a.jsonl"
    step, expected = 0, []
    with Recorder(path, planned_steps=300) as run:
        for stride, loss, lr, norm in rows:
            step += stride
            run.step(step=step, loss=loss, lr=lr, grad_norm=norm)
            expected.append({"step": step, "loss": loss, "lr": lr, **({} if norm is None else {"grad_norm": norm})})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert repr([{key: float(value) for key, value in line.items()} for line in lines]) == repr(
        [{key: float(value) for key, value in line.items()} for line in expected]
    )
