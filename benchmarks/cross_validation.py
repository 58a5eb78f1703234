"""Choose the judge's free constants on all groups of curves but one, score them on that one, and print both.

    python benchmarks/cross_validation.py --curves FOLDER [FOLDER ...] [--no-probe]

A FOLDER holds labelled runs (`cpu_runs.csv` and `cpu_runs/`), public logs (`logs.csv` and `logs/`) or both. A run's
group is its family: the column `family`, or the file name up to the first `_`. A log's group is the owner of its
repository. Runs of all folders are one collection, logs are another.

Each constant is varied alone around its shipped value. Every curve is judged once per configuration, with the probe
batch where it has one (`--no-probe`: the training loss alone) and without the learning rate, because the labels are
about the loss alone. For each group, the configuration with the lowest cost on all other groups is chosen (the shipped
one if several are lowest). A curve costs

    10  healthy, called unstable
     5  visible instability, promoted
     2  hidden instability, promoted
     1  healthy and inconclusive, or visible instability that was not stopped and not promoted

Labels other than these three (`grey`, `dead`, `shift`, `ambiguous`) are not scored.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from calibration import print_header, print_row, share

from pytest_smoke.judge.curve import (
    confirmation,
    correlation,
    curve_judge,
    detectors,
    final_verdict,
    probe_batch,
    trend,
)
from pytest_smoke.judge.curve.curve_judge import CurveJudge
from pytest_smoke.judge.curve.curve_verdict import CurveVerdictWord
from pytest_smoke.judge.curve.trend import MinimumRise, Trend

Label = Literal["healthy", "visible", "hidden"]
Point = tuple[int, float, float | None, float | None]
"""Step, loss, probe loss, gradient norm."""

MODULES = (confirmation, correlation, curve_judge, detectors, final_verdict, probe_batch, trend)
TREND_DEFAULTS = {
    "BLOCKS": "blocks",
    "SPANS": "spans",
    "MIN_SIGMAS": "min_sigmas",
    "LOSS_MINIMUM_RISE": "minimum_rise",
}
"""Constants that are defaults of `Trend`, by argument."""
RUN_LABELS: dict[str, Label] = {"healthy": "healthy", "unstable-visible": "visible", "unstable-hidden": "hidden"}
LOG_LABELS: dict[str, Label] = {"promote": "healthy", "unstable": "visible"}

GRIDS: dict[tuple[ModuleType, str], tuple[Any, ...]] = {
    (confirmation, "BURST_SHARE"): (0.005, 0.02),
    (confirmation, "ALL_BURSTS_SHARE"): (0.025, 0.1),
    (confirmation, "NEWEST_POINTS"): (3, 9),
    (confirmation, "SHARED_RISE"): (0.15, 0.4),
    (confirmation, "PROBE_RISE"): (0.05, 0.2),
    (confirmation, "WEAK_SHARED_RISE"): (0.35, 0.75),
    (confirmation, "SCORES_BEFORE"): (2, 5),
    (confirmation, "SCORES_SINCE"): (3, 8),
    (correlation, "WINDOW_POINTS"): (24, 48),
    (correlation, "MAX_CORRELATION"): (0.3, 0.8),
    (curve_judge, "SPIKE_REFERENCES"): ((50,), (50, 20)),
    (curve_judge, "EARLY_SHARE"): (2, 4),
    (curve_judge, "MIN_EARLY_POINTS"): (32, 72),
    (detectors, "FALSE_SPIKE_CHANCE"): (0.001, 0.004),
    (detectors, "SPIKE_LEVEL"): (0.07, 0.15),
    (detectors, "SPIKE_PROGRESS"): (0.02, 0.05),
    (detectors, "SPIKE_MADS"): (3.0, 6.0),
    (detectors, "DIVERGED_SHARE"): (0.2, 0.45),
    (detectors, "FALSE_DIVERGENCE_CHANCE"): (0.001, 0.01),
    (detectors, "DIVERGED_MULTIPLE"): (2.0, 5.0),
    (detectors, "DIVERGED_POINTS"): (3, 6),
    (detectors, "SWING_MULTIPLE"): (15.0, 60.0),
    (detectors, "SWINGS"): (2, 4),
    (detectors, "EARLY_RULES"): (((24, 2.0), (8, 7.0), (4, 20.0)), ((24, 4.5), (8, 15.0), (4, 45.0))),
    (final_verdict, "MIN_BLOCKS_JUDGED"): (12, 20),
    (probe_batch, "MIN_SIGMAS"): (4.0, 6.0),
    (probe_batch, "MINIMUM_RISE"): (
        MinimumRise(level=0.07, progress=0.035),
        MinimumRise(level=0.15, progress=0.075),
    ),
    (probe_batch, "LASTING_BLOCKS"): (1, 3),
    (trend, "BLOCKS"): (80, 160),
    (trend, "SPANS"): ((1, 2, 4, 8, 16, 32), (1, 2, 3, 4, 6, 8, 12, 16, 24)),
    (trend, "MIN_SIGMAS"): (4.0, 5.0),
    (trend, "WEAK_SIGMAS"): (3.0, 3.7),
    (trend, "POWER_FACTOR"): (1.15, 1.4),
    (trend, "LIMIT_NOISE_BLOCKS"): (40, 90),
    (trend, "CLAIMED_SHARE"): (0.07, 0.15),
    (trend, "NOISE_BLOCKS"): (14, 28),
    (trend, "LAGS"): ((1, 2), (1, 2, 4, 8)),
    (trend, "MIN_LAG_BLOCKS"): (8, 16),
    (trend, "LARGE_LEVEL_SHARE"): (0.5, 2.0),
    (trend, "CLIP_MADS"): (4.0, 7.0),
    (trend, "LOST_DECADES"): (0.6, 0.9),
    (trend, "LOSS_MINIMUM_RISE"): (MinimumRise(level=0.015, progress=0.0075), MinimumRise(level=0.03, progress=0.015)),
}
"""Other values of each constant on which a verdict on these curves can depend: one smaller, one larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A labelled curve."""

    collection: str
    """`runs` or `logs`."""
    source: str
    """Name of its folder and table."""
    group: str
    label: Label
    onset: float | None
    """Step at which the instability begins."""
    span: int
    """Steps of the whole window."""
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the judge said of a curve, and at which step."""

    verdict: CurveVerdictWord
    step: int | None


