"""How often the advisory `peak-regression` warns about a constant metric, and about one that fell.

    python benchmarks/peaked.py [RUNS]        # default 1000; about five minutes

The table it prints is that of docs/readings.md.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable

from pytest_smoke.judge.metrics.history import History
from pytest_smoke.judge.metrics.peak_regression import peak_regression
from pytest_smoke.recipe.metric import Metric

COUNTS = (5, 8, 12, 20, 40)
"""Evaluations of a run."""


Make = Callable[[random.Random, int], list[float]]
"""Draws the evaluations of one run."""


def flat(noise: Callable[[random.Random], float]) -> Make:
    """A constant metric under `noise`."""
    return lambda draw, count: [noise(draw) for _ in range(count)]


def hits(items: int, chance: float) -> Make:
    """A share of items that stands still."""
    return flat(lambda draw: sum(draw.random() < chance for _ in range(items)) / items)


def fallen(deviations: float) -> Make:
    """Rises by 3 deviations an evaluation for half of the run, then falls evenly by `deviations` in all."""

    def make(draw: random.Random, count: int) -> list[float]:
        half = count // 2
        fall = deviations / (count - 1 - half)
        return [3 * min(at, half) - fall * max(0, at - half) + draw.gauss(0, 1) for at in range(count)]

    return make


ROWS: dict[str, tuple[Make, Metric | None]] = {
    "flat, gaussian": (flat(lambda draw: draw.gauss(0, 1)), None),
    "flat, t of 3 degrees": (flat(lambda draw: draw.gauss(0, 1) / math.sqrt(draw.gammavariate(1.5, 1 / 1.5))), None),
    "flat, lognormal": (flat(lambda draw: draw.lognormvariate(0, 1)), None),
    "flat, lognormal downwards": (flat(lambda draw: -draw.lognormvariate(0, 1)), None),
    "flat, 24 items at 0.02": (hits(24, 0.02), Metric(items=24)),
    "flat, 200 items at 0.3": (hits(200, 0.3), Metric(items=200)),
    "falls by 5 deviations": (fallen(5), None),
    "falls by 10 deviations": (fallen(10), None),
    "falls by 20 deviations": (fallen(20), None),
}


def main(runs: int) -> None:
    """Print the table; each row has its own generator, so that rows can be added."""
    print("| evaluations |", " | ".join(map(str, COUNTS)), "|")
    print("|---|", "---|" * len(COUNTS), sep="")
    for name, (make, spec) in ROWS.items():
        draw = random.Random(name)
        rates = []
        for count in COUNTS:
            histories = (History.of("f1", list(enumerate(make(draw, count))), spec) for _ in range(runs))
            warned = sum(peak_regression(history).status == "warn" for history in histories)
            rates.append(f"{100 * warned / runs:.1f} %")
        print(f"| {name} |", " | ".join(rates), "|", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
