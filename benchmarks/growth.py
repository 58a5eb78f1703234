"""Measure how the cost of sessions and commands grows with what they work on. Exit status 1 if any grows faster.

    python benchmarks/growth.py [--only recipes,steps] [--repeats 3]

Each is measured at three sizes, in the order small, medium, large and again, in processes of their own with one thread.
CPU seconds (user and system, of the process, its fork server and its training processes), because other work on the
machine changes them less than the time; the least of the repeats. The exponent is the slope of a line through the three
logarithms, after the cost of next to nothing was subtracted: 1 is linear, 2 quadratic. *Memory* is the peak of the
pytest process, or of the command, at the three sizes; *training* that of the largest other process.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from statistics import linear_regression
from typing import Any

from pytest_smoke.files import file_name, file_sha256
from pytest_smoke.outcome import Outcome
from pytest_smoke.receipts.build import receipt_of_run
from pytest_smoke.receipts.folder import receipt_of, write
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.report.verdicts_json import verdicts_json

LIMIT = 1.25
"""Exponent above which the script fails: that of a cost of which half, at the largest size, is quadratic. One of
n log n has about 1.1."""
SMALLEST_SECONDS = 0.25
"""A cost that is so little above that of next to nothing is not used: the start of a session varies as much."""
CERTAIN_SECONDS = 1.0
"""A cost that is this close to linear growth at the largest size cannot be told from it by CPU seconds."""
TASK = """
import torch
from torch import nn
from torch.nn import functional as F

class Line:
    def __init__(self, terms=1, layers=1, width=4):
        self.terms, self.layers, self.width = terms, layers, width

    def model(self):
        return nn.Sequential(*(nn.Linear(self.width, self.width) for _ in range(self.layers)))

    def batches(self, size, *, seed, rank=0, world_size=1):
        generator = torch.Generator().manual_seed(seed)
        while True:
            x = torch.randn(size, self.width, generator=generator)
            yield {"x": x, "y": x.flip(1)}

    def losses(self, model, batch):
        loss = F.mse_loss(model(batch["x"]), batch["y"])
        return {f"term{at}": loss * 1.0 for at in range(self.terms)}

    def optimizer(self, model, lr):
        return torch.optim.SGD(model.parameters(), lr=lr)

    def on_stage_start(self, model, stage, phase):
        pass
"""
RATE = 0.01


def recipe(
    *, steps: int = 100, terms: int = 1, layers: int = 1, width: int = 4, stages: int = 0, cells: int = 0
) -> str:
    """Return a recipe."""
    text = f"task: line:Line\nargs: {{terms: {terms}, layers: {layers}, width: {width}}}\n"
    if cells:
        text += "ablate:\n" + "".join(f"  c{at:04}: {{args.width: {at + 5}}}\n" for at in range(cells))
    if not stages:
        full = f"full: {{batch_size: 8, learning_rate: {RATE}, max_steps: 1000000}}\n"
        return f"{text}{full}smoke: {{max_steps: {steps}}}\n"
    listed = "".join(f"  - {{name: s{at}, full_steps: 1000, steps: {steps}}}\n" for at in range(stages))
    settings = f"full: {{batch_size: 8, learning_rate: {RATE}}}\nsmoke: {{}}\n"
    return f"{text}{settings}stages:\n{listed}"


def pytest_with(*options: str) -> list[str]:
    """Return the arguments of a session with a report."""
    quiet = ["-q", "--tb", "no", "-p", "no:cacheprovider", "--smoke-device", "cpu"]
    return ["pytest", "--smoke", "--smoke-report", "out", *quiet, *options]


def preflight(folder: Path, size: int) -> list[str]:
    """Write `size` recipes, all of which are preflighted with a report."""
    for number in range(size):
        (folder / f"r{number:05}.smoke.yaml").write_text(recipe())
    return pytest_with("--smoke-preflight")


def preflight_by_workers(folder: Path, size: int) -> list[str]:
    """Write `size` recipes, all of which two workers of pytest-xdist preflight."""
    return [*preflight(folder, size), "-n", "2"]


def files(folder: Path, size: int) -> list[str]:
    """Write `size` other files, and a recipe that is preflighted."""
    for number in range(size):
        (folder / f"f{number:05}.txt").write_text("")
    return [*preflight(folder, 1), "."]


def cells(folder: Path, size: int) -> list[str]:
    """Write one recipe with `size` ablation cells that are preflighted."""
    (folder / "r.smoke.yaml").write_text(recipe(cells=size))
    return pytest_with("--smoke-preflight")


def trained(**one: Callable[[int], int]) -> Callable[[Path, int], list[str]]:
    """Return what writes one recipe whose settings depend on the size, and trains it."""

    def written(folder: Path, size: int) -> list[str]:
        text = recipe(**{key: value(size) for key, value in one.items()})
        (folder / "r.smoke.yaml").write_text(text)
        return pytest_with("--smoke-no-early-stop")

    return written


@cache
def run() -> tuple[Outcome, str]:
    """Return the outcome of a run of 1,000 steps and its trace, trained once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        execute(trained(steps=lambda _: 1_000)(folder, 1), folder)
        tree = json.loads((folder / "out" / "verdicts.json").read_text())["outcomes"][0]
        outcome = replace(Outcome.from_dict(tree), verdict="promote", reason="", decided_by="loss-trend")
        return outcome, (folder / "out" / str(outcome.facts.trace)).read_text()


