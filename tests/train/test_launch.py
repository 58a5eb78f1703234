"""Training processes report, end, and never outlive the pytest process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pytest_smoke.errors import ChildDiedError, ChildTimeoutError
from pytest_smoke.events import Crashed, Ended, Event, Finish, Started, Step
from pytest_smoke.train.launch import Child, accelerators, child_of
from pytest_smoke.train.plan import RunPlan

ROOT = str(Path(__file__).parents[2])
Planner = Callable[..., RunPlan]


@pytest.fixture
def teacher(plan: Planner) -> Planner:
    """Return a function that makes a plan for one of the control tasks."""
    return lambda task="Teacher", **changes: plan(
        **{"task": f"tests.controls.tasks:{task}", "root": ROOT, "learning_rate": 0.003, "batch_size": 16} | changes
    )


def events_of(plan: RunPlan, timeout: float | None = 60) -> list[Event]:
    events: list[Event] = []
    with child_of(plan) as child:
        while (more := child.receive(timeout)) is not None:
            events += more
            if any(isinstance(event, Ended) for event in more):
                child.send(Finish())
    return events


def receive_all(child: Child, timeout: float) -> None:
    while child.receive(timeout) is not None:
        pass


def test_every_step_is_reported_once_and_in_order_between_started_and_ended(teacher: Planner) -> None:
    events = events_of(teacher(run_steps=150, max_steps=150))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Ended)
    assert [event.step for event in events if isinstance(event, Step)] == list(range(150))


def test_the_same_plan_gives_the_same_losses_bit_for_bit(teacher: Planner) -> None:
    first, second = (
        [(r.loss, r.grad_norm) for r in events_of(teacher(run_steps=40, max_steps=40)) if isinstance(r, Step)]
        for _ in range(2)
    )
    assert first == second
    other = [
        (r.loss, r.grad_norm) for r in events_of(teacher(run_steps=40, max_steps=40, seed=1)) if isinstance(r, Step)
    ]
    assert other != first


def test_an_exception_is_reported_with_its_place_in_user_code_and_after_all_steps(teacher: Planner) -> None:
    """The traceback starts at the user's own frame."""
    events = events_of(teacher("Breaks", args={"how": "raise", "at_batch": 31}, run_steps=4000))
    crashed = events[-1]
    assert isinstance(crashed, Crashed)
    assert crashed.text == "RuntimeError: the labels file is empty"
    assert crashed.place.startswith("tests/controls/tasks.py:")
    assert "pytest_smoke" not in crashed.traceback
    assert [r.step for r in events if isinstance(r, Step)] == list(
        range(25)
    )  # 5 of the 30 calls before it: the terms once, the probe four times


def test_a_process_that_dies_is_reported_with_its_signal_or_exit_status_and_its_output(teacher: Planner) -> None:
    with (
        child_of(teacher("Breaks", args={"how": "die", "at_batch": 5})) as child,
        pytest.raises(ChildDiedError, match="SIGKILL"),
    ):
        receive_all(child, 60)
    with child_of(teacher("Breaks", args={"how": "exit", "at_batch": 5})) as child:
        with pytest.raises(ChildDiedError, match="exit status 3"):
            receive_all(child, 60)
        assert "about to exit" in child.last_lines()


def test_a_process_that_reports_nothing_is_killed_with_all_that_it_started(teacher: Planner, tmp_path: Path) -> None:
    (tmp_path / "forks.py").write_text(
        "import subprocess, sys, time, pathlib\n"
        "def Task(**args):\n"
        "    helper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"    pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(helper.pid))\n"
        "    time.sleep(600)\n"
    )
    with child_of(_at(teacher(), tmp_path)) as child:
        with pytest.raises(ChildTimeoutError):
            receive_all(child, 3)
        helper = psutil.Process(int((tmp_path / "pid").read_text()))
    assert _ends(helper)


def test_a_task_may_start_data_loader_workers(teacher: Planner, tmp_path: Path) -> None:
    (tmp_path / "loads.py").write_text(
        "import torch\n"
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "from tests.controls.tasks import Teacher\n"
        "class Task(Teacher):\n"
        "    def batches(self, batch_size, *, seed, rank=0, world_size=1):\n"
        "        points = torch.randn(640, 16)\n"
        "        data = TensorDataset(points, (points @ self.teacher).argmax(1))\n"
        "        while True:\n"
        "            for x, y in DataLoader(data, batch_size, num_workers=1):\n"
        "                yield {'points': x, 'labels': y}\n"
    )
    events = events_of(_at(teacher(run_steps=5, max_steps=5), tmp_path, task="loads:Task"))
    assert isinstance(events[-1], Ended), events[-1]


def test_an_eof_error_of_the_task_is_reported_like_any_exception(teacher: Planner, tmp_path: Path) -> None:
    """It is not taken for a pytest process that is gone."""
    (tmp_path / "cut.py").write_text("import pickle\ndef Task(**args):\n    pickle.loads(b'')\n")
    events = events_of(_at(teacher(), tmp_path, task="cut:Task"))
    assert isinstance(events[-1], Crashed)
    assert events[-1].text == "EOFError: Ran out of input"


def test_a_process_that_hangs_in_user_code_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(
        "import os, pathlib, time\n"
        "def Task(**args):\n"
        f"    pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
    )
    code = (
        "from pytest_smoke.train.launch import child_of\n"
        "from pytest_smoke.recipe.stages import Stage\n"
        "from pytest_smoke.train.plan import RunPlan\n"
        "def main():\n"
        "    plan = RunPlan(task='hangs:Task', args={}, root="
        + repr(str(tmp_path))
        + ", batch_size=1, micro_batches=1,\n"
        "        world_size=1, stages=(Stage(steps=1, max_steps=1, learning_rate=0.1),),\n"
        "        precision='fp32', grad_clip_norm=None, loss_weights={}, seed=0, device='cpu', cpu_threads=1,\n"
        "        evaluate_every_steps=None)\n"
        "    with child_of(plan) as child:\n"
        "        child.receive(None)\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    (tmp_path / "parent.py").write_text(code)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")])
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline, "the training process did not start"
            time.sleep(0.05)
        child = psutil.Process(int((tmp_path / "pid").read_text()))
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    assert _ends(child)


def test_a_training_process_gets_the_environment_of_the_moment_it_is_started(
    teacher: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fork server was started before the variable was set."""
    accelerators()
    monkeypatch.setenv("SMOKE_TEST_VALUE", "swordfish")
    (tmp_path / "looks.py").write_text(
        "import os\ndef Task(**args):\n    raise RuntimeError(os.environ['SMOKE_TEST_VALUE'])\n"
    )
    events = events_of(_at(teacher(), tmp_path, task="looks:Task"))
    assert isinstance(events[-1], Crashed)
    assert events[-1].text == "RuntimeError: swordfish"


def test_launching_does_not_import_torch() -> None:
    code = (
        "import sys\n"
        "from pytest_smoke.train.launch import accelerators\n"
        "if __name__ == '__main__':\n"
        "    print(accelerators(), 'torch' in sys.modules)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.rstrip().endswith("False")


def _at(plan: RunPlan, folder: Path, task: str = "forks:Task") -> RunPlan:
    return replace(plan, root=str(folder), task=task)


def _ends(process: psutil.Process) -> bool:
    """Tell whether it ends within ten seconds; a zombie has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False
