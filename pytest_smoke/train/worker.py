"""The training process: build the task, run the training loop, and report exceptions as events."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any, NoReturn

import torch
import torch._functorch.config as functorch_config

from pytest_smoke.errors import ParentDiedError
from pytest_smoke.events import Command, Crashed, Event
from pytest_smoke.plain import plain, plain_fields
from pytest_smoke.recipe.model import Trainer
from pytest_smoke.train.adapters.factory import require
from pytest_smoke.train.channel import Channel, PlainChannel
from pytest_smoke.train.crash import crash_of, has_lost_device
from pytest_smoke.train.data import seeded_task
from pytest_smoke.train.descendants import adopt_orphans, end_descendants
from pytest_smoke.train.device import accelerators, generator_states, resolve_device, set_generator_states
from pytest_smoke.train.device_pool import hold_slots_of_run
from pytest_smoke.train.loop import Loop
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.ranks import Ranks
from pytest_smoke.train.source_files import source_files
from pytest_smoke.train.steps_begun import StepsBegun
from pytest_smoke.train.task import data_files_of

LEAVING_SECONDS = 1.0
"""Time that threads of a task have to end after the run: they may be writing a file."""


class PipeChannel:
    """The training process's end of the pipe. Its methods raise ParentDiedError if the other end is closed.

    A copy of the process, which a task made with `os.fork` and did not end, exits as soon as it uses the pipe: it would
    report steps that nobody asked for, and take commands that are not for it.
    """

    def __init__(self, connection: Connection, begun: StepsBegun | None = None) -> None:
        self._connection, self._begun, self._pid = connection, begun, os.getpid()

    def send(self, events: list[Event]) -> None:
        """Report events."""
        self._exit_in_copy()
        try:
            self._connection.send(events)
        except (BrokenPipeError, ConnectionResetError):
            raise ParentDiedError from None

    def poll(self) -> Command | None:
        """Return a command that has arrived; None for nothing yet."""
        self._exit_in_copy()
        return self.wait() if self._connection.poll() else None

    def wait(self) -> Command:
        """Wait for a command."""
        self._exit_in_copy()
        try:
            command: Command = self._connection.recv()
        except EOFError:
            raise ParentDiedError from None
        return command

    def begin(self, step: int) -> None:
        """Note that a step begins."""
        if self._begun is not None:
            self._begun.count(step + 1)

    @property
    def is_copy(self) -> bool:
        """Whether this process is a copy of the one that the channel was made in."""
        return os.getpid() != self._pid

    def _exit_in_copy(self) -> None:
        if self.is_copy:
            os._exit(0)


def prepare_process(plan: RunPlan) -> torch.device:
    """Set torch's global state for `plan` and return its device. Raises DeviceError."""
    torch.set_num_threads(plan.cpu_threads)
    device = resolve_device(plan.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # for events and streams, and for a task that says only "cuda"
        torch.cuda.reset_peak_memory_stats(device)
    functorch_config.donated_buffer = False  # a gradient probe runs backward twice through a compiled model
    return device


def train(plan: RunPlan, channel: Channel) -> None:
    """Run `plan` in this process. Raises TaskError, and whatever the task or factory raises."""
    device, plain = prepare_process(plan), PlainChannel(channel)
    RUNNERS[plan.trainer](plan, device, plain)
    plain.send([source_files(plan.root)])  # with the modules that were imported during the run


def train_rank(plan: RunPlan, device: torch.device, channel: Channel, ranks: Ranks) -> None:
    """Run `plan` as one of the processes of a launch. Raises as `train`."""
    plain = PlainChannel(channel)
    _train_task(plan, device, plain, ranks)
    plain.send([source_files(plan.root)])


def _train_task(plan: RunPlan, device: torch.device, channel: Channel, ranks: Ranks | None = None) -> None:
    task = seeded_task(plan)
    channel.send([source_files(plan.root)])
    states = generator_states(device)
    data = data_files_of(task, plan.root)
    set_generator_states(states, device)  # whatever the task does to find its files, it trains the same
    if data is not None:
        channel.send([data])
    Loop(plan, task, device, channel, ranks, data.digests if data is not None else None).run()


def _hf() -> ModuleType:
    require(("transformers",), "hf")
    return import_module("pytest_smoke.train.adapters.hf")  # an extra, which takes seconds to import


def _lightning() -> ModuleType:
    require(("lightning", "pytorch_lightning"), "lightning")
    return import_module("pytest_smoke.train.adapters.lightning")  # the same


DESCRIBERS: dict[Trainer, Callable[[RunPlan, torch.device], dict[str, Any]]] = {
    "hf": lambda plan, device: _hf().describe(plan, device),
    "lightning": lambda plan, device: _lightning().describe(plan, device),
}
"""What reads the settings of the full run from what a recipe names, by the recipe key that names it."""

RUNNERS: dict[Trainer, Callable[[RunPlan, torch.device, Channel], None]] = {
    "task": _train_task,
    "hf": lambda plan, device, channel: _hf().run(plan, device, channel),
    "lightning": lambda plan, device, channel: _lightning().run(plan, device, channel),
}
"""What trains a plan in this process, by the recipe key that names it.

A runner builds what the key names, reports `source_files` once it is imported, and reports the events of the run.
"""


def train_main(
    plan: RunPlan, connection: Connection, output: Connection, environment: dict[str, str], begun: Connection
) -> None:
    """Run `plan` as the main function of a training process.

    Events go to `connection`, the standard streams to the pipe `output`, the number of steps to the memory `begun`.
    """
    _detach(output, environment)
    channel = PipeChannel(connection, StepsBegun(begun))
    try:
        if plan.launched:
            import_module("pytest_smoke.train.processes").train_on_ranks(plan, connection)  # takes half a second
        else:
            train(plan, channel)
    except ParentDiedError:
        pass
    except BaseException as error:  # a KeyboardInterrupt is the task's own: Ctrl-C does not reach this session
        crash = crash_of(error, plan.root)
        with contextlib.suppress(Exception):  # the task may have closed or replaced the stream
            print(crash.traceback, file=sys.stderr)
        with contextlib.suppress(ParentDiedError):
            channel.send([plain_fields(crash)])
        if has_lost_device(error) and not channel.is_copy:
            end_descendants(os.getpid())
            os._exit(1)  # to free what is on the device would abort the process, and print over the traceback
    if not channel.is_copy:
        _leave()


def described(plan: RunPlan) -> dict[str, Any] | Crashed:
    """Return the settings of the plan's full run as its trainer has them, or why that failed."""
    try:
        read: dict[str, Any] = plain(DESCRIBERS[plan.trainer](plan, prepare_process(plan)))
    except BaseException as error:  # a KeyboardInterrupt is the factory's own, as in `train_main`
        crash = plain_fields(crash_of(error, plan.root))
        with contextlib.suppress(Exception):  # the factory may have closed or replaced the stream
            print(crash.traceback, file=sys.stderr)
        return crash
    return read


def describe_main(plan: RunPlan, connection: Connection, output: Connection, environment: dict[str, str]) -> None:
    """Send the settings of the plan's full run, or a `Crashed`, as the main function of a process."""
    _detach(output, environment)
    found = described(plan)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.send(found)
    _leave()


def _leave() -> NoReturn:
    """End this process with all that it has started.

    Python would wait for threads of the task without a limit, and for workers of its pools, which are gone: what a pool
    does at the end waits for a lock that one of them held. A daemon of the task would keep the fork server alive.
    """
    end_descendants(os.getpid())
    deadline = time.monotonic() + LEAVING_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
    end_descendants(os.getpid())  # a pool replaces its workers
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the task may have closed or replaced it
            stream.flush()
    os._exit(0)


def accelerators_main(connection: Connection, output: Connection, environment: dict[str, str]) -> None:
    """Send the list of accelerators, as the main function of a process."""
    _detach(output, environment)
    connection.send(accelerators())


def _detach(output: Connection, environment: dict[str, str]) -> None:
    """Get a process group and standard streams of its own, the given environment, and end with the parent."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked by `launch` until here
    adopt_orphans()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    # The fork server's streams may belong to a pytest capture that has ended.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    faulthandler.enable(sys.stderr, all_threads=False)
    multiprocessing.set_start_method(None, force=True)  # Python's default, as in the full run, not that of this process
    os.environ.clear()
    os.environ.update(environment)
    hold_slots_of_run(os.environ)


def _die_with_parent() -> None:
    """Kill this process, its group and its descendants when the pytest process ends.

    The fork server lives as long as any of them.
    """
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    end_descendants(os.getpid())
    os.killpg(0, signal.SIGKILL)