def write_report(folder: Path, numbers: Sequence[int], *, recipe_of: Callable[[int], str]) -> None:
    """Write a report folder as a session would have, with an outcome and a trace for each number."""
    outcome, trace = run()
    (folder / "traces").mkdir(parents=True)
    outcomes = []
    for number in numbers:
        path = recipe_of(number)
        name = f"traces/{file_name(f'{path}::constant')}.csv"
        (folder / name).write_text(trace)
        started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
        facts = replace(outcome.facts, trace=name, started_at=started.isoformat(), git_commit=f"{number:040x}")
        outcomes.append(replace(outcome, id=f"{path}::constant", recipe=path, facts=facts))
    (folder / "verdicts.json").write_text(verdicts_json(outcomes))
    (folder / "summary.md").touch()  # of a session that has ended


def report(folder: Path, size: int) -> list[str]:
    """Write a report folder with `size` runs and their traces, which `report` makes a page of."""
    write_report(folder / "out", range(size), recipe_of=lambda number: f"r{number:05}.smoke.yaml")
    return ["pytest_smoke", "report", "out"]


def history(folder: Path, size: int) -> list[str]:
    """Write the report folders of `size` sessions of one smoke run."""
    for number in range(size):
        write_report(folder / "sessions" / f"{number:05}", [number], recipe_of=lambda _: "r.smoke.yaml")
    return ["pytest_smoke", "history", "sessions", "-o", "history.html"]


def merge(folder: Path, size: int) -> list[str]:
    """Write the report folders of `size` sessions of one smoke run each, all of different recipes."""
    for number in range(size):
        write_report(folder / f"s{number:05}", [number], recipe_of=lambda number: f"r{number:05}.smoke.yaml")
    return ["pytest_smoke", "merge", *(f"s{number:05}" for number in range(size)), "-o", "merged"]


def gate(folder: Path, size: int) -> list[str]:
    """Write `size` recipes with the receipts of their promotions."""
    outcome, _ = run()
    sources = {"line.py": file_sha256(folder / "line.py")}
    for number in range(size):
        path = folder / f"r{number:05}.smoke.yaml"
        path.write_text(recipe(steps=1_000))
        case = load_cases(path, root=folder)[0]
        promoted = replace(outcome, id=f"{path.name}::constant", recipe=path.name)
        common: dict[str, Any] = {"root": folder, "data": {}, "isolation": "process", "early_stop": True}
        receipt = receipt_of_run(case, promoted, files=sources, **common)
        write(folder / "receipts" / receipt_of(promoted.id), receipt, key=None)
    return ["pytest_smoke", "gate", *(f"r{number:05}.smoke.yaml" for number in range(size))]


