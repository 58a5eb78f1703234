"""Training processes report, end, and never outlive the pytest process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_smoke.errors import ChildDiedError, ChildTimeoutError
from pytest_smoke.events import Crashed, Ended, Event, Finish, SourceFiles, Started, Step
from pytest_smoke.train.launch import OUTPUT_BYTES, OUTPUT_LINES, Child, accelerators, child_of
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
    kinds = [type(event) for event in events]
    assert kinds[:2] == [SourceFiles, Started]
    assert kinds[-2:] == [Ended, SourceFiles]
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


def test_an_exit_status_that_a_killed_fork_server_gives_too_is_explained(teacher: Planner, tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import os\ndef Task(**args):\n    os._exit(255)\n")
    with (
        child_of(_at(teacher(), tmp_path, task="ends:Task")) as child,
        pytest.raises(ChildDiedError, match="exit status 255, or the fork server that started it was killed"),
    ):
        receive_all(child, 60)


SOCKETS = (
    "import os\n"
    "def sockets():\n"
    "    numbers = [int(name) for name in os.listdir('/proc/self/fd')]\n"
    "    return [number for number in numbers if is_socket(number)]\n"
    "def is_socket(number):\n"
    "    try:\n"
    "        return os.readlink(f'/proc/self/fd/{number}').startswith('socket')\n"
    "    except OSError:\n"
    "        return False\n"
)
"""Finds the pipe to pytest among the open files of a process."""


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="lists open files as Linux does")
def test_half_a_frame_in_the_pipe_does_not_outlast_the_timeout(teacher: Planner, tmp_path: Path) -> None:
    (tmp_path / "writes.py").write_text(
        f"{SOCKETS}import time\n"
        "def Task(**args):\n"
        "    for number in sockets():\n"
        "        os.write(number, b'\\x00\\x00\\x10\\x00abc')\n"
        "    time.sleep(600)\n"
    )
    with (
        child_of(_at(teacher(), tmp_path, task="writes:Task")) as child,
        pytest.raises(ChildTimeoutError),
    ):
        receive_all(child, 2)


def test_a_copy_of_the_process_that_trains_on_reports_nothing(teacher: Planner, tmp_path: Path) -> None:
    (tmp_path / "copies.py").write_text(
        "import os\n"
        "from tests.controls.tasks import Teacher\n"
        "class Task(Teacher):\n"
        "    def model(self):\n"
        "        os.fork()\n"
        "        return super().model()\n"
    )
    events = events_of(_at(teacher(run_steps=200, max_steps=200), tmp_path, task="copies:Task"))
    assert [event.step for event in events if isinstance(event, Step)] == list(range(200))


def test_of_an_endless_output_only_the_end_is_kept(teacher: Planner, tmp_path: Path) -> None:
    (tmp_path / "prints.py").write_text(
        "import itertools\n"
        "def Task(**args):\n"
        "    for number in itertools.count():\n"
        "        print(f'line {number}', 'x' * 1000)\n"
    )
    with child_of(_at(teacher(), tmp_path, task="prints:Task")) as child:
        with pytest.raises(ChildTimeoutError):
            receive_all(child, 1.5)
        lines = child.last_lines().splitlines()
    assert len(lines) <= OUTPUT_LINES
    assert int(re.findall(r"line (\d+)", "\n".join(lines))[-1]) > 10 * OUTPUT_BYTES / 1000


def test_names_of_enums_and_texts_that_are_not_unicode_arrive_as_plain_text(teacher: Planner, tmp_path: Path) -> None:
    """The pytest process does not import the task's module to read them."""
    (tmp_path / "enums.py").write_text(
        "import enum\n"
        "from tests.controls.tasks import Teacher\n"
        "class Term(enum.StrEnum):\n"
        "    CE = 'ce'\n"
        "class Task(Teacher):\n"
        "    def losses(self, model, batch):\n"
        "        return {Term.CE: super().losses(model, batch)['ce']}\n"
        "    evaluations = 0\n"
        "    def evaluate(self, model):\n"
        "        self.evaluations += 1\n"
        "        if self.evaluations == 1:\n"
        "            return {}\n"
        "        raise OSError(2, 'no file', 'caf\\udce9\\x1b[31m.txt' + 'x' * 10**7)\n"
    )
    events = events_of(_at(teacher(run_steps=5, max_steps=5), tmp_path, task="enums:Task"))
    assert {type(name) for event in events if isinstance(event, Step) for name in event.terms} == {str}
    assert isinstance(events[-1], Crashed)
    assert events[-1].text.startswith("FileNotFoundError: [Errno 2] no file: 'caf\\udce9\\x1b[31m.txtxxx")
    assert len(events[-1].text) < 3000
    assert "enums" not in sys.modules


def test_without_room_for_a_socket_in_the_temporary_folder_a_process_starts_nevertheless(tmp_path: Path) -> None:
    """The fork server listens on a socket, whose path may have about 100 characters."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    code = (
        "from pytest_smoke.train.launch import accelerators\n"
        "if __name__ == '__main__':\n"
        "    print('found', accelerators())\n"
    )
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=120
    )
    assert "found [" in done.stdout


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
