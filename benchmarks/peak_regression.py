"""Measure how often the advisory `peak-regression` warns about a metric that is constant, and about one that fell.

    python benchmarks/peak_regression.py [RUNS]        # default 1000: about five minutes

Prints the table of docs/explanation/metric-advisories.md. Deviations are those of one evaluation.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable

from pytest_smoke.judge.metrics.history import History
from pytest_smoke.judge.metrics.peak_regression import peak_regression
from pytest_smoke.recipe.model import MetricSpec

COUNTS = (5, 8, 12, 20, 40)
"""Numbers of evaluations in a run."""
Make = Callable[[random.Random, int], list[float]]
"""Makes the values of a run with `count` evaluations."""


def flat(noise: Callable[[random.Random], float]) -> Make:
    """Return a constant metric with noise."""
    return lambda rng, count: [noise(rng) for _ in range(count)]


def flat_share(items: int, probability: float) -> Make:
    """Return the share of `items` that are right, each with the same probability in every evaluation."""
    return flat(lambda rng: sum(rng.random() < probability for _ in range(items)) / items)


def falling(deviations: float) -> Make:
    """Return a metric that rises by 3 deviations per evaluation in the first half, then falls by `deviations`."""

    def make(rng: random.Random, count: int) -> list[float]:
        half = count // 2
        fall = deviations / (count - 1 - half)
        return [3 * min(at, half) - fall * max(0, at - half) + rng.gauss(0, 1) for at in range(count)]

    return make


ROWS: dict[str, tuple[Make, MetricSpec | None]] = {
    "flat, gaussian": (flat(lambda rng: rng.gauss(0, 1)), None),
    "flat, t of 3 degrees": (flat(lambda rng: rng.gauss(0, 1) / math.sqrt(rng.gammavariate(1.5, 1 / 1.5))), None),
    "flat, lognormal": (flat(lambda rng: rng.lognormvariate(0, 1)), None),
    "flat, lognormal downwards": (flat(lambda rng: -rng.lognormvariate(0, 1)), None),
    "flat, 24 items at 0.02": (flat_share(24, 0.02), MetricSpec(items=24)),
    "flat, 200 items at 0.3": (flat_share(200, 0.3), MetricSpec(items=200)),
    "falls by 5 deviations": (falling(5), None),
    "falls by 10 deviations": (falling(10), None),
    "falls by 20 deviations": (falling(20), None),
}
"""Rows of the table. The name seeds a row's generator, so a renamed row has other random runs."""


def print_table(runs: int) -> None:
    """Print the share of warnings in `runs` runs, by kind of metric and number of evaluations."""
    print("| evaluations |", " | ".join(map(str, COUNTS)), "|")
    print("|---|", "---|" * len(COUNTS), sep="")
    for name, (make, spec) in ROWS.items():
        rng = random.Random(name)
        shares = []
        for count in COUNTS:
            histories = (History.of("f1", list(enumerate(make(rng, count))), spec) for _ in range(runs))
            warnings = sum(peak_regression(history).status == "warn" for history in histories)
            shares.append(f"{100 * warnings / runs:.1f} %")
        print(f"| {name} |", " | ".join(shares), "|", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=int, nargs="?", default=1000, metavar="RUNS", help="runs per cell (default 1000)")
    print_table(parser.parse_args().runs)


if __name__ == "__main__":
    main()
