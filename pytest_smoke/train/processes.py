"""Start the processes of a run with PyTorch's elastic launcher, pass on what they report, and say which one failed."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import pickle
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from mmap import mmap
from multiprocessing import Pipe, active_children, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import IO, Any, NoReturn
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pytest_smoke.errors import DeviceError, ParentDiedError
from pytest_smoke.events import Crashed, Event
from pytest_smoke.plain import plain_fields
from pytest_smoke.text import count, listed
from pytest_smoke.train.channel import Channel
from pytest_smoke.train.crash import crash_of
from pytest_smoke.train.descendants import end_descendants, end_with_parent
from pytest_smoke.train.endings import SAME_PASSES, SAME_PASSES_HINT, how_it_ended, place_in_stack
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.ranks import COUNTER, RankChannel, Ranks

HELLO, EVENTS, CRASH, DONE = b"h", b"e", b"c", b"d"
"""First byte of what a rank sends to the process that started it: it began, events, an exception, it is done."""
CLOSING_SECONDS = 5.0
"""Time that a rank whose connection to another one broke waits to be ended, so that the other one is named."""
NOTICE_SECONDS = 1.0
"""Time after which all ranks are killed if one of them is gone: they may wait for it where no signal reaches them."""
STACK_SECONDS = 1.0
"""Time in which the ranks write their stacks."""
STACK_BYTES = 2**16
"""Bytes of a stack that are read."""
MONITOR_SECONDS = 0.05
"""Time between two looks of the launcher at its processes."""
CONNECTION_LOST = re.compile(
    r"connection (?:was )?(?:closed|reset|refused|aborted)|broken pipe|socket (?:closed|timeout)|gloo|nccl|"
    r"remote process exited|TCPStore|store",
    re.IGNORECASE,
)
"""What torch says when another rank is gone. Whether this is why a rank failed shows in who ended first."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How one rank ended."""

    rank: int
    crash: Crashed | None = None
    """The exception that it reported; None if it ended without a word."""
    is_lost_connection: bool = False
    """Whether that says only that another rank was gone."""


def train_on_ranks(plan: RunPlan, connection: Connection) -> None:
    """Run `plan` with its processes, whose events go to `connection`; one that fails ends the run for all.

    Never raises for what happens in a process: it is reported as a `Crashed` that names the rank. Raises DeviceError if
    there are fewer devices than processes.
    """
    _Launcher(plan, connection).run()


def visible_devices() -> int:
    """Return how many CUDA devices torch sees, counted in a copy of this process.

    Where torch cannot ask the driver's management library, counting starts the driver in the process, and then none of
    the copies that are to train could use a device.
    """
    context = get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    copy = context.Process(target=_send_device_count, args=(writer,))
    copy.start()
    writer.close()
    with contextlib.suppress(EOFError):
        found: int = reader.recv()
        copy.join()
        return found
    copy.join()
    raise DeviceError(
        f"torch could not count the devices: the process that counted them {how_it_ended(copy.exitcode or 0)}"
    )


def _send_device_count(writer: Connection) -> None:
    writer.send(torch.cuda.device_count())


def device_of(plan: RunPlan, rank: int, devices: int) -> str:
    """Return the device of a rank; `devices`: how many CUDA devices there are. Raises DeviceError."""
    kind, _, index = plan.device.partition(":")
    size = plan.processes
    if kind == "mps":
        text = f"launch starts {count(size, 'process', 'processes')}, and torch has no way to connect them on mps"
        raise DeviceError(f"{text}: use the CPU")
    if kind == "cpu" or (kind == "auto" and not devices):
        return "cpu"
    if index and size == 1:
        return plan.device
    if index:
        text = f"launch starts {size} processes, each on a device of its own, but the run is to use {plan.device} alone"
        raise DeviceError(f"{text}: use --smoke-device cuda")
    if devices < size:
        raise DeviceError(
            f"launch.nproc_per_node is {size}, but torch {torch.__version__} sees {count(devices, 'cuda device')}, and "
            "each process needs its own: lower nproc_per_node, or use --smoke-device cpu",
            key="launch.nproc_per_node",
        )
    return f"cuda:{rank}"


