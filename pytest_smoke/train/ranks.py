"""The processes of one run, as one of them sees them: what they add up, agree on, and report together."""

from __future__ import annotations

import contextlib
import math
import os
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from mmap import mmap
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pytest_smoke.errors import TaskError
from pytest_smoke.events import (
    Abort,
    BatchDigest,
    BatchSizes,
    Command,
    Continue,
    DrawnSamples,
    EndAfterStage,
    Ended,
    Event,
    Finish,
    LearningRateDiffers,
    LossDiagnosis,
    StageEnded,
    UnusedParameters,
)
from pytest_smoke.train.channel import CHUNK_SECONDS, CHUNK_STEPS, Channel
from pytest_smoke.train.digest import digest
from pytest_smoke.train.sharding import is_sharded

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
"""Network interface of a machine's connections with itself."""
WAIT = timedelta(days=7)
"""Time that a rank waits for another one. The pytest process notices a run that makes no progress, and ends it."""
COUNTER = struct.Struct("Q")
"""A rank's counter in the memory that all ranks share with the process that started them."""
COMMANDS: tuple[type[Any], ...] = (Continue, Finish, EndAfterStage, Abort)
LOOKS = 8
"""First steps of each stage and phase in which a rank looks for parameters without a gradient. A branch that depends on
the batch and is taken in half of them is taken in all of 8 in 1 of 256 cases."""
SHOWN_NAMES = 3
"""Parameters without a gradient that are named."""
OF_EVERY_RANK = (DrawnSamples, LearningRateDiffers, BatchSizes, LossDiagnosis, BatchDigest, UnusedParameters)
"""Events of which every rank has its own; of all others those of rank 0 are reported."""


