"""Measure the time of a session without recipes, of collecting a recipe, and of a smoke run before its first step.

    python benchmarks/startup.py [--rounds 15] [--recipes 2000]

Each figure and what it is compared with are measured alternately in one run. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import yaml

from pytest_smoke.events import Ended, Finish, Step
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.launch import accelerators, child_of
from pytest_smoke.train.plan import RunPlan

ROOT = Path(__file__).parents[1]
RECIPE = (ROOT / "recipes" / "char_lm.smoke.yaml").read_text()
TASK = """
import torch
class Task:
    def model(self): return torch.nn.Linear(2, 1)
    def batches(self, batch_size, *, seed, rank=0, world_size=1):
        while True: yield torch.ones(batch_size, 2)
    def losses(self, model, batch): return {"mse": model(batch).square().mean()}
"""


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of a call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def run_pytest(folder: Path, *args: str) -> None:
    """Run pytest in `folder`. Raises CalledProcessError if it fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    # Bytecode is cached, as for any installed package, even if the checkout is read-only.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


def idle_session(rounds: int) -> None:
    """Compare a session of one passing test with and without the plugin."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_one.py").write_text("def test_one():\n    pass\n")
        run_pytest(folder)
        pairs = [
            (seconds(lambda: run_pytest(folder)), seconds(lambda: run_pytest(folder, "-p", "no:verdict_smoke")))
            for _ in range(rounds)
        ]
    added = median(1e3 * (ours - bare) for ours, bare in pairs)
    bare = 1e3 * median(bare for _, bare in pairs)
    print(f"| session without recipes | {bare:.0f} ms without the plugin | {added:+.1f} ms, median of {rounds} pairs |")


def collection(recipes: int) -> None:
    """Compare loading and checking recipes with parsing the same text by libyaml alone."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "recipes").mkdir()
        (root / "recipes" / "char_lm.py").write_text("CharLm = None\n")
        paths = [root / f"r{number}.smoke.yaml" for number in range(recipes)]
        for path in paths:
            path.write_text(RECIPE)
        load_cases(paths[0], root=root)
        half = recipes // 2
        ours = seconds(lambda: [load_cases(path, root=root) for path in paths[:half]])
        alone = seconds(lambda: [yaml.load(path.read_bytes(), yaml.CSafeLoader) for path in paths[:half]])
        ours += seconds(lambda: [load_cases(path, root=root) for path in paths[half:]])
        alone += seconds(lambda: [yaml.load(path.read_bytes(), yaml.CSafeLoader) for path in paths[half:]])
    print(f"| collecting a recipe | {1e3 * alone / recipes:.2f} ms for CSafeLoader | {1e3 * ours / recipes:.2f} ms |")


def training_process(rounds: int) -> None:
    """Time the start of the fork server and of a training process up to its first step."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "tiny.py").write_text(TASK)
        plan = RunPlan(
            task="tiny:Task",
            args={},
            root=name,
            batch_size=4,
            micro_batches=1,
            world_size=1,
            stages=(Stage(steps=1, max_steps=1, learning_rate=1e-3),),
            precision="fp32",
            grad_clip_norm=None,
            loss_weights={},
            seed=0,
            device="cpu",
            cpu_threads=1,
            evaluate_every_steps=None,
        )
        server = seconds(accelerators)
        first = [seconds_to_first_step(plan) for _ in range(rounds)]
        torch_import = median(
            seconds(lambda: subprocess.run([sys.executable, "-c", "import torch, torch._dynamo"], check=True))
            for _ in range(3)
        )
    baseline = f"{1e3 * torch_import:.0f} ms to import torch in a process"
    print(f"| fork server, once per session | {baseline} | {1e3 * server:.0f} ms |")
    print(f"| smoke run, from request to first step | the same | {1e3 * median(first):.0f} ms, median of {rounds} |")


def seconds_to_first_step(plan: RunPlan) -> float:
    """Run `plan` in a training process, and return the wall time until its first step is reported."""
    began, spent = time.perf_counter(), 0.0
    with child_of(plan) as child:
        while (events := child.receive(None)) is not None:
            if not spent and any(isinstance(event, Step) for event in events):
                spent = time.perf_counter() - began
            if any(isinstance(event, Ended) for event in events):
                child.send(Finish())
    return spent


def main() -> None:
    """Run the benchmarks and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="repetitions of the timings (default 15)")
    parser.add_argument("--recipes", type=int, default=2000, help="recipes to collect (default 2000)")
    args = parser.parse_args()
    print("| what | compared with | cost |\n|---|---|---|")
    idle_session(args.rounds)
    collection(args.recipes)
    training_process(args.rounds)


if __name__ == "__main__":
    main()
