"""Compare a torch loop that is recorded with the same loop that is not.

    python benchmarks/recorder_overhead.py [--rounds 7]

The loops run alternately. Prints a Markdown table for two sizes of step: the ratio of their times per step, median and
range over the rounds, the ratio of the fastest rounds, and the time of one `Recorder.step` in microseconds. The loss of
both loops is read as a number at each step.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.nn import functional as F

from pytest_smoke import Recorder

SIZES = {"small step": (64, 64, 64, 1500), "large step": (256, 512, 256, 500)}
"""Features, width, batch size and steps, by name."""


in_step: list[float] = []
"""Seconds in each call of `Recorder.step`."""


def loop(size: tuple[int, int, int, int], run: Recorder | None) -> float:
    """Train an MLP on one batch; return the CPU seconds per step, which other processes change less than the time."""
    features, width, batch_size, steps = size
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    inputs, targets = torch.randn(batch_size, features), torch.randn(batch_size, 1)
    began = time.process_time()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = F.mse_loss(model(inputs), targets)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        value = loss.item()
        if run is not None:
            before = time.perf_counter()
            run.step(loss=value, terms={"mse": value}, grad_norm=norm, optimizer=optimizer)
            in_step.append(time.perf_counter() - before)
    return (time.process_time() - began) / steps


def recorded(size: tuple[int, int, int, int], folder: Path) -> float:
    """Train and record."""
    with Recorder(folder / "run.jsonl", planned_steps=size[-1], learning_rate=1e-3) as run:
        return loop(size, run)


def main() -> None:
    """Run the benchmark and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="runs of each loop (default 7)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("| step | bare loop, ms | recorded / bare loop, median (range) | fastest rounds | Recorder.step, us |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            pairs = [(loop(size, None), recorded(size, Path(folder))) for _ in range(rounds + 1)][1:]
            ratios = sorted(with_recorder / bare for bare, with_recorder in pairs)
            milliseconds = 1e3 * median(bare for bare, _ in pairs)
            fastest = min(pair[1] for pair in pairs) / min(pair[0] for pair in pairs)
            spread = f"{median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
            print(f"| {name} | {milliseconds:.2f} | {spread} | {fastest:.3f} | {1e6 * median(in_step):.0f} |")
            in_step.clear()


if __name__ == "__main__":
    main()
