"""Run many tiny smoke runs in one session: what the session uses must not grow with them.

    python benchmarks/soak.py [--runs 500] [--mixed] [-n 2]

Every 10 runs, each pytest process reads itself, its fork server, and what the session has in its temporary folder. A
Markdown table compares the first with the last 50 runs; the first 20, in which caches fill, are left out. The same
number of tests that pass is the control: pytest itself keeps every item and report until the session ends.

--mixed: of 10 runs, 5 are promoted, and one each diverges, raises, kills its process, hangs until its timeout of 3 s,
and is too short for a verdict. Every 50th is exported and packaged, which may take longer than the timeout. Without it,
all are too short for a verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import mean, median
from typing import Any

EVERY = 10
COMPARED = 50
"""Runs at the beginning and at the end that are compared."""
SKIPPED = 20
"""Runs before the first ones that are compared."""
TIMEOUT_SECONDS = 3
TASK = """
import os
import signal
import time

import torch
from torch import nn
from torch.nn import functional as F

class Line:
    def __init__(self, fault=None):
        self.fault, self.steps = fault, 0

    def model(self):
        return nn.Linear(4, 1)

    def batches(self, size, *, seed, rank=0, world_size=1):
        generator = torch.Generator().manual_seed(seed)
        while True:
            x = torch.randn(size, 4, generator=generator)
            noise = torch.randn(size, 1, generator=generator)
            yield {"x": x, "y": x.sum(1, keepdim=True) + 0.3 * noise}

    def losses(self, model, batch):
        self.steps += 1
        if self.fault is not None and self.steps > 20:
            if self.fault == "raises":
                raise RuntimeError("the labels file is empty")
            if self.fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(3600)
        return {"mse": F.mse_loss(model(batch["x"]), batch["y"])}

    def optimizer(self, model, lr):
        return torch.optim.SGD(model.parameters(), lr=lr)

    def evaluate(self, model):
        return {"val_mse": 1.0}

    def example_inputs(self):
        return (torch.zeros(8, 4),)
"""
RECIPE = """\
task: line:Line
full: {{batch_size: 16, learning_rate: {rate}, max_steps: 20000}}
smoke: {{max_steps: {steps}{more}}}
"""
SHORT = RECIPE.format(rate=0.01, steps=20, more="")
PROMOTED = RECIPE.format(rate=0.02, steps=300, more="")
PACKAGED = RECIPE.format(rate=0.02, steps=300, more=", pipeline: {quantize: null}")
DIVERGES = RECIPE.format(rate="1.0e+2", steps=300, more="")
CYCLE = (
    *[PROMOTED] * 5,
    DIVERGES,
    *(
        SHORT.replace("max_steps: 20}", "max_steps: 100}") + f"args: {{fault: {name}}}\n"
        for name in ("raises", "killed")
    ),
    SHORT.replace("max_steps: 20}", "max_steps: 100}") + "args: {fault: hangs}\n",
    SHORT,
)
CONFTEST = """
import json
import os
import time
from multiprocessing import forkserver
from pathlib import Path

EVERY = {every}

def figures(pid):
    status = dict(line.split(":", 1) for line in Path(f"/proc/{{pid}}/status").read_text().splitlines())
    return {{
        "memory": int(status["VmRSS"].split()[0]) / 1024,
        "descriptors": len(os.listdir(f"/proc/{{pid}}/fd")),
        "threads": int(status["Threads"]),
    }}

def of_session():
    count, marker = 0, os.environ["SOAK_READINGS"].encode()
    for folder in Path("/proc").iterdir():
        try:
            count += folder.name.isdecimal() and marker in (folder / "environ").read_bytes()
        except OSError:
            pass
    return count

class Readings:
    finished, since, cpu, row = 0, time.perf_counter(), time.process_time(), {{}}

