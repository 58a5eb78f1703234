"""What tests of the training loop share: plans, tasks in double precision for tight tolerances, a channel."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from mmap import mmap
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from pytest_smoke.events import Abort, Command, Event, Finish, Step
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.ranks import COUNTER, LOOPBACK, Ranks


def make_plan(**changes: Any) -> RunPlan:
    """Return a plan of twenty steps on the CPU, with the given changes."""
    settings = {"learning_rate": 0.1, "lr_schedule": "constant", "warmup_steps": 0, "max_steps": 20, "run_steps": 20}
    settings |= {key: changes.pop(key) for key in list(changes) if key in settings}
    steps = settings.pop("run_steps")
    weights = changes.get("loss_weights", {})
    defaults: dict[str, Any] = {
        "stages": (Stage(steps=steps, loss_weights=weights, **settings),),
        "task": "nowhere:Task",
        "args": {},
        "root": ".",
        "batch_size": 8,
        "micro_batches": 1,
        "world_size": 1,
        "precision": "fp32",
        "grad_clip_norm": None,
        "loss_weights": {},
        "seed": 0,
        "device": "cpu",
        "cpu_threads": 1,
        "evaluate_every_steps": None,
    }
    return RunPlan(**{**defaults, **changes})


@pytest.fixture
def plan() -> Callable[..., RunPlan]:
    """Return `make_plan`."""
    return make_plan


def joined(device: torch.device) -> Iterator[Ranks]:
    """Yield the only process of a run, connected with itself."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"}.items():
            patch.setenv(name, value)
        patch.setenv("GLOO_SOCKET_IFNAME", LOOPBACK)
        yield Ranks(0, 1, device, mmap(-1, COUNTER.size))
        dist.destroy_process_group()


class RecordingChannel:
    """Keeps all events. Answers `wait` with `commands` in turn and then with Finish; aborts once a step has arrived."""

    def __init__(self, *commands: Command, abort_after: int | None = None, last_good_step: int | None = 0) -> None:
        self.events: list[Event] = []
        self.commands = list(commands)
        self.abort_after, self.last_good_step = abort_after, last_good_step

    def send(self, events: list[Event]) -> None:
        self.events += events

    def poll(self) -> Command | None:
        if self.abort_after is not None and any(step.step >= self.abort_after for step in self.of(Step)):
            return Abort(self.last_good_step)
        return None

    def wait(self) -> Command:
        return self.poll() or (self.commands.pop(0) if self.commands else Finish())

    def begin(self, step: int) -> None: ...

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Pair:
    """Two loss terms over a shared layer; only the second one has a gradient in the layer `own`."""

    loss_weights: Mapping[str, float] = {"second": 0.5}

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.dtype = dtype

    def model(self) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        model = nn.ModuleDict({"shared": nn.Linear(3, 4), "own": nn.Linear(4, 1)}).to(self.dtype)
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
        return model

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(seed + rank)
        while True:
            yield torch.randn(batch_size, 3, generator=generator, dtype=torch.float64).to(self.dtype)

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        hidden = model["shared"](batch).tanh()
        return {"first": hidden.square().mean(), "second": (model["own"](hidden) - 1).square().mean()}


class Tokens(Pair):
    """Batches are (values [B, 3], weights 0 or 1 [B]); the term `nll` is a mean over the values of weight 1."""

    loss_weights: Mapping[str, float] = {}

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        values, counted = batch
        each = model["own"](model["shared"](values).tanh()).squeeze(-1).square()
        return {"nll": (each * counted).sum() / counted.sum(), "all": each.mean()}

    def counts(self, batch: Any) -> Mapping[str, float]:
        return {"nll": float(batch[1].sum()), "all": float(len(batch[1]))}


@pytest.fixture
def pair() -> Pair:
    """Return the task with two loss terms."""
    return Pair()


@pytest.fixture
def tokens() -> Tokens:
    """Return the task whose micro-batches average over different numbers of items."""
    return Tokens()


@contextmanager
def host_must_not_wait() -> Iterator[None]:
    """Raise RuntimeError where the host waits for the CUDA device in the block, as far as torch notices it."""
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype feature", UserWarning)
        try:
            torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