class Ranks:
    """The processes of a run: this one is number `rank` of `size`.

    Metrics are added up at the end of a chunk, with one all-reduce on the host, which also carries the command that
    rank 0 got and the length of the next chunk: so all ranks do the same at the same step. Gradients are averaged by
    DistributedDataParallel, or by FSDP2 (`Sharding`). Every rank must call these methods in the same order.
    """

    def __init__(self, rank: int, size: int, device: torch.device, counters: mmap) -> None:
        """Join the other ranks, which waits for them. The address is in the environment, as torchrun sets it."""
        self.rank, self.size = rank, size
        self._counters, self._entered = counters, 0
        self.enter()
        # One address of this machine, which needs no name and no network.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=WAIT)
        self._has_warned = False
        """Whether DistributedDataParallel has printed its only warning."""
        self._command: Command | None = None
        self._flushed_at, self._steps_since, self._chunk = time.perf_counter(), 0, 1
        self.poll: Callable[[], Command | None] = lambda: None
        """Returns a command that has arrived; on rank 0."""
        self.outbox: list[Event | StepSources] = []
        """What this rank has of its own, and rank 0 has not got yet."""
        self.report: Callable[[list[Event]], None] = lambda events: None
        """Reports events to the pytest process; on rank 0."""
        self.together = Together(size)
        self.needs_sources = True
        """Whether rank 0 needs further samples, as far as this rank knows."""
        self.is_not_finite: bool | None = None
        """Whether this rank's part of the first total that was not finite was not finite either; None before one."""
        self._unused: dict[str, None] = {}
        """Names of parameters that a pass of this rank did not use, which are reported."""

    def enter(self) -> None:
        """Count that this rank is about to wait for the others: one that hangs has entered fewer times than they."""
        self._entered += 1
        COUNTER.pack_into(self._counters, self.rank * COUNTER.size, self._entered)

    def totals(self, counts: Sequence[float]) -> list[float]:
        """Return the sums over all ranks."""
        self.enter()
        summed = torch.tensor(counts, dtype=torch.float64, device="cpu")  # whatever the task's default device is
        dist.all_reduce(summed)
        return summed.tolist()

    def barrier(self) -> None:
        """Wait for all ranks, on the host."""
        self.totals([0.0])

    def parallel(
        self, losses: Callable[..., list[Tensor]], parameters: nn.Module, *, in_step: bool
    ) -> Callable[..., list[Tensor]]:
        """Return `losses` so that the backward pass of its result averages gradients over the ranks.

        With `synchronized=False` it does not, and the gradients are added to those of the next pass. `parameters` holds
        what trains. `in_step`: whether the ranks have the same values already; else they get those of rank 0.
        """
        sharded = next((name for name, p in parameters.named_parameters() if is_sharded(p)), "")
        if sharded:
            raise TaskError(
                f"the parameter {sharded.partition('.')[2]} is sharded, and DistributedDataParallel needs whole "
                "parameters: call fully_shard in the task's parallelize(model, mesh), and nowhere else",
                key="launch",
            )
        module = _Losses(losses, parameters)
        self.enter()
        if not self._has_warned:
            self._has_warned = True
            _silence_unused_warning()
        data_parallel = DistributedDataParallel(module, find_unused_parameters=True, init_sync=not in_step)
        trained = {name.partition(".")[2]: p for name, p in parameters.named_parameters() if p.requires_grad}
        looks = 1 if in_step else LOOKS  # after a gradient probe, the same parameters train

        def call(*args: Any, synchronized: bool) -> list[Tensor]:
            nonlocal looks
            self.enter()
            with contextlib.nullcontext() if synchronized else data_parallel.no_sync():
                result: list[Tensor] = data_parallel(*args)
            if synchronized and looks and not module.is_constant:
                looks -= 1
                self._look_for_unused(result, trained)
            self.enter()
            return result

        return call

    def _look_for_unused(self, losses: Sequence[Tensor], trained: Mapping[str, Tensor]) -> None:
        """Report parameters that the backward pass of `losses` will not reach; reads no value of the device."""
        used = leaves_of(losses)
        new = [name for name, p in trained.items() if id(p) not in used and name not in self._unused]
        if new:
            self._unused |= dict.fromkeys(new)
            names = tuple(self._unused)
            self.outbox.append(UnusedParameters(rank=self.rank, names=names[:SHOWN_NAMES], count=len(names)))

    def add_up(self, gradients: Iterable[list[Tensor | None]], parameters: Sequence[Tensor]) -> None:
        """Replace gradients by their sums over the ranks, in place; None where no rank has one."""
        for row in gradients:
            self.enter()
            present = torch.tensor([gradient is not None for gradient in row], dtype=torch.int32, device="cpu")
            dist.all_reduce(present)
            for at, ranks in enumerate(present.tolist()):
                gradient = row[at]
                if ranks:
                    total = torch.zeros_like(parameters[at]) if gradient is None else gradient.contiguous().clone()
                    dist.all_reduce(total)
                    row[at] = total

    def ends_chunk(self, step: int) -> bool:
        """Count a step that was made; tell whether all ranks report after it."""
        self._steps_since += 1
        return step == 0 or self._steps_since >= self._chunk or (step + 1) % CHUNK_STEPS == 0

    def across(self, values: Sequence[float], is_partial: Sequence[bool]) -> list[float]:
        """Return the values of rank 0, and the sums over the ranks of those that are partial.

        One all-reduce, which also tells the ranks of a command, of events to collect, and when to report next.
        """
        if self._command is None and self.rank == 0:
            self._command = self.poll()
        steps, seconds = self._steps_since, time.perf_counter() - self._flushed_at
        affordable = int(CHUNK_SECONDS * steps / seconds) if seconds > 0 else CHUNK_STEPS
        chunk = max(1, min(affordable, 2 * self._chunk, CHUNK_STEPS))
        own = [value if partial or self.rank == 0 else 0.0 for value, partial in zip(values, is_partial, strict=True)]
        is_first = self.rank == 0
        agreed = [*encoded(self._command), chunk, float(self.together.needs_sources)] if is_first else [0.0] * 4
        summed = self.totals([*own, float(bool(self.outbox)), *agreed])
        *reduced, outboxes, kind, step, agreed_chunk, needs_sources = summed
        if self.is_not_finite is None:
            broken = (at for at, total in enumerate(reduced) if is_partial[at] and not math.isfinite(total))
            if (first := next(broken, None)) is not None:
                self.is_not_finite = not math.isfinite(own[first])
        self._command, self._chunk, self.needs_sources = decoded(kind, step), int(agreed_chunk), bool(needs_sources)
        self._flushed_at, self._steps_since = time.perf_counter(), 0
        if outboxes:
            self.collect()
        return reduced

    def collect(self) -> None:
        """Bring the events of all ranks to rank 0."""
        own, self.outbox = self.outbox, []
        if (found := self.gather(own)) and (events := self.together.add(found)):
            self.report(events)

    def gather(self, own: Any) -> list[Any]:
        """Return what each rank has, on rank 0; an empty list on the others."""
        self.enter()
        found: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(own, found)
        return found or []

    def tell(self, value: Any) -> Any:
        """Return the value that rank 0 has."""
        self.enter()
        found = [value]
        dist.broadcast_object_list(found, src=0)
        return found[0]

    def command(self) -> Command | None:
        """Return the command that came with the newest report, once; None without one."""
        command, self._command = self._command, None
        return command

    def wait(self, receive: Callable[[], Command]) -> Command:
        """Return the next command, which rank 0 receives."""
        command = self.command()
        while command is None:
            self.enter()
            code = torch.tensor(encoded(receive() if self.rank == 0 else None), dtype=torch.float64, device="cpu")
            dist.broadcast(code, src=0)
            command = decoded(*code.tolist())
        return command