def pytest_runtest_logfinish(nodeid):
    Readings.finished += 1
    if Readings.finished % EVERY:
        return
    server = forkserver._forkserver._forkserver_pid
    now, cpu = time.perf_counter(), time.process_time()
    row = {{f"pytest process: {{key}}": value for key, value in figures(os.getpid()).items()}}
    if server is not None:
        row |= {{f"fork server: {{key}}": value for key, value in figures(server).items()}}
    temporary = Path(os.environ["TMPDIR"])
    row["temporary files"] = sum(1 for _ in temporary.rglob("*"))
    row["processes of the session"] = of_session()
    row["seconds per run"] = (now - Readings.since) / EVERY
    row["CPU ms of the pytest process per run"] = 1000 * (cpu - Readings.cpu) / EVERY
    row["finished"] = Readings.finished
    row["process"] = os.environ.get("PYTEST_XDIST_WORKER", "controller")
    with open(os.environ["SOAK_READINGS"], "a") as file:
        file.write(json.dumps(row) + "\\n")
    Readings.since, Readings.cpu = time.perf_counter(), time.process_time()
"""


def session(folder: Path, options: list[str]) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """Run a session in a folder; return its readings by process, and the last line that it prints."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(CONFTEST.format(every=EVERY))
    temporary = folder / "tmp"
    temporary.mkdir()
    readings = folder / "readings.jsonl"
    environment = {**os.environ, "TMPDIR": str(temporary), "SOAK_READINGS": str(readings), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--no-summary", "--tb", "no", "-p", "no:cacheprovider", *options]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if not readings.exists() or ended.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    left = sorted(str(path.relative_to(temporary)) for path in temporary.rglob("*"))
    rows: dict[str, list[dict[str, Any]]] = {}
    for line in readings.read_text().splitlines():
        row = json.loads(line)
        rows.setdefault(row.pop("process"), []).append(row)
    last = ended.stdout.strip().splitlines()[-1]
    return rows, f"{last}; temporary files left behind: {len(left)} {left[:5] or ''}".rstrip()


def table(rows: list[dict[str, Any]]) -> None:
    """Print what the first and the last runs used, and how much each run between them added."""
    rows = [row for row in rows if row["finished"] > SKIPPED]
    part = max(1, min(COMPARED // EVERY, len(rows) // 2))
    first, last = rows[:part], rows[-part:]
    between = mean(row["finished"] for row in last) - mean(row["finished"] for row in first)
    runs = part * EVERY
    print(f"| | first {runs} | last {runs} | growth per run |\n|---|---|---|---|")
    for key in rows[-1]:
        if key == "finished" or any(key not in row for row in rows):
            continue
        early, late = (median(row[key] for row in readings) for readings in (first, last))
        unit = " MiB" if key.endswith("memory") else ""
        places = 3 if "seconds" in key else 1 if unit or "ms" in key else 0
        growth = f"{1024 * (late - early) / between:.1f} kB" if unit and between else ""
        print(f"| {key} | {early:.{places}f}{unit} | {late:.{places}f}{unit} | {growth} |")
    print()


def main() -> None:
    """Run both sessions, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("-n", type=int, default=0, help="workers of pytest-xdist")
    args = parser.parse_args()
    workers = ["-n", str(args.n)] if args.n else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "line.py").write_text(TASK)
        for number in range(args.runs):
            text = PACKAGED if number % 50 == 4 else CYCLE[number % len(CYCLE)]
            (folder / f"r{number:05}.smoke.yaml").write_text(text if args.mixed else SHORT)
        options = ["--smoke", "--smoke-report", "out", "--smoke-device", "cpu", "--smoke-timeout", str(TIMEOUT_SECONDS)]
        rows, said = session(folder, [*options, *workers])
        outcomes = json.loads((folder / "out" / "verdicts.json").read_text())["outcomes"]
        verdicts = Counter(f"{one['verdict']} ({one['reason']})" for one in outcomes)
        print(f"{args.runs} smoke runs: {said}\n\nverdicts: {dict(verdicts)}\n")
        print(f"receipts: {sum(1 for _ in (folder / 'out/receipts').glob('*.json'))}, checkpoints: ", end="")
        print(f"{sum(1 for _ in (folder / 'out/checkpoints').glob('*/*'))}, packages: ", end="")
        print(f"{sum(1 for _ in (folder / 'out/packages').glob('*'))}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(args.runs):
            (folder / f"test_{number:05}.py").write_text("def test_passes():\n    pass\n")
        control, _ = session(folder, workers)
    for process, readings in sorted(rows.items()):
        print(f"{process}:\n")
        table(readings)
    print("control, tests that pass (controller):\n")
    table(control["controller"])


if __name__ == "__main__":
    main()
