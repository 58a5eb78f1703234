"""What runs in the child: build the task, run the loop, and turn whatever goes wrong into a record."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait

import torch
import torch._functorch.config as functorch_config

from pytest_smoke.errors import ParentDiedError
from pytest_smoke.events import Command, Event
from pytest_smoke.train.channel import Channel
from pytest_smoke.train.crash import crash_of
from pytest_smoke.train.data import seeded_task
from pytest_smoke.train.device import accelerators, resolve
from pytest_smoke.train.loop import Loop
from pytest_smoke.train.plan import RunPlan


class PipeChannel:
    """The child's end of the pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, records: list[Event]) -> None:
        """Hand over records; a parent that is gone ends the child."""
        try:
            self._connection.send(records)
        except BrokenPipeError:
            raise ParentDiedError from None

    def poll(self, *, wait: bool = False) -> Command | None:
        """The parent's word, if there is one (with `wait`: when it comes)."""
        if not wait and not self._connection.poll():
            return None
        try:
            said: Command | None = self._connection.recv()
        except EOFError:
            raise ParentDiedError from None
        return said


def settle(plan: RunPlan) -> torch.device:
    """Make this process ready for `plan`; the device it runs on. Raises DeviceError."""
    torch.set_num_threads(plan.cpu_threads)
    device = resolve(plan.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # events and streams, and whatever a task calls just "cuda"
        torch.cuda.reset_peak_memory_stats(device)
    functorch_config.donated_buffer = False  # a compiled model must survive the probe's second backward
    return device


def train(plan: RunPlan, channel: Channel) -> None:
    """Run `plan` in this process. Raises whatever the task raises, and TaskError."""
    device = settle(plan)
    Loop(plan, seeded_task(plan), device, channel).run()


def child_main(plan: RunPlan, connection: Connection, output: str, environment: dict[str, str]) -> None:
    """Entry point of the child: standard streams go to the file `output`, records to `connection`."""
    _settle(output, environment)
    channel = PipeChannel(connection)
    try:
        train(plan, channel)
    except ParentDiedError:
        return
    except (Exception, SystemExit) as error:
        crash = crash_of(error, plan.root)
        print(crash.traceback, file=sys.stderr)
        with contextlib.suppress(ParentDiedError):
            channel.send([crash])


def describe_main(connection: Connection, output: str, environment: dict[str, str]) -> None:
    """Entry point of a child that only says which accelerators there are."""
    _settle(output, environment)
    connection.send(accelerators())


def _settle(output: str, environment: dict[str, str]) -> None:
    """Own process group, own streams, the parent's environment; and never outlive the parent."""
    os.setsid()
    threading.Thread(target=_follow_parent, daemon=True).start()
    sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(sink, stream)
    os.close(sink)
    # The server's streams may belong to a capture that is long over.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    faulthandler.enable(sys.stderr, all_threads=False)
    os.environ.clear()
    os.environ.update(environment)


def _follow_parent() -> None:
    """Die with pytest. The fork server cannot see to it: it lives as long as any of its children."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.killpg(0, signal.SIGKILL)
