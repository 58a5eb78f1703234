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
from typing import Literal

from calibration import print_header, print_row, share

from pytest_smoke.judge.curve import confirmation, correlation
from pytest_smoke.judge.curve.curve_judge import CurveJudge
from pytest_smoke.judge.curve.curve_verdict import CurveVerdictWord
from pytest_smoke.judge.curve.trend import Trend

Label = Literal["healthy", "visible", "hidden"]
Point = tuple[int, float, float | None, float | None]
"""Step, loss, probe loss, gradient norm."""

RUN_LABELS: dict[str, Label] = {"healthy": "healthy", "unstable-visible": "visible", "unstable-hidden": "hidden"}
LOG_LABELS: dict[str, Label] = {"promote": "healthy", "unstable": "visible"}

GRIDS = {
    "MIN_SIGMAS": (4.0, 4.5, 5.0),
    "BURST_SHARE": (0.005, 0.01, 0.02),
    "SHARED_RISE": (0.15, 0.25, 0.4),
    "MAX_CORRELATION": (0.3, 0.5, 0.8),
}
"""Values of each constant, the shipped one among them."""


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

    constant: str | None
    value: float = 0.0

    def __str__(self) -> str:
        return f"{self.constant} = {self.value}" if self.constant else "as shipped"


def constants() -> dict[str, float]:
    """Return the current values of the constants."""
    return {
        "MIN_SIGMAS": Trend.__init__.__kwdefaults__["min_sigmas"],
        "BURST_SHARE": confirmation.BURST_SHARE,
        "SHARED_RISE": confirmation.SHARED_RISE,
        "MAX_CORRELATION": correlation.MAX_CORRELATION,
    }


def set_constant(name: str, value: float) -> None:
    """Set a constant where the judge reads it."""
    if name == "MIN_SIGMAS":
        Trend.__init__.__kwdefaults__["min_sigmas"] = value
    else:
        setattr(correlation if name == "MAX_CORRELATION" else confirmation, name, value)


@contextmanager
def configured(configuration: Configuration) -> Iterator[None]:
    """Judge with `configuration`."""
    if configuration.constant is None:
        yield
        return
    shipped = constants()[configuration.constant]
    set_constant(configuration.constant, configuration.value)
    try:
        yield
    finally:
        set_constant(configuration.constant, shipped)


def configurations() -> list[Configuration]:
    """Return the shipped configuration, then each one with one other value.

    Raises ValueError if a shipped value is not in its grid.
    """
    found = [Configuration(None)]
    for name, shipped in constants().items():
        if shipped not in GRIDS[name]:
            raise ValueError(f"the shipped {name} is {shipped}, which is not in its grid {GRIDS[name]}")
        found += [Configuration(name, value) for value in GRIDS[name] if value != shipped]
    return found


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
    curve_judge = CurveJudge(planned_points=len(case.points))
    for step, loss, probe_loss, grad_norm in case.points:
        if curve_judge.add(step, loss, probe_loss=probe_loss, grad_norm=grad_norm):
            break
    verdict = curve_judge.finish()
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
