"""Measure how the cost of a session grows with recipes, files, steps, loss terms, parameters and stages.

    python benchmarks/growth.py [--only recipes,steps] [--repeats 3]

Each is measured at three sizes, in the order small, medium, large and again, in processes of their own with one thread.
CPU seconds (user and system, of pytest and of its training processes), because other work on the machine does not count
in them; the least of the repeats. The exponent is the slope between the smallest and the largest size after the cost of
a session without the thing that grows: 1 is linear, 2 quadratic. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

TASK = """
import torch
from torch import nn
from torch.nn import functional as F

class Line:
    def __init__(self, terms=1, layers=1):
        self.terms, self.layers = terms, layers

    def model(self):
        return nn.Sequential(*(nn.Linear(4, 4) for _ in range(self.layers)))

    def batches(self, size, *, seed, rank=0, world_size=1):
        generator = torch.Generator().manual_seed(seed)
        while True:
            x = torch.randn(size, 4, generator=generator)
            yield {"x": x, "y": x.flip(1)}

    def losses(self, model, batch):
        loss = F.mse_loss(model(batch["x"]), batch["y"])
        return {f"term{at}": loss * 1.0 for at in range(self.terms)}

    def optimizer(self, model, lr):
        return torch.optim.SGD(model.parameters(), lr=lr)

    def on_stage_start(self, model, stage):
        pass
"""


def recipe(*, steps: int = 100, terms: int = 1, layers: int = 1, stages: int = 0) -> str:
    """Return a recipe."""
    text = f"task: line:Line\nargs: {{terms: {terms}, layers: {layers}}}\n"
    if not stages:
        full = "full: {batch_size: 8, learning_rate: 0.01, max_steps: 1000000}\n"
        return f"{text}{full}smoke: {{max_steps: {steps}}}\n"
    listed = "".join(f"  - {{name: s{at}, full_steps: 1000, steps: {steps}}}\n" for at in range(stages))
    settings = "full: {batch_size: 8, learning_rate: 0.01}\nsmoke: {}\n"
    return f"{text}{settings}stages:\n{listed}"


def preflight(folder: Path, size: int) -> list[str]:
    """Write `size` recipes, all of which are preflighted with a report."""
    for number in range(size):
        (folder / f"r{number:05}.smoke.yaml").write_text(recipe())
    return ["--smoke-preflight", "--smoke-report", "out"]


def files(folder: Path, size: int) -> list[str]:
    """Write `size` other files, and a recipe that is preflighted."""
    for number in range(size):
        (folder / f"f{number:05}.txt").write_text("")
    return [*preflight(folder, 1), "."]


def trained(**one: Callable[[int], int]) -> Callable[[Path, int], list[str]]:
    """Return what writes one recipe whose settings depend on the size, and trains it."""

    def written(folder: Path, size: int) -> list[str]:
        text = recipe(**{key: value(size) for key, value in one.items()})
        (folder / "r.smoke.yaml").write_text(text)
        return ["--smoke", "--smoke-report", "out", "--smoke-device", "cpu", "--smoke-no-early-stop"]

    return written


GROWTHS: dict[str, tuple[Callable[[Path, int], list[str]], tuple[int, int, int], int]] = {
    "recipes, preflighted": (preflight, (1_000, 3_000, 9_000), 1),
    "other files in the folder": (files, (1_000, 3_000, 9_000), 1),
    "steps": (trained(steps=lambda size: size), (1_000, 3_000, 9_000), 100),
    "loss terms": (trained(terms=lambda size: size, steps=lambda _: 200), (10, 30, 90), 1),
    "parameters (tensors)": (trained(layers=lambda size: size // 2, steps=lambda _: 200), (50, 150, 450), 2),
    "stages": (trained(stages=lambda size: size, steps=lambda _: 40), (5, 15, 45), 1),
}
"""What writes a folder and returns the options of the session; the sizes; and the size of next to nothing."""


def cpu_seconds(write: Callable[[Path, int], list[str]], size: int) -> float:
    """Return the CPU seconds of one session and of all processes that it waits for."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "line.py").write_text(TASK)
        options = write(folder, size)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        code = (
            "import sys, pytest, os, resource\n"
            "from multiprocessing import forkserver\n"
            "status = pytest.main(sys.argv[1:])\n"
            "forkserver._forkserver._stop()\n"  # waits for it, so that its children's time is counted
            "used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]\n"
            "print('CPU', sum(one.ru_utime + one.ru_stime for one in used), int(status))\n"
        )
        command = [sys.executable, "-c", code, *options, "-q", "--tb", "no", "-p", "no:cacheprovider"]
        printed = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        outcomes = json.loads((folder / "out" / "verdicts.json").read_text())["outcomes"]
    last = printed.stdout.splitlines()[-1] if printed.stdout else ""
    is_trained = "--smoke" in options
    if not last.startswith("CPU") or not all(one["facts"].get("steps") or not is_trained for one in outcomes):
        raise SystemExit(f"{' '.join(command)} failed:\n{printed.stdout[-2000:]}{printed.stderr[-2000:]}")
    return float(last.split()[1])


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="beginnings of the rows to measure, separated by commas")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    chosen = tuple(args.only.split(","))
    print("| what grows | sizes | CPU seconds | exponent |\n|---|---|---|---|")
    for name, (write, sizes, nothing) in GROWTHS.items():
        if not name.startswith(chosen):
            continue
        least = dict.fromkeys((nothing, *sizes), math.inf)
        for _ in range(args.repeats):
            for size in least:
                least[size] = min(least[size], cpu_seconds(write, size))
        base, small, large = least[nothing], least[sizes[0]], least[sizes[-1]]
        exponent = math.log(max(large - base, 1e-3) / max(small - base, 1e-3)) / math.log(sizes[-1] / sizes[0])
        shown = " / ".join(f"{least[size]:.1f}" for size in sizes)
        print(f"| {name} | {' / '.join(f'{size:,}' for size in sizes)} | {shown} | {exponent:.2f} |", flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
