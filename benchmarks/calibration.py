"""Measure the error rates of the curve judge on synthetic losses, and print them as Markdown.

    python benchmarks/calibration.py [--runs 400] [--quick]

Three tables: false alarms on constant and falling levels, by noise and length; power against a lasting step, by noise,
height and length; verdict and delay by family of curves. Shares have a 95 % Wilson interval. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from math import sqrt

import synthetic_curves
from synthetic_curves import Curve

from pytest_smoke.judge.curve.curve_judge import CurveJudge
from pytest_smoke.judge.curve.curve_verdict import CurveVerdict, CurveVerdictWord

WORDS: tuple[CurveVerdictWord, ...] = ("unstable", "promote", "inconclusive", "invalid")
LENGTHS = (60, 150, 400, 1000, 3000)
Z95 = 1.96
"""97.5 % quantile of the normal distribution."""


def verdict_of(curve: Curve) -> CurveVerdict:
    """Judge a curve point by point, as during training."""
    judge = CurveJudge(planned_points=len(curve.losses), expected_jumps=curve.expected_jumps)
    for step, loss in enumerate(curve.losses):
        if judge.add(step, loss, lr=curve.lr[step] if curve.lr else None):
            break
    return judge.finish()


def share(hits: int, runs: int) -> str:
    """Format a share of runs with its 95 % Wilson interval: `2.0 % (1.0-3.9)`."""
    p = hits / runs
    centre = (p + Z95**2 / (2 * runs)) / (1 + Z95**2 / runs)
    half = Z95 * sqrt(p * (1 - p) / runs + Z95**2 / (4 * runs**2)) / (1 + Z95**2 / runs)
    return f"{100 * p:.1f} % ({100 * max(0, centre - half):.1f}-{100 * min(1, centre + half):.1f})"


def print_row(*cells: object) -> None:
    """Print a row of a Markdown table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def print_header(*cells: object) -> None:
    """Print the header of a Markdown table."""
    print()
    print_row(*cells)
    print_row(*("---" for _ in cells))


def false_alarms(runs: int, lengths: tuple[int, ...]) -> None:
    """Print how often curves without instability are judged `unstable`.

    A constant level is the worst case: without a descent, a later block is as likely to be high as an earlier one is to
    be low.
    """
    print("\n## False alarms: share of healthy runs judged `unstable`")
    for title, levels in (("constant", synthetic_curves.constant), ("power-law descent", synthetic_curves.power_law)):
        for sigma in (0.05, 0.3):
            print_header(
                f"{title}, noise {100 * sigma:.0f} % of the level", *(f"{points} points" for points in lengths)
            )
            for name, noise in synthetic_curves.NOISES.items():
                cells = []
                for points in lengths:
                    curves = (synthetic_curves.noisy(levels(points), noise, sigma, seed) for seed in range(runs))
                    hits = sum(verdict_of(Curve(losses=losses)).verdict == "unstable" for losses in curves)
                    cells.append(share(hits, runs))
                print_row(name, *cells)


def power(runs: int, lengths: tuple[int, ...]) -> None:
    """Print the verdicts on a settled descent with a lasting step at the middle, by noise and height of the step."""
    print("\n## Power: a lasting step at the middle of a settled descent (unstable / promote / inconclusive, %)")
    for name in ("gaussian", "lognormal", "t3"):
        print_header(f"{name}: noise, height of the step", *(f"{points} points" for points in lengths))
        noise = synthetic_curves.NOISES[name]
        for sigma in (0.02, 0.1, 0.3):
            for height in (0.05, 0.1, 0.3):
                cells = []
                for points in lengths:
                    descent = enumerate(synthetic_curves.settled(points))
                    levels = [level * (1 + height * (t >= points // 2)) for t, level in descent]
                    curves = (synthetic_curves.noisy(levels, noise, sigma, seed) for seed in range(runs))
                    counts = Counter(verdict_of(Curve(losses=losses)).verdict for losses in curves)
                    cells.append(" / ".join(f"{100 * counts[word] / runs:.0f}" for word in WORDS[:3]))
                print_row(f"{100 * sigma:.0f} %, +{100 * height:.0f} %", *cells)


def families(runs: int, points: int) -> None:
    """Print the verdicts on every family of curves, and the delay from onset to alarm as a share of the window."""
    print(f"\n## Families, {points} points, noise {100 * synthetic_curves.SIGMA:.0f} % of the level")
    print_header("family", *WORDS, "alarms before the onset", "delay, median", "delay, p90")
    all_families = synthetic_curves.HEALTHY | synthetic_curves.MASKED | synthetic_curves.UNSTABLE
    for name, family in all_families.items():
        counts: Counter[CurveVerdictWord] = Counter()
        delays = []
        for seed in range(runs):
            curve = family(points, seed)
            verdict = verdict_of(curve)
            counts[verdict.verdict] += 1
            if curve.onset is not None and verdict.step is not None:
                delays.append((verdict.step - curve.onset) / points)
        late = sorted(delay for delay in delays if delay >= 0)
        quantiles = [f"{100 * late[int(q * len(late))]:.1f} %" if late else "" for q in (0.5, 0.9)]
        print_row(name, *(share(counts[word], runs) for word in WORDS), len(delays) - len(late), *quantiles)


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400, help="runs per cell of the first table (default 400)")
    parser.add_argument("--quick", action="store_true", help="short windows and few runs: about a minute")
    args = parser.parse_args()
    runs = 40 if args.quick else args.runs
    lengths = LENGTHS[:3] if args.quick else LENGTHS
    began = time.perf_counter()
    print(
        f"# Error rates of the curve judge\n\n{runs} runs per cell of the first table, a quarter of that in the others."
    )
    false_alarms(runs, lengths)
    power(max(1, runs // 4), lengths)
    families(max(1, runs // 4), 400 if args.quick else 1000)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
