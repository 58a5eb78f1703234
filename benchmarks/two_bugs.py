"""Reproduce the two bugs that motivated this project, on the shipped address tagger.

    python benchmarks/two_bugs.py [--quick] [--only a|b]

Trains each recipe as `pytest --smoke` does, and also the runs that `pytest --smoke` refuses: a smoke run whose schedule
hides a divergence, and full runs. Prints Markdown tables and writes docs/explanation/two-bugs-a.svg and two-bugs-b.svg,
which needs matplotlib (the extra `benchmarks`). --quick trains one seed, with the first 2,000 steps of its full run,
and writes no figures. The page that explains the results is docs/explanation/why-short-runs-mislead.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from two_bugs_runs import COLLAPSE, ROOT, Run, SeedRuns, collapse_of, train, with_smoke_settings

from pytest_smoke.judge.checks.registry import DEFAULT
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import load_cases

HERE = Path(__file__).parent
FIGURES = ROOT / "docs" / "explanation"
SEEDS = (0, 1, 2)
FULL_STEPS = {0: 6000, 1: 2000, 2: 2000}
"""Steps that the full run is trained for, by seed; its schedule always has 6,000."""
QUICK_SEEDS, QUICK_STEPS = (0,), {0: 2000}
COSINE_STEPS = 800
"""Length of the cosine smoke run and of its schedule."""


def first_bug(seeds: Sequence[int], full_steps: Mapping[int, int]) -> dict[int, SeedRuns]:
    """Train a cosine smoke run, a constant smoke run and a full run with each seed, and print a row for each."""
    (case,) = load_cases(HERE / "two_bugs_a.smoke.yaml", root=ROOT)
    runs = {}
    for seed in seeds:
        cosine = train(with_smoke_settings(case, seed=seed, lr_schedule="cosine", max_steps=COSINE_STEPS))
        print(first_row(seed, "cosine smoke run", cosine), flush=True)
        constant = train(with_smoke_settings(case, seed=seed))
        print(first_row(seed, "constant smoke run", constant), flush=True)
        full = None
        if seed in full_steps:
            settings = {"lr_schedule": "cosine", "max_steps": case.full.max_steps, "run_steps": full_steps[seed]}
            full = train(with_smoke_settings(case, seed=seed, **settings))
            print(first_row(seed, "full run", full), flush=True)
        runs[seed] = SeedRuns(cosine=cosine, constant=constant, full=full)
    return runs


FIRST_HEADER = (
    "| seed | run | macro-F1, last five evaluations | verdict on the loss | best macro-F1 before the collapse "
    f"| lowest | steps {COLLAPSE:g} or more below the best | recovered at step | macro-F1 at the end |\n"
    "|---:|---|---|---|---|---|---:|---:|---:|"
)


def first_row(seed: int, name: str, run: Run) -> str:
    """Format a run of the first bug as a row of the table."""
    collapse, last = collapse_of(run.f1), " ".join(f"{value:.3f}" for _, value in run.f1[-5:])
    row = [str(seed), name, last, run.verdict, "", "", str(collapse.steps_below), "", f"{collapse.last:.3f}"]
    if collapse.steps_below:
        row[4] = f"{collapse.peak:.3f} at {collapse.peak_step}"
        row[5] = f"{collapse.lowest:.3f} at {collapse.lowest_step}"
        row[7] = "not recovered" if collapse.recovered_step is None else str(collapse.recovered_step)
    return f"| {' | '.join(row)} |"


SECOND_HEADER = (
    "| optimizer | learning rate | seed | batch 8 | macro-F1 at the end | batch 128 | macro-F1 at the end |\n"
    "|---|---:|---:|---|---:|---|---:|"
)
TASKS = {"AdamW": "recipes.address_tagger:AddressTagger", "SGD": "benchmarks.two_bugs_task:SgdTagger"}
PAIRS = (("SGD", 0.08, 0), ("AdamW", 0.06, 0))
"""Optimizer, learning rate and seed of the pairs of runs in the table and the figure."""
BATCHES = (8, 128)


def second_bug(pairs: Sequence[tuple[str, float, int]]) -> dict[tuple[str, float, int], dict[int, Run]]:
    """Train each pair at both batch sizes, until the end or until the loss is unstable, and print a row for each."""
    (case,) = load_cases(HERE / "two_bugs_b.smoke.yaml", root=ROOT)
    failure = next(finding for finding in DEFAULT.before_run(case) if finding.status == "fail")
    print(f"Check before the run at batch 8: {failure.text}\n\n{SECOND_HEADER}")
    runs = {}
    for optimizer, rate, seed in pairs:
        by_batch = {batch: train(with_batch(case, optimizer, rate, seed, batch), early_stop=True) for batch in BATCHES}
        cells = [f"{run.verdict} | {run.f1[-1][1]:.3f}" if run.f1 else f"{run.verdict} | " for run in by_batch.values()]
        print(f"| {optimizer} | {rate:g} | {seed} | {' | '.join(cells)} |", flush=True)
        runs[optimizer, rate, seed] = by_batch
    return runs


def with_batch(case: Case, optimizer: str, learning_rate: float, seed: int, batch: int) -> Case:
    """Return `case` with the same batch size in the full run and in the smoke run."""
    full = case.full.model_copy(update={"learning_rate": learning_rate, "batch_size": batch})
    recipe = case.recipe.model_copy(update={"task": TASKS[optimizer], "full": full})
    return with_smoke_settings(replace(case, recipe=recipe), seed=seed, batch_size=batch)


def main() -> None:
    """Run the benchmark and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="train one seed and shorter full runs, write no figures")
    parser.add_argument("--only", choices=("a", "b"), help="only the first (a) or the second (b) bug")
    options = parser.parse_args()
    if not options.quick:
        import two_bugs_plots as plots  # needs matplotlib; fails here and not after the trainings

    if options.only != "b":
        print(FIRST_HEADER)
        seeds = QUICK_SEEDS if options.quick else SEEDS
        runs = first_bug(seeds, QUICK_STEPS if options.quick else FULL_STEPS)
        shown = runs[0]
        assert shown.cosine.preflight_failure is not None
        print(f"\nCheck before the cosine smoke run: {shown.cosine.preflight_failure.text}")
        print(f"Loss of the cosine smoke run: {shown.cosine.loss_finding.text}")
        print(f"Loss of the constant smoke run: {shown.constant.loss_finding.text}\n")
        if not options.quick:
            plots.draw_first(runs, FIGURES / "two-bugs-a.svg")

    if options.only != "a":
        pairs = second_bug(PAIRS[:1] if options.quick else PAIRS)
        if not options.quick:
            plots.draw_second(pairs, FIGURES / "two-bugs-b.svg")


if __name__ == "__main__":
    main()
