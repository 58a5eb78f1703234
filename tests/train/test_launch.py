"""Children are real processes: they answer, they end, and they never outlive whoever started them."""

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
from pytest_smoke.events import Crashed, Ended, Event, Started, Step
from pytest_smoke.train.launch import Child, accelerators, child_of
from pytest_smoke.train.plan import RunPlan

ROOT = str(Path(__file__).parents[2])
Planner = Callable[..., RunPlan]


@pytest.fixture
def teacher(plan: Planner) -> Planner:
    """A plan of the control tasks."""
    return lambda task="Teacher", **changes: plan(
        **{"task": f"tests.controls.tasks:{task}", "root": ROOT, "learning_rate": 0.003, "batch_size": 16} | changes
    )


def heard(plan: RunPlan, timeout: float | None = 60) -> list[Event]:
    records: list[Event] = []
    with child_of(plan) as child:
        while (more := child.receive(timeout)) is not None:
            records += more
            if any(isinstance(record, Ended) for record in more):
                child.send(Finish())
    return records


def listen(child: Child, timeout: float) -> None:
    while child.receive(timeout) is not None:
        pass


def test_a_child_reports_every_step_once_in_order_and_leaves(teacher: Planner) -> None:
    """Started comes first, Ended last, and every step between."""
    records = heard(teacher(run_steps=150, max_steps=150))
    assert isinstance(records[0], Started)
    assert isinstance(records[-1], Ended)
    assert [record.step for record in records if isinstance(record, Step)] == list(range(150))


def test_the_same_plan_gives_the_same_losses_bit_for_bit(teacher: Planner) -> None:
    """Seeds cover weights, order and dropout, and one thread leaves the sums in one order."""
    first, second = (
        [(r.loss, r.grad_norm) for r in heard(teacher(run_steps=40, max_steps=40)) if isinstance(r, Step)]
        for _ in range(2)
    )
    assert first == second
    other = [(r.loss, r.grad_norm) for r in heard(teacher(run_steps=40, max_steps=40, seed=1)) if isinstance(r, Step)]
    assert other != first


def test_an_exception_comes_back_with_the_users_place_and_the_steps_before_it(teacher: Planner) -> None:
    """The traceback starts at the user's own frame, and no step that ran is lost."""
    records = heard(teacher("Breaks", args={"how": "raise", "at_batch": 31}, run_steps=4000))
    crashed = records[-1]
    assert isinstance(crashed, Crashed)
    assert crashed.text == "RuntimeError: the labels file is empty"
    assert crashed.place.startswith("tests/controls/tasks.py:")
    assert "pytest_smoke" not in crashed.traceback
    assert [r.step for r in records if isinstance(r, Step)] == list(
        range(25)
    )  # 5 of the 30 calls before it: the terms once, the probe four times


def test_a_child_that_is_killed_is_named_by_its_signal(teacher: Planner) -> None:
    """The words say which signal, and its last output is there to read."""
    with (
        child_of(teacher("Breaks", args={"how": "die", "at_batch": 5})) as child,
        pytest.raises(ChildDiedError, match="SIGKILL"),
    ):
        listen(child, 60)
    with child_of(teacher("Breaks", args={"how": "exit", "at_batch": 5})) as child:
        with pytest.raises(ChildDiedError, match="exit status 3"):
            listen(child, 60)
        assert "about to exit" in child.last_lines()


def test_a_silent_child_and_all_it_started_are_killed(teacher: Planner, tmp_path: Path) -> None:
    """Silence raises, and leaving the block leaves no process behind."""
    (tmp_path / "forks.py").write_text(
        "import subprocess, sys, time, pathlib\n"
        "def Task(**args):\n"
        "    helper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"    pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(helper.pid))\n"
        "    time.sleep(600)\n"
    )
    with child_of(_at(teacher(), tmp_path)) as child:
        with pytest.raises(ChildTimeoutError):
            listen(child, 3)
        helper = psutil.Process(int((tmp_path / "pid").read_text()))
    assert _gone(helper)


def test_a_task_may_start_data_loader_workers(teacher: Planner, tmp_path: Path) -> None:
    """A daemonic process could not."""
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
    records = heard(_at(teacher(run_steps=5, max_steps=5), tmp_path, task="loads:Task"))
    assert isinstance(records[-1], Ended), records[-1]


def test_an_end_of_file_of_the_users_own_is_an_exception_like_any(teacher: Planner, tmp_path: Path) -> None:
    """And not taken for a parent that is gone."""
    (tmp_path / "cut.py").write_text("import pickle\ndef Task(**args):\n    pickle.loads(b'')\n")
    records = heard(_at(teacher(), tmp_path, task="cut:Task"))
    assert isinstance(records[-1], Crashed)
    assert records[-1].text == "EOFError: Ran out of input"


def test_no_child_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Not even one that hangs in the user's code, where it would never notice a closed pipe."""
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
        until = time.monotonic() + 60
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < until, "the child never started"
            time.sleep(0.05)
        child = psutil.Process(int((tmp_path / "pid").read_text()))
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    assert _gone(child)


def test_a_child_sees_the_environment_of_the_moment_it_was_started(
    teacher: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fork server is older than the variable."""
    accelerators()
    monkeypatch.setenv("SMOKE_TEST_WORD", "swordfish")
    (tmp_path / "looks.py").write_text(
        "import os\ndef Task(**args):\n    raise RuntimeError(os.environ['SMOKE_TEST_WORD'])\n"
    )
    records = heard(_at(teacher(), tmp_path, task="looks:Task"))
    assert isinstance(records[-1], Crashed)
    assert records[-1].text == "RuntimeError: swordfish"


def test_the_parent_imports_no_torch() -> None:
    """A session with a hundred smokes holds torch once, in the fork server."""
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


def _gone(process: psutil.Process) -> bool:
    """Whether it ends within ten seconds; a zombie nobody has reaped yet has ended."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False