class _Losses(nn.Module):
    """Makes of a function a module, which DistributedDataParallel needs."""

    def __init__(self, losses: Callable[..., list[Tensor]], parameters: nn.Module) -> None:
        super().__init__()
        self._losses, self.held = losses, parameters
        self.is_constant = False
        """Whether no term of the newest pass had a gradient of its own."""

    def forward(self, *args: Any) -> list[Tensor]:
        """Return the terms; one of them has a gradient, because the other ranks wait for this one's."""
        losses = self._losses(*args)
        self.is_constant = not any(loss.requires_grad for loss in losses)
        if torch.is_grad_enabled() and self.is_constant:
            anchor = next(p for p in self.held.parameters() if p.requires_grad)
            losses = [losses[0] + 0.0 * anchor.flatten()[0], *losses[1:]]
        return losses


def leaves_of(losses: Iterable[Tensor]) -> set[int]:
    """Return the ids of the parameters that a backward pass of `losses` gives a gradient, as autograd will."""
    to_visit = [loss.grad_fn for loss in losses if loss.grad_fn is not None]
    seen, leaves = set(to_visit), {id(loss) for loss in losses if loss.is_leaf}
    while to_visit:
        node = to_visit.pop()
        if (leaf := getattr(node, "variable", None)) is not None:
            leaves.add(id(leaf))
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                to_visit.append(following)
    return leaves


def _silence_unused_warning() -> None:
    """Discard what DistributedDataParallel prints if it looks for unused parameters and finds none.

    C++ prints that once per process, past Python's warnings. It does not with a parameter that is never used; but then
    the host would wait for the device in every step, to learn whether another rank has used it.
    """
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        model = DistributedDataParallel(nn.Linear(1, 1, device="cpu"), find_unused_parameters=True)
        model(torch.zeros(1, 1, device="cpu"))
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def is_first(ranks: Ranks | None) -> bool:
    """Tell whether this process writes what a run writes once. `ranks`: the processes of the run; None for one."""
    return ranks is None or ranks.rank == 0


class RankChannel:
    """The channel of one rank. Rank 0 reports, and what every rank has of its own is put together before."""

    def __init__(self, ranks: Ranks, channel: Channel | None) -> None:
        """`channel` leads to the pytest process; None on other ranks than 0."""
        self._ranks, self._channel = ranks, channel
        if channel is not None:
            ranks.poll, ranks.report = channel.poll, channel.send

    def send(self, events: list[Event]) -> None:
        """Report events on rank 0, and keep those of every rank until they are collected.

        At the end of a stage or of the run, which all ranks reach together, they are.
        """
        kept = [event for event in events if isinstance(event, OF_EVERY_RANK)]
        at_fault = self._ranks.rank if self._ranks.is_not_finite else None
        self._ranks.outbox += [replace(e, rank=at_fault) if isinstance(e, LossDiagnosis) else e for e in kept]
        if any(isinstance(event, StageEnded | Ended) for event in events):
            self._ranks.collect()
        self._ranks.report([event for event in events if not isinstance(event, OF_EVERY_RANK)])

    def poll(self) -> Command | None:
        """Return the command on which all ranks have agreed; None without one."""
        return self._ranks.command()

    def wait(self) -> Command:
        """Wait for a command, which all ranks get."""
        return self._ranks.wait(self._receive)

    def begin(self, step: int) -> None:
        """Do nothing: the ranks have counters of their own."""

    def _receive(self) -> Command:
        assert self._channel is not None, "only rank 0 receives"
        return self._channel.wait()


@dataclass(frozen=True, slots=True)
class StepSources:
    """The samples by source in one rank's micro-batches of a step."""

    step: int
    micro_batches: tuple[Mapping[str, int], ...]


class SourceCounting(Protocol):
    """Counts the sources of samples, and decides when there are enough of them."""

    is_active: bool

    def add(self, step: int, micro_batches: Iterable[Mapping[str, int]]) -> Event | None:
        """Count one step's micro-batches; return an event if there is enough to judge."""