class _Launcher:
    """Lives in the training process, which trains nothing itself."""

    def __init__(self, plan: RunPlan, connection: Connection) -> None:
        devices = visible_devices() if plan.device != "cpu" else 0
        self._plans = [
            replace(plan, device=device_of(plan, rank, devices), process=rank) for rank in range(plan.processes)
        ]
        self._plan, self._connection, size = plan, connection, plan.processes
        self._counters = mmap(-1, size * COUNTER.size)
        self._stacks: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in range(size)]  # noqa: SIM115  # for the run
        pipes = [Pipe(duplex=False) for _ in range(size)]
        self._readers, self._writers = [pipe[0] for pipe in pipes], [pipe[1] for pipe in pipes]
        self._sending = threading.Lock()
        self._children: dict[int, BaseProcess] = {}
        """Processes by rank."""
        self._endings: list[Ending] = []
        """In the order in which the ranks ended."""
        self._is_hanging = False

    def run(self) -> None:
        """Start the ranks, wait for their end, and report one that failed."""
        faulthandler.disable()
        signal.signal(signal.SIGABRT, self._on_hang)
        for name in ("torch.distributed", "torch.multiprocessing"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what they log is reported better below
        relay = threading.Thread(target=self._relay, daemon=True)
        relay.start()
        with without_devices():
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=self._plan.processes,
                run_id=uuid4().hex,
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",
                local_addr="127.0.0.1",
                max_restarts=0,
                monitor_interval=MONITOR_SECONDS,
                start_method="fork",  # this process has imported torch, and has not touched a device
                logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
            )
        failure: BaseException | None = None
        try:
            elastic_launch(config, self._rank_main)()
        except ChildFailedError:
            pass  # `_endings` says more
        except Exception as error:  # of the launcher itself: it could not start a process, say
            failure = error
        for writer in self._writers:
            writer.close()
        relay.join(CLOSING_SECONDS)
        if crash := self._crash(failure):
            print(crash.traceback, file=sys.stderr)
            self._send([plain_fields(crash)])

    def _crash(self, failure: BaseException | None) -> Crashed | None:
        exits = {rank: child.exitcode for rank, child in self._children.items()}
        ending = first_failure(self._endings)
        if ending is not None:
            stack = self._stack(ending.rank)
            return described(
                ending, self._plan.processes, exits.get(ending.rank), place_in_stack(stack, self._plan.root)
            )
        return crash_of(failure, self._plan.root) if failure is not None else None

    def _relay(self) -> None:
        """Pass on what rank 0 reports, and note how the ranks end."""
        ranks = dict(zip(self._readers, range(len(self._readers)), strict=True))
        done: set[int] = set()
        wait(self._readers[-1:])  # until all ranks are forked this thread does nothing, so that no lock is copied taken
        while ranks:
            for reader in wait(list(ranks)):
                assert isinstance(reader, Connection)
                rank = ranks[reader]
                try:
                    message = reader.recv_bytes()
                except (EOFError, OSError):
                    del ranks[reader]
                    if rank not in done:
                        self._endings.append(Ending(rank))
                        threading.Timer(NOTICE_SECONDS, self._kill).start()
                    continue
                kind, content = message[:1], message[1:]
                if kind == HELLO:
                    self._writers[rank].close()  # the only other end is the rank's now
                    if child := _child_with(int(content)):
                        self._children[rank] = child
                elif kind == EVENTS:
                    self._send_frame(content)
                else:
                    done.add(rank)
                    if kind == CRASH:
                        crash, is_lost = pickle.loads(content)
                        self._endings.append(Ending(rank, crash, is_lost))

    def _kill(self) -> None:
        for child in self._children.values():
            if child.exitcode is None and child.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)

    def _send(self, events: list[Event]) -> None:
        self._send_frame(bytes(ForkingPickler.dumps(events)))

    def _send_frame(self, frame: bytes) -> None:
        with self._sending, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send_bytes(frame)

    def _on_hang(self, *_: Any) -> NoReturn:
        """Report which rank hangs and where, when the pytest process asks for the stacks of this one."""
        size = self._plan.processes
        counters = [COUNTER.unpack_from(self._counters, rank * COUNTER.size)[0] for rank in range(size)]
        for child in self._children.values():
            if child.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGABRT)  # faulthandler writes the stack
        deadline = time.monotonic() + STACK_SECONDS
        while time.monotonic() < deadline and any(child.exitcode is None for child in self._children.values()):
            time.sleep(0.01)
        stacks = [self._stack(rank) for rank in range(size)]
        for rank, stack in enumerate(stacks):
            print(f"rank {rank}:\n{stack}", file=sys.stderr)
        places = [place_in_stack(stack, self._plan.root) for stack in stacks]
        self._send([hang_of(counters, places, all_wait=all(map(is_waiting, stacks)))])
        sys.stderr.flush()
        end_descendants(os.getpid())
        os._exit(1)

    def _stack(self, rank: int) -> str:
        """Return what faulthandler has written in a rank."""
        text = os.pread(self._stacks[rank].fileno(), STACK_BYTES, 0).decode("utf-8", errors="replace")
        return text.partition(f'  File "{__file__}"')[0]  # how it was started follows

    def _rank_main(self) -> None:
        """Train as one of the ranks: the main function of a process that the launcher has started."""
        rank = int(os.environ["RANK"])
        faulthandler.disable()  # the launcher has enabled it, and it would not take over SIGABRT again
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGABRT):
            signal.signal(number, signal.SIG_DFL)  # the launcher has handlers of its own, which are inherited
        end_with_parent()
        faulthandler.enable(self._stacks[rank], all_threads=False)
        for pipe in (*self._readers, *(pipe for at, pipe in enumerate(self._writers) if at != rank)):
            pipe.close()
        writer = self._writers[rank]
        writer.send_bytes(HELLO + str(os.getpid()).encode())
        plan = self._plans[rank]
        try:
            _train(plan, _RankPipe(writer, self._connection) if rank == 0 else None, self._counters)
        except ParentDiedError:
            os._exit(1)
        except BaseException as error:
            crash = plain_fields(crash_of(error, plan.root))
            is_lost = is_lost_connection(error)
            writer.send_bytes(CRASH + pickle.dumps((crash, is_lost)))
            if is_lost:
                time.sleep(CLOSING_SECONDS)
            end_descendants(os.getpid())
            os._exit(1)  # a process that raises leaves a file of torch's behind
        writer.send_bytes(DONE)
        end_descendants(os.getpid())


