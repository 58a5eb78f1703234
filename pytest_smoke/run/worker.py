"""What runs in the child: build the task, run the loop, and turn whatever goes wrong into a record."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from pytest_smoke.run.device import accelerators, resolve, seed_all
from pytest_smoke.run.loop import Channel, Loop
from pytest_smoke.run.plan import RunPlan
from pytest_smoke.run.records import Crashed, Record, Stop
from pytest_smoke.run.task import TaskError, load_task

TRACEBACK_LINES = 30
"""Newest lines of a traceback that are kept."""
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class PipeChannel:
    """The child's end of the pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, records: list[Record]) -> None:
        """Hand over records; a parent that is gone ends the child."""
        self._connection.send(records)

    def poll(self, *, wait: bool = False) -> Stop | None:
        """The parent's word, if there is one (with `wait`: when it comes)."""
        if not wait and not self._connection.poll():
            return None
        said: Stop | None = self._connection.recv()
        return said


def rehearse(plan: RunPlan, channel: Channel) -> None:
    """Run `plan` in this process. Raises whatever the task raises, and TaskError."""
    if plan.root not in sys.path:
        sys.path.insert(0, plan.root)
    torch.set_num_threads(plan.cpu_threads)
    device = resolve(plan.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    importlib.import_module(plan.task.partition(":")[0])  # first, so that all it imports is seeded too
    seed_all(plan.seed)
    Loop(plan, load_task(plan.task, plan.args), device, channel).run()


def crash_of(error: BaseException) -> Crashed:
    """The record of an exception: what, where in the user's code, and the newest lines of the traceback."""
    text = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)] or frames
    lines = "".join(traceback.format_exception(error)).splitlines()[-TRACEBACK_LINES:]
    return Crashed(
        reason=_reason(error),
        text=str(error) if isinstance(error, TaskError) else text,
        place=f"{own[-1].filename}:{own[-1].lineno}" if own else "",
        traceback="\n".join(lines),
    )


def child_main(plan: RunPlan, connection: Connection, output: str, environment: dict[str, str]) -> None:
    """Entry point of the child: standard streams go to the file `output`, records to `connection`."""
    _settle(output, environment)
    channel = PipeChannel(connection)
    try:
        rehearse(plan, channel)
    except (BrokenPipeError, EOFError):  # the parent is gone, and nobody is left to tell
        return
    except Exception as error:
        traceback.print_exc()
        with contextlib.suppress(BrokenPipeError):
            channel.send([crash_of(error)])


def describe_main(connection: Connection, output: str, environment: dict[str, str]) -> None:
    """Entry point of a child that only says which accelerators there are."""
    _settle(output, environment)
    connection.send(accelerators())


def _settle(output: str, environment: dict[str, str]) -> None:
    """Own process group, own streams, the parent's environment; and never outlive the parent."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(sink, stream)
    os.close(sink)
    # The server's streams may belong to a capture that is long over.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    faulthandler.enable(sys.stderr)
    os.environ.clear()
    os.environ.update(environment)


def _reason(error: BaseException) -> str:
    if isinstance(error, TaskError):
        return "task"
    out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    return "out-of-memory" if out_of_memory else "exception"


def _is_library(filename: str) -> bool:
    own = str(Path(__file__).resolve().parents[1])
    return "site-packages" in filename or filename.startswith((own, sys.base_prefix, "<"))