class Together:
    """Puts together what every rank of a run reports of its own."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.sources: SourceCounting | None = None
        """Counts the sources of all ranks; None if they are not known."""
        self._sources: dict[int, dict[int, StepSources]] = defaultdict(dict)
        self._samples: dict[int, dict[int, DrawnSamples]] = defaultdict(dict)
        self._digests: dict[int, dict[int, BatchDigest]] = defaultdict(dict)
        self._off: set[str] = set()
        """Stages in which a rank drew another number of samples."""

    def state_dict(self) -> dict[str, Any]:
        """Return as builtins what a resumed run needs, after `add` of the events of all ranks at one step."""
        return {"off": sorted(self._off)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._off = set(state["off"])

    @property
    def needs_sources(self) -> bool:
        """Whether the sources of further samples are needed."""
        return self.sources is not None and self.sources.is_active

    def add(self, events: Sequence[Sequence[Event | StepSources]]) -> list[Event]:
        """Take in what is new by rank; return the events that can be reported."""
        drawn = [(rank, event) for rank, own in enumerate(events) for event in own]
        for rank, event in drawn:
            if isinstance(event, DrawnSamples):
                self._samples[event.step][rank] = event
            elif isinstance(event, StepSources):
                self._sources[event.step][rank] = event
            elif isinstance(event, BatchDigest):
                self._digests[event.step][rank] = event
        found: list[Event] = [
            DrawnSamples(step=step, micro_batches=self._in_turn(self._samples.pop(step)))
            for step in self._complete(self._samples)
        ]
        for step in self._complete(self._digests):
            digests = self._digests.pop(step)
            found.append(BatchDigest(step, digest([digests[rank].digest for rank in range(self._size)])))
        for step in self._complete(self._sources):
            micro_batches = self._in_turn(self._sources.pop(step))
            if self.sources is not None and (counts := self.sources.add(step, micro_batches)) is not None:
                found.append(counts)
        rates = [(rank, event) for rank, event in drawn if isinstance(event, LearningRateDiffers)]
        all_the_same = len(rates) == self._size and len({event for _, event in rates}) == 1
        found += [rates[0][1]] if all_the_same else [replace(event, rank=rank) for rank, event in rates]
        found += [event for _, event in drawn if isinstance(event, UnusedParameters)]
        found += self._sizes([(rank, event) for rank, event in drawn if isinstance(event, BatchSizes)])
        diagnoses = [(rank, event) for rank, event in drawn if isinstance(event, LossDiagnosis)]
        if diagnoses:
            placed = self._placed(*min(diagnoses, key=lambda pair: pair[1].kind == "not-reproduced"))
            at_fault = {event.rank for _, event in diagnoses if event.rank is not None}
            only = at_fault.pop() if len(at_fault) == 1 and self._size > 1 and not placed.is_probe else None
            found.append(replace(placed, rank=only))
        return found

    def _complete(self, by_step: Mapping[int, Mapping[int, Any]]) -> list[int]:
        """Return the steps of which every rank has reported its part."""
        return sorted(step for step, by_rank in by_step.items() if len(by_rank) == self._size)

    def _in_turn(self, by_rank: Mapping[int, Any]) -> tuple[Any, ...]:
        """Return the micro-batches of all ranks in turn, as one process draws them."""
        rows = zip(*(by_rank[rank].micro_batches for rank in range(self._size)), strict=False)
        return tuple(batch for row in rows for batch in row)

    def _sizes(self, events: Sequence[tuple[int, BatchSizes]]) -> list[Event]:
        """Return the samples of all ranks together, or those of the ranks that drew another number than the others."""
        new = [(rank, event) for rank, event in events if event.stage not in self._off]
        self._off |= {event.stage for _, event in new if event.samples != event.declared}
        if len(new) == self._size and len({event.samples for _, event in new}) == 1:
            event = max((event for _, event in new), key=lambda event: event.steps_off)
            return [replace(event, declared=event.declared * self._size, samples=event.samples * self._size)]
        return [
            replace(event, rank=rank)
            for rank, event in new
            if event.samples != event.declared or event.steps_off or event.problem
        ]

    def _placed(self, rank: int, event: LossDiagnosis) -> LossDiagnosis:
        """Return a diagnosis with the index of the micro-batch among those of all ranks."""
        if event.is_probe:
            return event
        index = event.micro_batch * self._size + rank
        return replace(event, micro_batch=index, micro_batches=event.micro_batches * self._size)


def encoded(command: Command | None) -> tuple[float, float]:
    """Return a command, or none, as two numbers that an all-reduce can carry."""
    if command is None:
        return 0.0, 0.0
    step = command.last_good_step if isinstance(command, Abort) else None
    return COMMANDS.index(type(command)) + 1.0, 0.0 if step is None else step + 1.0


def decoded(kind: float, step: float) -> Command | None:
    """Return the inverse of `encoded`."""
    if not kind:
        return None
    made = COMMANDS[int(kind) - 1]
    command: Command = Abort(int(step) - 1 if step else None) if made is Abort else made()
    return command