@dataclass(frozen=True, slots=True)
class Configuration:
    """The shipped constants with one of them changed, or none."""

    module: ModuleType | None = None
    constant: str = ""
    value: Any = None

    def __str__(self) -> str:
        if self.module is None:
            return "as shipped"
        value = f"{self.value.level}, {self.value.progress}" if isinstance(self.value, MinimumRise) else self.value
        return f"`{self.module.__name__.rpartition('.')[2]}.{self.constant}` = {value}"


def set_constant(module: ModuleType, name: str, value: Any) -> None:
    """Set a constant in all modules that share it, and where it is a default of `Trend`."""
    shipped = getattr(module, name)
    for other in MODULES:
        if getattr(other, name, None) is shipped:
            setattr(other, name, value)
    defaults = Trend.__init__.__kwdefaults__
    if defaults is not None and module is trend and name in TREND_DEFAULTS:
        defaults[TREND_DEFAULTS[name]] = value


@contextmanager
def configured(configuration: Configuration) -> Iterator[None]:
    """Judge with `configuration`."""
    module, name = configuration.module, configuration.constant
    if module is None:
        yield
        return
    shipped = getattr(module, name)
    set_constant(module, name, configuration.value)
    try:
        yield
    finally:
        set_constant(module, name, shipped)


def configurations() -> list[Configuration]:
    """Return the shipped configuration, then each one with one other value."""
    return [Configuration()] + [
        Configuration(module, name, value) for (module, name), values in GRIDS.items() for value in values
    ]


def number(cell: str | None) -> float | None:
    """Read a cell; an empty or missing one is None."""
    return float(cell) if cell else None


def read_points(path: Path, window: int | None, with_probe: bool) -> list[Point]:
    """Read the first `window` rows of a curve, without those that have no loss."""
    points: list[Point] = []
    with path.open(newline="") as lines:
        for index, row in enumerate(csv.DictReader(lines)):
            if window is not None and index >= window:
                break
            loss = number(row["loss"])
            if loss is not None:
                probe_loss = number(row.get("probe_loss")) if with_probe else None
                points.append((int(float(row["step"])), loss, probe_loss, number(row.get("grad_norm"))))
    return points


def read_cases(folder: Path, with_probe: bool) -> Iterator[Case]:
    """Iterate over the labelled runs and logs of a folder that are scored."""
    if (table := folder / "cpu_runs.csv").exists():
        with table.open(newline="") as lines:
            for row in csv.DictReader(lines):
                if label := RUN_LABELS.get(row["label"]):
                    window = int(row["window"])
                    yield Case(
                        collection="runs",
                        source=f"{folder.name}, runs",
                        group=row.get("family") or row["file"].partition("_")[0],
                        label=label,
                        onset=number(row["onset_step"]),
                        span=window,
                        points=read_points(folder / "cpu_runs" / row["file"], window, with_probe),
                    )
    if (table := folder / "logs.csv").exists():
        with table.open(newline="") as lines:
            for row in csv.DictReader(lines):
                if label := LOG_LABELS.get(row["verdict"]):
                    points = read_points(folder / "logs" / row["file"], None, with_probe)
                    yield Case(
                        collection="logs",
                        source=f"{folder.name}, logs",
                        group=row["repo"].partition("/")[0],
                        label=label,
                        onset=number(row["onset_step"]),
                        span=max(1, points[-1][0] - points[0][0]),
                        points=points,
                    )


