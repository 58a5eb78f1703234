"""What showing a smoke run costs: CPU time of the pytest process with the display, with the line, and with -q.

The sessions are interleaved. The training process sleeps for most of each step, so that a run has a fixed length.
Run: python benchmarks/progress_overhead.py [REPETITIONS]
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pexpect

TASK = """
import time, torch

class Sleeps:
    def model(self):
        torch.manual_seed(0)
        return torch.nn.Linear(4, 1)

    def batches(self, batch_size, *, seed, rank=0, world_size=1):
        generator = torch.Generator().manual_seed(seed + rank)
        while True:
            x = torch.randn(batch_size, 4, generator=generator)
            yield x, x.sum(1, keepdim=True) + 0.3 * torch.randn(batch_size, 1, generator=generator)

    def losses(self, model, batch):
        time.sleep(0.005)
        return {"mse": (model(batch[0]) - batch[1]).square().mean()}
"""
RECIPE = """\
task: sleeps:Sleeps
full: {batch_size: 16, learning_rate: 0.01, max_steps: 100000}
smoke: {max_steps: 3000}
"""
WITHOUT_RICH = 'import sys\nsys.modules["rich"] = sys.modules["rich.console"] = None\n'
WAYS = {"-q": ([], ""), "display": ([], ""), "line": ([], WITHOUT_RICH)}


def session(way: str) -> tuple[float, float]:
    """Return CPU seconds of the pytest process, and the seconds of the session."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sleeps.py").write_text(TASK)
        Path(folder, "a.smoke.yaml").write_text(RECIPE)
        Path(folder, "conftest.py").write_text(
            WAYS[way][1]
            + "import pytest, resource, time\n"
            + "def pytest_unconfigure():\n"
            + "    used = resource.getrusage(resource.RUSAGE_SELF)\n"
            + "    open('used', 'w').write(str(used.ru_utime + used.ru_stime))\n"
        )
        started = time.perf_counter()
        command = ["-m", "pytest", "--smoke", "--smoke-device", "cpu", "-p", "no:cacheprovider"]
        command += ["-q"] if way == "-q" else []
        env = {key: value for key, value in os.environ.items() if key not in ("CI", "BUILD_NUMBER")}
        shell = pexpect.spawn(sys.executable, command, cwd=folder, timeout=600, dimensions=(30, 100), env=env)
        shell.expect(pexpect.EOF)
        return float(Path(folder, "used").read_text()), time.perf_counter() - started


def main() -> None:
    """Print the median CPU time of each way, and the cost of showing as a share of the session."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(repetitions):
        for way in WAYS:
            found[way].append(session(way))
    quiet = statistics.median(cpu for cpu, _ in found["-q"])
    for way, rows in found.items():
        cpu, wall = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{way:8} {cpu:6.2f} s of CPU in {wall:5.1f} s: {(cpu - quiet) / wall:+.2%} of the session against -q")


if __name__ == "__main__":
    main()
