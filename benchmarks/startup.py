"""What the plugin costs a session that does not use it, a recipe at collection, and a smoke before its first step.

    python benchmarks/startup.py [--rounds 15] [--recipes 2000]

Each figure is measured side by side with its counterpart, in turn, in one run.
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

from pytest_smoke.events import Ended, Step
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.train.launch import accelerators, child_of
from pytest_smoke.recipe.stages import Stage
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
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def session(folder: Path, *args: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    # Bytecode is cached, as in any installed package, wherever this checkout lies.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


def idle_session(rounds: int) -> None:
    """One test that passes, with the plugin and without."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_one.py").write_text("def test_one():\n    pass\n")
        session(folder)
        pairs = [
            (seconds(lambda: session(folder)), seconds(lambda: session(folder, "-p", "no:verdict_smoke")))
            for _ in range(rounds)
        ]
    added = sorted(1e3 * (ours - bare) for ours, bare in pairs)
    bare = 1e3 * median(bare for _, bare in pairs)
    print(
        f"| session that does not use it | {bare:.0f} ms without | {median(added):+.1f} ms, median of {rounds} pairs |"
    )


def collection(recipes: int) -> None:
    """Recipes loaded and checked, against libyaml alone reading the same text."""
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


def child_start(rounds: int) -> None:
    """From the request to the first optimizer step, against a process that only imports torch."""
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
        first = sorted(first_step(plan) for _ in range(rounds))
        cold = median(
            seconds(lambda: subprocess.run([sys.executable, "-c", "import torch, torch._dynamo"], check=True))
            for _ in range(3)
        )
    print(f"| fork server, once a session | {1e3 * cold:.0f} ms to import torch in a process | {1e3 * server:.0f} ms |")
    print(f"| smoke, from request to first step | the same | {1e3 * median(first):.0f} ms, median of {rounds} |")


def first_step(plan: RunPlan) -> float:
    began, found = time.perf_counter(), 0.0
    with child_of(plan) as child:
        while (records := child.receive(None)) is not None:
            if not found and any(isinstance(record, Step) for record in records):
                found = time.perf_counter() - began
            if any(isinstance(record, Ended) for record in records):
                child.send(Finish())
    return found


def main() -> None:
    """Run and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--recipes", type=int, default=2000)
    args = parser.parse_args()
    print("| what | against | cost |\n|---|---|---|")
    idle_session(args.rounds)
    collection(args.recipes)
    child_start(args.rounds)


if __name__ == "__main__":
    main()
