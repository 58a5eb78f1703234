"""How often the reading `peaked` warns of a metric that stands still, and of one that fell.

    python benchmarks/peaked.py [RUNS]        # default 1000; about four minutes

The table it prints is that of docs/readings.md.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable

from pytest_smoke.judge.readings.history import History
from pytest_smoke.judge.readings.peaked import peaked
from pytest_smoke.recipe.metric import Metric

COUNTS = (5, 8, 12, 20, 40)
"""Evaluations of a run."""


def warned(runs: int, values: Callable[[], list[float]], spec: Metric | None = None) -> str:
    """Share of runs with a warning."""
    count = sum(peaked(History.of("f1", list(enumerate(values())), spec)).status == "warn" for _ in range(runs))
    return f"{100 * count / runs:.1f} %"


def fallen(draw: random.Random, count: int, deviations: float) -> list[float]:
    """Rises by 3 deviations an evaluation for half of the run, then falls evenly by `deviations` in all."""
    half = count // 2
    fall = deviations / (count - 1 - half)
    return [3 * min(at, half) - fall * max(0, at - half) + draw.gauss(0, 1) for at in range(count)]


def main(runs: int) -> None:
    draw = random.Random(1)
    noises: dict[str, Callable[[], float]] = {
        "gaussian": lambda: draw.gauss(0, 1),
        "t, 3 degrees": lambda: draw.gauss(0, 1) / math.sqrt(draw.gammavariate(1.5, 1 / 1.5)),
        "lognormal": lambda: draw.lognormvariate(0, 1),
        "lognormal, downwards": lambda: -draw.lognormvariate(0, 1),
    }
    print("| evaluations |", " | ".join(map(str, COUNTS)), "|")
    print("|---|", "---|" * len(COUNTS), sep="")
    for name, noise in noises.items():
        rates = (warned(runs, lambda noise=noise, n=n: [noise() for _ in range(n)]) for n in COUNTS)  # type: ignore[misc]  # bound now
        print(f"| flat, {name} |", " | ".join(rates), "|")
    for items, chance in ((24, 0.02), (200, 0.3)):
        hits = {
            n: (lambda n=n: [sum(draw.random() < chance for _ in range(items)) / items for _ in range(n)])  # type: ignore[misc]  # bound now
            for n in COUNTS
        }
        rates = (warned(max(1, runs // 4), hits[n], Metric(items=items)) for n in COUNTS)
        print(f"| flat, {items} items at {chance:g} |", " | ".join(rates), "|")
    for deviations in (5, 10, 20):
        rates = (warned(runs, lambda n=n: fallen(draw, n, deviations)) for n in COUNTS)  # type: ignore[misc]  # bound now
        print(f"| falls by {deviations} deviations |", " | ".join(rates), "|")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
