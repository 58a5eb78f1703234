"""Compare two equal smoke runs at the same time, in two workers of pytest-xdist, with one after the other.

    python benchmarks/two_runs.py [--seconds 60 20 5] [--pairs 3]

Each pair runs `pytest --smoke` and `pytest --smoke -n 2` on the same two recipes, in turn the one or the other first,
and must give the same verdicts and curves. Times are those of whole sessions, from the start of Python to its end: to
import torch takes seconds that no second worker can save. The last column is what the machine allows: the same training
in two bare processes that have imported torch, at the same time and one after the other. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

TASK = """
import torch
from torch import nn
from torch.nn import functional as F


class Teacher:
    def model(self):
        return nn.Sequential(nn.Linear(16, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 4))

    def batches(self, batch_size, *, seed, rank=0, world_size=1):
        teacher = torch.randn(16, 4, generator=torch.Generator().manual_seed(7))
        generator = torch.Generator().manual_seed(1000 * seed + rank)
        while True:
            points = torch.randn(batch_size, 16, generator=generator)
            yield {"points": points, "labels": (points @ teacher).argmax(1)}

    def losses(self, model, batch):
        return {"ce": F.cross_entropy(model(batch["points"]), batch["labels"])}


def train(steps):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = Teacher()
    model = task.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _, batch in zip(range(steps), task.batches(256, seed=0)):
        optimizer.zero_grad()
        task.losses(model, batch)["ce"].backward()
        optimizer.step()
"""
RECIPE = """\
task: teacher:Teacher
full: {{batch_size: 256, learning_rate: 1.0e-3, max_steps: 100000}}
smoke: {{max_steps: {steps}}}
"""
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
"""Environment variables: no other plugins that are installed; one thread, as a smoke run on a CPU has; and bytecode is
cached, as that of any installed package."""
BARE_SECONDS = 10.0
"""Longest training of a bare process: more steps would not show more."""
TRIAL_STEPS = 300
"""Steps of the bare loop that the time of a step is measured with."""


def session(folder: Path, *options: str) -> float:
    """Run pytest in `folder`, and return its wall time in seconds. Raises CalledProcessError if it could not run.

    A run may be too short for a verdict, with which pytest ends with status 1: what counts is that both sessions agree.
    """
    plugins = ["-p", "verdict_smoke", "-p", "xdist", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *plugins, "--smoke", "--smoke-device", "cpu", "-q"]
    environment = {**os.environ, **ALONE, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    began = time.perf_counter()
    ended = subprocess.run([*command, *options], cwd=folder, env=environment, check=False, capture_output=True)
    seconds = time.perf_counter() - began
    if ended.returncode not in (0, 1):
        ended.check_returncode()
    return seconds


def verdicts(report: Path) -> list[Any]:
    """Return what a report says of each run, but for times."""
    outcomes = json.loads((report / "verdicts.json").read_text())["outcomes"]
    return [[one["id"], one["verdict"], one["curve"], one["facts"]["steps"]] for one in outcomes]


def bare(folder: Path, steps: int, *, at_once: bool) -> float:
    """Train in two bare processes, and return the wall time in seconds once both have imported torch."""
    code = f"import time, teacher; print(flush=True); input(); began = time.perf_counter(); teacher.train({steps})"
    code += "; print(time.perf_counter() - began)"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    if at_once:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return max(float(process.communicate()[0]) for process in processes)
    return sum(float(process.communicate("\n")[0]) for process in processes)


def seconds_per_step(folder: Path) -> float:
    """Return the wall time of a step of the bare loop."""
    code = f"import time, teacher; teacher.train(20); b = time.perf_counter(); teacher.train({TRIAL_STEPS})"
    command = [sys.executable, "-c", f"{code}; print(time.perf_counter() - b)"]
    return float(subprocess.check_output(command, cwd=folder, text=True)) / TRIAL_STEPS


def spread(values: list[float]) -> str:
    """Format a median and its range."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def compare(folder: Path, seconds: float, *, pairs: int) -> str:
    """Return a row of the table for runs that take about `seconds`."""
    per_step = seconds_per_step(folder)
    steps = max(200, round(seconds / per_step))
    short = min(steps, round(BARE_SECONDS / per_step))
    for name in "ab":
        (folder / f"{name}.smoke.yaml").write_text(RECIPE.format(steps=steps))
    alone, together, limits = [], [], []
    session(folder, "-n", "2", "--smoke-preflight")  # compiles the bytecode
    for pair in range(pairs):
        for at_once in (False, True) if pair % 2 == 0 else (True, False):
            if at_once:
                together.append(session(folder, "--smoke-report", "together", "-n", "2"))
            else:
                alone.append(session(folder, "--smoke-report", "alone"))
        one, other = verdicts(folder / "alone"), verdicts(folder / "together")
        assert one == other, "the two sessions differ in more than their times"
        limits.append(bare(folder, short, at_once=False) / bare(folder, short, at_once=True))
    ratios = [first / second for first, second in zip(alone, together, strict=True)]
    return (
        f"| {seconds:g} s, {steps} steps | {median(alone):.1f} s | {median(together):.1f} s | {spread(ratios)} | "
        f"{spread(limits)} |"
    )


def main() -> None:
    """Run the benchmark and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs="+", default=[60, 20, 5], help="of training per run")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of sessions for each length (default 3)")
    args = parser.parse_args()
    print("| each run | one after the other | `-n 2` | ratio | two bare processes |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "teacher.py").write_text(TASK)
        for seconds in args.seconds:
            print(compare(folder, seconds, pairs=args.pairs), flush=True)


if __name__ == "__main__":
    main()
