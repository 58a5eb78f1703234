"""Our loop, with everything recorded and judged, against a bare torch loop of the same task; interleaved.

    python benchmarks/loop.py [--rounds 7]

Prints the ratio of their times per step, median and range over the rounds, for two sizes of step.
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

from pytest_smoke.events import Abort, Event
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.train.loop import Loop
from pytest_smoke.train.plan import RunPlan

SIZES = {"small step": (64, 64, 64, 4000), "large step": (256, 512, 256, 2000)}
"""Name: features, width, batch, steps."""


class Task:
    """Regression with an MLP on one fixed batch, so that drawing data costs nothing in either loop."""

    def __init__(self, features: int, width: int, batch: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batch = torch.randn(batch, features, generator=generator), torch.randn(batch, 1, generator=generator)
        self.features, self.width = features, width

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(self.features, self.width), nn.Tanh(), nn.Linear(self.width, 1))

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        while True:
            yield self.batch

    def probe_batch(self) -> Any:
        return self.batch

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        return {"mse": F.mse_loss(model(batch[0]), batch[1])}


def bare(task: Task, steps: int) -> float:
    """Seconds a step of the loop anybody would write, clipping included."""
    model = task.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=False)
    batches = task.batches(0, seed=0)
    began = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = task.losses(model, next(batches))["mse"]
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return (time.perf_counter() - began) / steps


class Judged:
    """A channel straight into the judge."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor

    def send(self, records: list[Event]) -> None:
        self.monitor.receive(records)

    def poll(self, *, wait: bool = False) -> Abort | None:
        return None


def ours(task: Task, steps: int) -> float:
    """Seconds a step of the rehearsal: schedule, records, probes, checkpoints and the judge in the same process."""
    settings = {"batch_size": 1, "learning_rate": 1e-3, "max_steps": steps, "grad_clip_norm": 1.0}
    recipe = Recipe.model_validate({"task": "a:B", "full": settings, "smoke": {"max_steps": steps}})
    case = Case(path="a", recipe=recipe, mode="constant")
    plan = RunPlan.of(case, root=".", device="cpu")
    loop = Loop(plan, task, torch.device("cpu"), Judged(RunMonitor(case, early_stop=False)))
    began = time.perf_counter()
    loop.run()
    return (time.perf_counter() - began) / steps


def main() -> None:
    """Run and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("| step | bare loop, ms | ours / bare, median (range) |\n|---|---|---|")
    for name, (features, width, batch, steps) in SIZES.items():
        task = Task(features, width, batch)
        bare(task, steps // 10)
        ours(task, steps // 10)
        pairs = [(bare(task, steps), ours(task, steps)) for _ in range(rounds)]
        ratios = sorted(b / a for a, b in pairs)
        milliseconds = 1e3 * median(a for a, _ in pairs)
        print(f"| {name} | {milliseconds:.2f} | {median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}) |")


if __name__ == "__main__":
    main()