@contextlib.contextmanager
def without_devices() -> Iterator[None]:
    """Let torch find no device, and not start the driver to look for one: `LaunchConfig` asks for them."""
    changed = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _child_with(pid: int) -> BaseProcess | None:
    """Return a child by its process id. It is listed only some time after it has started; None if it never is."""
    deadline = time.monotonic() + NOTICE_SECONDS
    while time.monotonic() < deadline:
        found = next((child for child in active_children() if child.pid == pid), None)
        if found is not None:
            return found
        time.sleep(0.001)
    return None


def _train(plan: RunPlan, channel: Channel | None, counters: mmap) -> None:
    from pytest_smoke.train.worker import prepare_process, train_rank  # imports this module

    device = prepare_process(plan)
    ranks = Ranks(plan.process, plan.processes, device, counters)
    train_rank(plan, device, RankChannel(ranks, channel), ranks)
    ranks.barrier()  # no rank leaves while another one still uses the connection
    dist.destroy_process_group()


class _RankPipe:
    """The channel of rank 0: events go to the process that started it, commands come from the pytest process."""

    def __init__(self, writer: Connection, commands: Connection) -> None:
        from pytest_smoke.train.worker import PipeChannel

        self._writer, inner = writer, PipeChannel(commands)
        self.poll, self.wait, self.begin = inner.poll, inner.wait, inner.begin

    def send(self, events: list[Event]) -> None:
        """Report events. Raises ParentDiedError."""
        try:
            self._writer.send_bytes(EVENTS + bytes(ForkingPickler.dumps(events)))
        except (BrokenPipeError, ConnectionResetError):
            raise ParentDiedError from None


def is_lost_connection(error: BaseException) -> bool:
    """Tell whether an exception is what torch raises because another rank is gone."""
    if isinstance(error, dist.DistError):
        return True
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    in_torch = bool(frames) and os.sep + "torch" + os.sep in frames[-1]
    return isinstance(error, RuntimeError) and in_torch and CONNECTION_LOST.search(str(error)) is not None


def first_failure(endings: Sequence[Ending]) -> Ending | None:
    """Return the rank that failed first: one that only lost its connection to another one is not the cause."""
    causes = [ending for ending in endings if not ending.is_lost_connection]
    return next(iter([*causes, *endings]), None)


def described(ending: Ending, size: int, exit_code: int | None, place: str) -> Crashed:
    """Return the exception or the end of a rank as that of the run; `place` is where its process was."""
    name = f"rank {ending.rank} of {size}"
    if ending.crash is None:
        ended = "ended" if exit_code is None else how_it_ended(exit_code)
        early = "" if exit_code else " before the run was over"
        return Crashed(reason="crash", text=f"{name} {ended}{early}", place=place, traceback="")
    crash = ending.crash
    if crash.cause:
        return replace(crash, cause=f"{name}: {crash.cause}")
    return replace(crash, text=f"{name}: {crash.text}")


def hang_of(counters: Sequence[int], places: Sequence[str], *, all_wait: bool = False) -> Crashed:
    """Return which rank hangs: the one that waited for the others fewer times than they.

    `all_wait`: no rank does anything else, so each waits for something that the others do not do.
    """
    if all_wait:
        text = f"the {len(counters)} ranks wait for one another: {SAME_PASSES}"
        place = next(filter(None, places), "")
        return Crashed(reason="hang", text=text, place=place, traceback="", hint=SAME_PASSES_HINT)
    behind = [rank for rank, entered in enumerate(counters) if entered == min(counters)]
    waiting = [rank for rank in range(len(counters)) if rank not in behind]
    names, others = _ranks(behind), _ranks(waiting)
    if not waiting:
        text = f"all {len(counters)} ranks waited as often, so it is not known which of them hangs"
    else:
        hang = "hangs" if len(behind) == 1 else "hang"
        text = f"{others} waited for {names} of {len(counters)}, which {hang}"
    return Crashed(
        reason="hang", text=text, place=next((places[rank] for rank in behind if places[rank]), ""), traceback=""
    )


def _ranks(ranks: Sequence[int]) -> str:
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {listed(map(str, ranks))}"


def is_waiting(stack: str) -> bool:
    """Tell whether a stack of faulthandler ends in a function of torch.distributed that waits for other ranks.

    It may wait in other parts of torch that this function called: `wait_tensor` does in torch/_ops.py.
    """
    files = re.findall(r'^  File "(.+)", line \d+', stack, re.MULTILINE)
    called = takewhile(lambda file: f"{os.sep}torch{os.sep}" in file, files)
    return any(f"{os.sep}torch{os.sep}distributed{os.sep}" in file for file in called)