def judge(case: Case) -> Outcome:
    """Judge a curve point by point, as during training."""
    judging = CurveJudge(planned_points=len(case.points))
    for step, loss, probe_loss, grad_norm in case.points:
        if judging.add(step, loss, probe_loss=probe_loss, grad_norm=grad_norm):
            break
    verdict = judging.finish()
    return Outcome(verdict.verdict, verdict.step)


def cost(label: Label, verdict: str) -> int:
    """Return what a verdict costs."""
    match label, verdict:
        case "healthy", "unstable":
            return 10
        case "visible", "promote":
            return 5
        case "hidden", "promote":
            return 2
        case ("healthy", "promote") | ("visible", "unstable") | ("hidden", _):
            return 0
        case _:
            return 1


def choose(cases: Sequence[Case], outcomes: Sequence[Sequence[Outcome]]) -> dict[str, int]:
    """Return for each group the index of the configuration that costs least on all other groups.

    `outcomes` has one row per configuration and one column per case.
    """
    by_group: dict[str, list[int]] = defaultdict(lambda: [0] * len(outcomes))
    for index, row in enumerate(outcomes):
        for case, outcome in zip(cases, row, strict=True):
            by_group[case.group][index] += cost(case.label, outcome.verdict)
    totals = [sum(costs[index] for costs in by_group.values()) for index in range(len(outcomes))]
    return {
        group: min(range(len(outcomes)), key=lambda index: totals[index] - costs[index])
        for group, costs in by_group.items()
    }


def print_scores(title: str, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> None:
    """Print the row of a table: shares with 95 % intervals, delays in per cent of the window, and the cost."""
    counts = Counter((case.label, outcome.verdict) for case, outcome in zip(cases, outcomes, strict=True))
    totals = Counter(case.label for case in cases)

    def cell(label: Label, *words: CurveVerdictWord) -> str:
        hits = sum(counts[label, word] for word in words)
        return f"{hits} of {totals[label]}: {share(hits, totals[label])}" if totals[label] else ""

    delays = sorted(
        (outcome.step - case.onset) / case.span
        for case, outcome in zip(cases, outcomes, strict=True)
        if case.label == "visible" and outcome.verdict == "unstable"
        if case.onset is not None and outcome.step is not None
    )
    print_row(
        title,
        cell("healthy", "unstable"),
        cell("healthy", "inconclusive", "invalid"),
        cell("visible", "unstable"),
        cell("visible", "promote"),
        cell("hidden", "promote"),
        " / ".join(f"{100 * delays[int(q * len(delays))]:.1f} %" for q in (0.5, 0.9)) if delays else "",
        sum(cost(case.label, outcome.verdict) for case, outcome in zip(cases, outcomes, strict=True)),
    )


def cross_validate(title: str, cases: Sequence[Case]) -> None:
    """Judge the cases with every configuration and print what was chosen, and the scores with and without choosing."""
    found = configurations()
    outcomes = []
    for configuration in found:
        with configured(configuration):
            outcomes.append([judge(case) for case in cases])
    chosen = choose(cases, outcomes)
    times = Counter(chosen.values())
    print(f"\n## {title}: {len(cases)} curves in {len(chosen)} groups")
    print_header("configuration", "chosen", "cost on all groups")
    for index, configuration in enumerate(found):
        total = sum(cost(case.label, outcome.verdict) for case, outcome in zip(cases, outcomes[index], strict=True))
        print_row(configuration, times[index], total)
    print_header(
        "curves",
        "healthy, called unstable",
        "healthy, inconclusive",
        "visible, stopped",
        "visible, promoted",
        "hidden, promoted",
        "delay, median / p90",
        "cost",
    )
    nested = [outcomes[chosen[case.group]][index] for index, case in enumerate(cases)]
    for source in dict.fromkeys(case.source for case in cases):
        of_source = [index for index, case in enumerate(cases) if case.source == source]
        for name, row in (("as shipped", outcomes[0]), ("nested", nested)):
            print_scores(f"{source}, {name}", [cases[i] for i in of_source], [row[i] for i in of_source])


def main() -> None:
    """Print the choices and scores of runs and logs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, nargs="+", required=True, metavar="FOLDER", help="labelled curves")
    parser.add_argument("--no-probe", action="store_true", help="judge the training loss alone")
    args = parser.parse_args()
    began = time.perf_counter()
    cases = [case for folder in args.curves for case in read_cases(folder, with_probe=not args.no_probe)]
    print("# Constants chosen on all groups but one")
    for collection, title in (("runs", "Runs, by family"), ("logs", "Public logs, by owner")):
        if of_collection := [case for case in cases if case.collection == collection]:
            cross_validate(title, of_collection)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
