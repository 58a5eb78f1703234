"""Compare the training loop of a smoke run with a bare torch loop of the same task.

    python benchmarks/loop_overhead.py [--rounds 7] [--device cuda]

The loops run alternately, on one thread. Prints a Markdown table: the ratio of their times per step, median and range
over the rounds, for each size of step. On a CPU it is CPU time, which depends less than wall time on what else the
machine does; on a GPU it is wall time until the device has finished.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pytest_smoke.events import Command, Event, Finish
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.train.loop import Loop
from pytest_smoke.train.plan import RunPlan

SIZES = {
    "cpu": {"small step": (64, 64, 64, 4000), "large step": (256, 512, 256, 2000)},
    "cuda": {
        "small step": (64, 64, 64, 4000),
        "medium step": (1024, 8192, 4096, 1000),
        "large step": (2048, 16384, 4096, 200),
    },
}
"""Features, width, batch size and steps, by device and name."""


class Task:
    """Regression with an MLP on one fixed batch, so that neither loop spends time on data."""

    def __init__(self, features: int, width: int, batch_size: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(batch_size, features, generator=generator)
        self.batch = inputs.to(device), torch.randn(batch_size, 1, generator=generator).to(device)
        self.device = device
        self.features, self.width = features, width

    def model(self) -> nn.Module:
        """Return the same initial weights every time."""
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(self.features, self.width), nn.Tanh(), nn.Linear(self.width, 1))

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Repeat the batch, whatever the arguments are."""
        while True:
            yield self.batch

    def probe_batch(self) -> Any:
        """Return the same batch."""
        return self.batch

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        """Return the mean squared error."""
        return {"mse": F.mse_loss(model(batch[0]), batch[1])}


def clock(device: torch.device) -> float:
    """Return the time in seconds: CPU time, or wall time after all work of a GPU."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def bare_loop(task: Task, steps: int) -> float:
    """Train in a plain torch loop with clipping; return the seconds per step."""
    model = task.model().to(task.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=task.device.type == "cuda")
    batches = task.batches(0, seed=0)
    began = clock(task.device)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = task.losses(model, next(batches))["mse"]
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return (clock(task.device) - began) / steps


class MonitorChannel:
    """Hands events straight to the monitor, and never stops the run."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor

    def send(self, events: list[Event]) -> None:
        """Judge the events."""
        self.monitor.on_events(events)

    def poll(self) -> Command | None:
        """Return no command."""
        return None

    def wait(self) -> Command:
        """End the run after its last step."""
        return Finish()

    def begin(self, step: int) -> None:
        """Do nothing."""


def smoke_loop(task: Task, steps: int) -> float:
    """Train as a smoke run, with events, probe batch, checkpoints and judge; return the seconds per step."""
    settings = {"batch_size": len(task.batch[0]), "learning_rate": 1e-3, "max_steps": steps, "grad_clip_norm": 1.0}
    recipe = Recipe.model_validate({"task": "a:B", "full": settings, "smoke": {"max_steps": steps}})
    case = Case(path="a", recipe=recipe, mode="constant")
    plan = RunPlan.of(case, root=".", device=task.device.type)
    loop = Loop(plan, task, task.device, MonitorChannel(RunMonitor(case, early_stop=False)))
    began = clock(task.device)
    loop.run()
    return (clock(task.device) - began) / steps


def main() -> None:
    """Run the benchmark and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="runs of each loop (default 7)")
    parser.add_argument("--device", choices=SIZES, default="cpu", help="device to train on (default cpu)")
    args = parser.parse_args()
    rounds, device = args.rounds, torch.device(args.device)
    torch.set_num_threads(1)
    print("| step | bare loop, ms | smoke run / bare loop, median (range) |\n|---|---|---|")
    for name, (features, width, batch_size, steps) in SIZES[args.device].items():
        task = Task(features, width, batch_size, device)
        bare_loop(task, steps // 10)
        smoke_loop(task, steps // 10)
        pairs = [(bare_loop(task, steps), smoke_loop(task, steps)) for _ in range(rounds)]
        ratios = sorted(smoke / bare for bare, smoke in pairs)
        milliseconds = 1e3 * median(bare for bare, _ in pairs)
        print(f"| {name} | {milliseconds:.2f} | {median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}) |")


if __name__ == "__main__":
    main()
