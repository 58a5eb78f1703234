"""Run many tiny smoke runs in one session: memory, file descriptors, threads and time per run must stay flat.

    python benchmarks/soak.py [--runs 500]

Every 20 runs a plugin reads the pytest process and its fork server from /proc. Prints a Markdown table with the medians
of the first and of the last tenth. The runs before the first reading, in which caches fill, are not counted. The pytest
process keeps every outcome and every report until it ends: its memory grows by what they take.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest

EVERY = 20
TASK = """
import torch
from torch import nn
from torch.nn import functional as F

class Line:
    def model(self):
        return nn.Linear(4, 1)

    def batches(self, size, *, seed, rank=0, world_size=1):
        generator = torch.Generator().manual_seed(seed)
        while True:
            x = torch.randn(size, 4, generator=generator)
            yield {"x": x, "y": x.sum(1, keepdim=True)}

    def losses(self, model, batch):
        return {"mse": F.mse_loss(model(batch["x"]), batch["y"])}

    def optimizer(self, model, lr):
        return torch.optim.SGD(model.parameters(), lr=lr)
"""
RECIPE = """\
task: line:Line
full: {batch_size: 8, learning_rate: 0.01, max_steps: 2000}
smoke: {max_steps: 20}
"""


def process_figures(pid: int) -> dict[str, float]:
    """Return memory in MiB, open file descriptors and threads of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "memory": int(status["VmRSS"].split()[0]) / 1024,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status["Threads"]),
    }


def fork_server() -> int | None:
    """Return the process id of this process's fork server; None before the first run."""
    from multiprocessing import forkserver

    pid: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # it has no public name
    return pid


class Readings:
    """A plugin that reads both processes after every `EVERY` items."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._finished, self._since, self._cpu = 0, time.perf_counter(), time.process_time()

    def pytest_runtest_logfinish(self) -> None:
        """Count an item, and read."""
        self._finished += 1
        if self._finished % EVERY:
            return
        server = fork_server()
        now, cpu = time.perf_counter(), time.process_time()
        row = {f"pytest process: {key}": value for key, value in process_figures(os.getpid()).items()}
        if server is not None:
            row |= {f"fork server: {key}": value for key, value in process_figures(server).items()}
        row["seconds per run"] = (now - self._since) / EVERY
        row["CPU seconds of the pytest process per run"] = (cpu - self._cpu) / EVERY
        self.rows.append(row)
        self._since, self._cpu = time.perf_counter(), time.process_time()


def main() -> None:
    """Run the session, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "line.py").write_text(TASK)
        for number in range(args.runs):
            (folder / f"r{number:04}.smoke.yaml").write_text(RECIPE)
        os.chdir(folder)
        readings = Readings()
        options = ["--smoke", "--smoke-report", "out", "--smoke-device", "cpu", "-q", "--no-summary", "--tb", "no"]
        status = pytest.main([*options, "-p", "no:cacheprovider"], plugins=[readings])
    rows = readings.rows[1:]
    tenth = max(1, len(rows) // 10)
    print(f"\n{EVERY * len(readings.rows)} smoke runs, exit status {int(status)}\n")
    print("| | first tenth | last tenth |\n|---|---|---|")
    for key in rows[0]:
        first, last = (median(row[key] for row in part) for part in (rows[:tenth], rows[-tenth:]))
        unit = " MiB" if key.endswith("memory") else ""
        places = 3 if "seconds" in key else 1 if unit else 0
        print(f"| {key} | {first:.{places}f}{unit} | {last:.{places}f}{unit} |")


if __name__ == "__main__":
    main()
