"""Error rates of the judge on synthetic curves, as Markdown.

    python benchmarks/calibration.py [--runs 400] [--quick]

Three tables: false alarms on flat noise and on a descent, per noise and length; power against a lasting step, per
noise, rise and length; verdict and delay per family of curves. Shares come with their 95 % Wilson
interval. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from math import sqrt
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import families as known

from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict

LENGTHS = (60, 150, 400, 1000, 3000)
Z95 = 1.96


def judged(curve: known.Curve) -> CurveVerdict:
    """The verdict on one curve."""
    judge = CurveJudge(planned_points=len(curve.losses), expected_jumps=curve.edges)
    for step, loss in enumerate(curve.losses):
        if judge.add(step, loss, lr=curve.lr[step] if curve.lr else None):
            break
    return judge.finish()


def share(hits: int, runs: int) -> str:
    """`2.0 % (1.0-3.9)`: share and Wilson interval."""
    p = hits / runs
    centre = (p + Z95**2 / (2 * runs)) / (1 + Z95**2 / runs)
    half = Z95 * sqrt(p * (1 - p) / runs + Z95**2 / (4 * runs**2)) / (1 + Z95**2 / runs)
    return f"{100 * p:.1f} % ({100 * max(0, centre - half):.1f}-{100 * min(1, centre + half):.1f})"


def row(*cells: object) -> None:
    """One line of a Markdown table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def head(*cells: object) -> None:
    """The header of a Markdown table."""
    print()
    row(*cells)
    row(*("---" for _ in cells))


def false_alarms(runs: int, lengths: tuple[int, ...]) -> None:
    """Flat noise is the worst case: nothing falls, so every block has its chance to be a trough."""
    print("\n## False alarms: share of healthy runs judged `unstable`")
    for title, levels in (("flat", known.flat), ("power-law descent", known.power_law)):
        for sigma in (0.05, 0.3):
            head(f"{title}, noise {100 * sigma:.0f} % of the level", *(f"{points} points" for points in lengths))
            for name, noise in known.NOISES.items():
                cells = []
                for points in lengths:
                    curves = (known.noisy(levels(points), noise, sigma, seed) for seed in range(runs))
                    hits = sum(judged(known.Curve(losses=losses)).verdict == "unstable" for losses in curves)
                    cells.append(share(hits, runs))
                row(name, *cells)


def power(runs: int, lengths: tuple[int, ...]) -> None:
    """A descent that settles, with a step at the middle: seen, promoted, held back."""
    print("\n## Power: a lasting step at the middle of a settled descent (unstable / promoted / inconclusive, %)")
    for name in ("gaussian", "lognormal", "t3"):
        head(f"{name}: noise, rise", *(f"{points} points" for points in lengths))
        for sigma in (0.02, 0.1, 0.3):
            for rise in (0.05, 0.1, 0.3):
                cells = []
                for points in lengths:
                    levels = [level * (1 + rise * (t >= points // 2)) for t, level in enumerate(known.settled(points))]
                    curves = (known.noisy(levels, known.NOISES[name], sigma, seed) for seed in range(runs))
                    found = Counter(judged(known.Curve(losses=losses)).verdict for losses in curves)
                    names = ("unstable", "promote", "inconclusive")
                    cells.append(" / ".join(f"{100 * found[verdict] / runs:.0f}" for verdict in names))
                row(f"{100 * sigma:.0f} %, +{100 * rise:.0f} %", *cells)


def shapes(runs: int, points: int) -> None:
    """Every family, with the delay from onset to alarm as a share of the window."""
    print(f"\n## Families, {points} points, noise {100 * known.SIGMA:.0f} % of the level")
    head(
        "family", "unstable", "promote", "inconclusive", "invalid", "alarm before onset", "delay, median", "delay, p90"
    )
    for name, family in (known.HEALTHY | known.MASKED | known.BROKEN).items():
        found: Counter[str] = Counter()
        delays = []
        for seed in range(runs):
            curve = family(points, seed)
            verdict = judged(curve)
            found[verdict.verdict] += 1
            if curve.onset is not None and verdict.step is not None:
                delays.append((verdict.step - curve.onset) / points)
        delays.sort()
        late = [delay for delay in delays if delay >= 0]
        quantiles = [f"{100 * late[int(q * len(late))]:.1f} %" if late else "" for q in (0.5, 0.9)]
        verdicts = (share(found[verdict], runs) for verdict in ("unstable", "promote", "inconclusive", "invalid"))
        row(name, *verdicts, len(delays) - len(late), *quantiles)


def main() -> None:
    """Print the three tables."""
    assert __doc__
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument(
        "--runs", type=int, default=400, help="Monte-Carlo runs per cell of the first table (default 400)"
    )
    parse.add_argument("--quick", action="store_true", help="short windows and few runs: a minute")
    args = parse.parse_args()
    runs = 40 if args.quick else args.runs
    lengths = LENGTHS[:3] if args.quick else LENGTHS
    began = time.perf_counter()
    print(f"# Calibration of the judge\n\n{runs} runs per cell of the first table, a quarter of that in the others.")
    false_alarms(runs, lengths)
    power(max(1, runs // 4), lengths)
    shapes(max(1, runs // 4), 400 if args.quick else 1000)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