Write = Callable[[Path, int], list[str]]
GROWTHS: dict[str, tuple[Write, tuple[int, int, int], int]] = {
    "recipes, preflighted": (preflight, (1_000, 3_000, 10_000), 1),
    "recipes, preflighted by 2 workers": (preflight_by_workers, (1_000, 3_000, 10_000), 1),
    "ablation cells, preflighted": (cells, (100, 300, 900), 1),
    "other files in the folder": (files, (10_000, 30_000, 90_000), 1),
    "steps": (trained(steps=lambda size: size), (2_000, 6_000, 18_000), 100),
    "loss terms": (trained(terms=lambda size: size, steps=lambda _: 200), (10, 30, 90), 1),
    "parameters: many tensors": (trained(layers=lambda size: size // 2, steps=lambda _: 200), (100, 300, 900), 2),
    "parameters: one large tensor": (
        trained(width=lambda size: round(size**0.5), steps=lambda _: 200),
        (300_000, 1_000_000, 3_000_000),
        100,
    ),
    "stages": (trained(stages=lambda size: size, steps=lambda _: 40), (5, 15, 45), 1),
    "runs in a folder, `report`": (report, (100, 300, 900), 1),
    "sessions, `history`": (history, (100, 300, 900), 1),
    "folders, `merge`": (merge, (100, 300, 900), 1),
    "receipts, `gate`": (gate, (100, 300, 900), 1),
    "memory of long runs (steps)": (trained(steps=lambda size: size), (10_000, 30_000, 100_000), 100),
}
"""What writes a folder and returns the arguments after `python -m`; the sizes; and the size of next to nothing."""
ONCE = ("memory of long runs (steps)",)
"""What is measured once, because it takes minutes."""

MEASURED = """
import json
import os
import resource
import runpy
import sys
from multiprocessing import forkserver

module = sys.argv.pop(1)
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as ended:
    status = ended.code
forkserver._forkserver._stop()  # waits for it, so that the time of its children is counted
own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
with open(os.environ["GROWTH_FIGURES"], "w") as file:
    cpu = sum(one.ru_utime + one.ru_stime for one in (own, others))
    json.dump({"status": int(status or 0), "cpu": cpu, "own": own.ru_maxrss, "others": others.ru_maxrss}, file)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one process and those that it waited for have used."""

    cpu_seconds: float
    own_mib: float
    """Peak memory of the process itself."""
    others_mib: float
    """Peak memory of the largest of the others."""


def prepare(folder: Path) -> None:
    """Write what every folder has."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "line.py").write_text(TASK)


def execute(arguments: Sequence[str], folder: Path) -> Cost:
    """Run `python -m ARGUMENTS` in a folder."""
    figures = folder / "figures.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GROWTH_FIGURES": str(figures)}
    command = [sys.executable, "-c", MEASURED, *arguments]
    printed = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    found = json.loads(figures.read_text()) if figures.exists() else {"status": None}
    is_trained = "--smoke-no-early-stop" in arguments
    if is_trained:
        outcomes = json.loads((folder / "out" / "verdicts.json").read_text())["outcomes"]
        is_trained = all(one["facts"]["steps"] == one["facts"]["planned_steps"] for one in outcomes)
    if found["status"] != 0 and not (is_trained and found["status"] == 1):  # whatever the verdict on it is
        shown = f"{printed.stdout[-2000:]}{printed.stderr[-2000:]}"
        raise SystemExit(f"{' '.join(arguments)[:500]} ended with status {found['status']}:\n{shown}")
    return Cost(cpu_seconds=found["cpu"], own_mib=found["own"] / 1024, others_mib=found["others"] / 1024)


def cost(write: Write, size: int) -> Cost:
    """Return the cost at one size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        return execute(write(folder, size), folder)


def main() -> None:
    """Measure, print the table, and fail if anything grows faster than linearly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="beginnings of the rows to measure, separated by commas")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    faster = []
    print("| what grows | sizes | CPU seconds | exponent | memory, MiB | training, MiB |\n|---|---|---|---|---|---|")
    for name, (made, sizes, nothing) in GROWTHS.items():
        if not name.startswith(tuple(args.only.split(","))):
            continue
        found: dict[int, list[Cost]] = {size: [] for size in (nothing, *sizes)}
        for _ in range(1 if name in ONCE else args.repeats):
            for size, costs in found.items():
                costs.append(cost(made, size))
        seconds = {size: min(one.cpu_seconds for one in costs) for size, costs in found.items()}
        above = {size: seconds[size] - seconds[nothing] for size in sizes}
        told = {size: one for size, one in above.items() if one > SMALLEST_SECONDS}
        exponent = math.nan
        if len(told) > 1:
            exponent = linear_regression([*map(math.log, told)], [*map(math.log, told.values())]).slope
            largest, smallest = max(told), min(told)
            excess = told[largest] - told[smallest] * largest / smallest
        if exponent > LIMIT and excess > CERTAIN_SECONDS:
            faster.append(f"{name}: exponent {exponent:.2f}")
        cells = [
            " / ".join(f"{size:,}" for size in sizes),
            " / ".join(f"{seconds[size]:.1f}" for size in sizes),
            "too small to fit" if math.isnan(exponent) else f"{exponent:.2f}",
            " / ".join(f"{min(one.own_mib for one in found[size]):.0f}" for size in sizes),
            " / ".join(f"{min(one.others_mib for one in found[size]):.0f}" for size in sizes),
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if faster:
        raise SystemExit(f"faster than linear: {'; '.join(faster)}")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
