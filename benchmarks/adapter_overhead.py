"""Compare smoke runs of a Hugging Face Trainer and of a LightningModule with the same trainers alone.

    python benchmarks/adapter_overhead.py [--rounds 3] [--steps 600]

Both train alternately, in one process, in CPU time. Prints a Markdown table: the ratio of their times, median and range
over the rounds. A smoke run scores its probe batch about 40 times, so the ratio is smaller for longer runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from pytest_smoke.events import Command, Event, Finish
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.train.adapters import hf, lightning
from pytest_smoke.train.plan import RunPlan

sys.path.insert(0, str(Path(__file__).parents[1]))
FACTORIES = {
    "hf": "tests.train.adapters.hf_trainers:trainer",
    "lightning": "tests.train.adapters.lightning_modules:plain",
}
CPU = torch.device("cpu")


class MonitorChannel:
    """Hands events straight to the monitor, and never stops the run."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor

    def send(self, events: list[Event]) -> None:
        """Judge them."""
        self.monitor.on_events(events)

    def poll(self) -> Command | None:
        """Return nothing yet."""
        return None

    def wait(self) -> Command:
        """End the run."""
        return Finish()


def case_of(key: str, steps: int) -> Case:
    """Return the case of a recipe that trains with `key`, with the settings of its full run."""
    recipe = Recipe.model_validate({key: FACTORIES[key], "smoke": {"max_steps": steps}})
    case = Case(path="a.smoke.yaml", recipe=recipe, mode="constant")
    module = {"hf": hf, "lightning": lightning}[key]
    return case.with_read(module.describe(RunPlan.of(case, root=".", device="cpu"), CPU))


def smoke_run(key: str, case: Case) -> float:
    """Return the CPU seconds of a smoke run, without building the trainer."""
    plan = RunPlan.of(case, root=".", device="cpu")
    channel: Any = MonitorChannel(RunMonitor(case, early_stop=False))
    if key == "hf":
        run: Any = hf._Run(plan, CPU, channel, hf.build(plan, CPU))
    else:
        run = lightning._Run(plan, CPU, channel, lightning.build(plan))
    return timed(run.run)


def alone(key: str, case: Case) -> float:
    """Return the CPU seconds of the same trainer with the same schedule and length."""
    plan = RunPlan.of(case, root=".", device="cpu")
    if key == "hf":
        trainer = hf.build(plan, CPU)
        hf._Run(plan, CPU, MonitorChannel(RunMonitor(case, early_stop=False)), trainer)  # sets the arguments
        return timed(trainer.train)
    parts = lightning.build(plan)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = parts.package.Trainer(
        max_steps=plan.run_steps,
        max_epochs=-1,
        accelerator="cpu",
        devices=1,
        accumulate_grad_batches=plan.micro_batches,
        gradient_clip_val=plan.grad_clip_norm,
        limit_val_batches=0,
        **quiet,
    )
    return timed(lambda: trainer.fit(parts.module, train_dataloaders=parts.data))


def timed(run: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call."""
    began = time.process_time()
    run()
    return time.process_time() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| trainer | alone, ms a step | smoke run / alone, median (range) |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where the trainers make their folders
        for key in FACTORIES:
            case = case_of(key, args.steps)
            pairs = [(smoke_run(key, case), alone(key, case)) for _ in range(args.rounds)]
            ratios = [ours / theirs for ours, theirs in pairs]
            each = 1000 * median(theirs for _, theirs in pairs) / args.steps
            print(f"| {key} | {each:.1f} | {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |")


if __name__ == "__main__":
    main()
