"""The pool of devices: never two runs on one, nobody waits for ever, and a process that dies leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.train.device_pool import (
    CONTEXT_GIB,
    HELD,
    SLOTS,
    DevicePool,
    Need,
    environment_of,
    grant,
    hold_slots_of_run,
    shared_folder,
    slots_needed,
    visible_devices,
)

DEVICES = ("a", "b", "c", "d")
ONE, ALL = Need(1, dict.fromkeys(DEVICES, SLOTS)), Need(4, dict.fromkeys(DEVICES, SLOTS))


@st.composite
def needs(draw: st.DrawFn) -> Need:
    keys = draw(st.lists(st.sampled_from(DEVICES), min_size=1, unique=True))
    amount = draw(st.integers(1, len(keys)))
    return Need(amount, {key: draw(st.integers(1, SLOTS)) for key in keys})


@given(st.lists(needs(), max_size=20), st.randoms(use_true_random=False))
def test_every_need_is_granted_in_turn_and_no_slot_twice(waiting: list[Need], random: object) -> None:
    """Whatever the needs are, and in which order runs end or die: a run that ends is all that the others wait for."""
    free = {key: list(range(SLOTS)) for key in DEVICES}
    queue, running, granted_at = dict(enumerate(waiting)), [], {}
    while queue or running:
        looks = list(queue)
        random.shuffle(looks)  # type: ignore[attr-defined]  # it is a Random
        progress = False
        for number in looks:
            granted = grant(queue[number], [queue[other] for other in queue if other < number], free)
            if granted is None:
                continue
            need = queue.pop(number)
            assert len(granted) == need.amount
            assert not any(need.competes_with(other) for at, other in queue.items() if at < number)
            for key, slots in granted.items():
                assert len(slots) == need.slots[key]
                for slot in slots:
                    free[key].remove(slot)  # raises for one that another run has
            running.append(granted)
            granted_at[number] = progress = True
        if running and not (progress and random.random() < 0.5):  # type: ignore[attr-defined]  # the same
            for key, slots in running.pop(random.randrange(len(running))).items():  # type: ignore[attr-defined]
                free[key] += slots
        else:
            assert progress or not queue, "all wait, and nobody runs"
    assert len(granted_at) == len(waiting)


@given(st.floats(0, 1000), st.floats(0, 200))
def test_runs_share_a_device_only_if_each_needs_less_than_half_and_all_fit(memory: float, device: float) -> None:
    slots = slots_needed(memory, device)
    assert 1 <= slots <= SLOTS
    together = SLOTS // slots
    if together > 1:
        assert 0 < memory < device / 2
        assert together * (memory + CONTEXT_GIB) <= device * (1 + 1e-9)


@pytest.mark.parametrize(
    ("memory", "slots"), [(0.0, 8), (3.0, 1), (9.0, 1), (19.0, 2), (39.0, 4), (39.6, 8), (70.0, 8)]
)
def test_slots_of_a_gpu_with_79_gib(memory: float, slots: int) -> None:
    assert slots_needed(memory, 79.1) == slots


def test_a_run_that_could_share_takes_an_idle_device_first() -> None:
    small = Need(1, dict.fromkeys("ab", 2))
    assert grant(small, [], {"a": [2, 3, 4], "b": list(range(SLOTS))}) == {"b": [0, 1]}


def test_a_need_for_other_devices_does_not_wait_in_the_queue() -> None:
    """Sessions may see different GPUs, by CUDA_VISIBLE_DEVICES or --smoke-device."""
    free: dict[str, list[int]] = {"a": [], "b": list(range(SLOTS))}
    first = Need(1, {"a": SLOTS})
    assert grant(Need(1, {"b": SLOTS}), [first], free) is not None
    assert grant(ONE, [first], free) is None


HOLDER = """
import sys, time
from pathlib import Path
from pytest_smoke.train.device_pool import *
folder, amount, inherits = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
pool, need = DevicePool(folder), Need(amount, dict.fromkeys("abcd", SLOTS))
with pool.held(need) as granted:
    with environment_of(pool.paths(granted), []):
        if inherits == "yes":
            import os, subprocess
            code = "import os, time; from pytest_smoke.train.device_pool import *; hold_slots_of_run(os.environ); "
            code += "print(os.getpid(), flush=True); time.sleep(60)"
            child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
            print(child.stdout.readline().strip(), flush=True)
        else:
            print(0, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return what starts a process that takes devices from the pool in `tmp_path`, and holds them."""

    def started(amount: int, *, inherits: bool = False) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", HOLDER, str(tmp_path), str(amount), "yes" if inherits else "no"]
        process = stack.enter_context(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        return process

    with ExitStack() as stack:
        yield started


def test_a_killed_process_frees_its_devices_and_loses_its_turn(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """The first one holds two devices and dies; the second one dies while it waits for all four."""
    pool, waited = DevicePool(tmp_path), []
    first = start(2)
    assert first.stdout is not None
    first.stdout.readline()
    second = start(4)
    while not list(tmp_path.glob("*.ticket")):
        time.sleep(0.01)
    second.kill()
    second.wait()
    with pool.held(ONE, lambda: waited.append("one")) as granted:
        assert waited == []
        assert granted == {"c": list(range(SLOTS))}
    with pool.held(ALL, lambda: [waited.append("all"), first.kill()]) as granted:
        assert waited == ["all"]
        assert list(granted) == list(DEVICES)
    assert list(tmp_path.glob("*.ticket")) == []


def test_devices_stay_taken_until_the_training_process_of_a_killed_worker_has_ended(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """It dies with the worker, but its memory on the device is freed only when it is gone."""
    worker = start(4, inherits=True)
    assert worker.stdout is not None
    training = int(worker.stdout.readline())
    worker.kill()
    worker.wait()
    began = time.monotonic()
    ended: list[float] = []

    def end() -> None:
        time.sleep(0.3)
        ended.append(time.monotonic())
        os.kill(training, signal.SIGKILL)

    with DevicePool(tmp_path).held(ONE, end):
        assert ended
        assert time.monotonic() >= ended[0] > began


def test_an_interrupted_wait_leaves_no_ticket_and_no_lock(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    pool = DevicePool(tmp_path)
    with pool.held(ALL):
        with pytest.raises(KeyboardInterrupt), pool.held(ONE, interrupt):
            pass
        assert list(tmp_path.glob("*.ticket")) == []
    before = len(os.listdir("/proc/self/fd"))
    with pool.held(ALL) as granted:
        assert len(granted) == 4
    assert len(os.listdir("/proc/self/fd")) == before


def test_processes_see_the_devices_that_they_have_and_nothing_of_the_pool() -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "4, GPU-77,6", "OTHER": "1"}
    before = dict(environment)
    with environment_of([Path("none")], [2, 1], environment):
        assert environment["CUDA_VISIBLE_DEVICES"] == "6,GPU-77"
        hold_slots_of_run(environment)
        assert HELD not in environment
    assert environment == before
    rocm = {"HIP_VISIBLE_DEVICES": "3,5"}
    with environment_of([], [1], rocm):
        assert rocm == {"CUDA_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "5", HELD: "[]"}
    assert rocm == {"HIP_VISIBLE_DEVICES": "3,5"}
    assert visible_devices([3, 0], None) == "3,0"


def test_a_folder_that_somebody_else_made_is_not_used(tmp_path: Path) -> None:
    own = shared_folder(tmp_path)
    assert shared_folder(tmp_path) == own
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)
    with pytest.raises(OSError, match="only this user can write to: remove it"):
        shared_folder(tmp_path)
    own.rmdir()
    own.symlink_to(tmp_path)
    with pytest.raises(OSError, match="remove it"):
        shared_folder(tmp_path)
