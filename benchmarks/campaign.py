"""Reproduce the two bugs this project comes from, on the shipped address tagger.

    python benchmarks/campaign.py [--quick]

Trains each recipe as `pytest --smoke` does, and also what it refuses: a smoke run whose schedule hides a divergence,
and a full run to its end. Prints Markdown tables and writes docs/two-bugs-a.svg and docs/two-bugs-b.svg; --quick runs
one seed with the first 2,000 steps of its full run, and writes no plot. The page that explains them is
docs/explanation/why-short-runs-mislead.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import two_bugs_plots as plots
from two_bugs_runs import FELL, ROOT, Run, Three, changed, collapse, train

from pytest_smoke.judge.checks.preflight import preflight
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import load_cases

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
FULL_STEPS = {0: 6000, 1: 2000, 2: 2000}
"""Steps of the full run by seed, of the 6,000 that its schedule always has."""
QUICK_SEEDS, QUICK_STEPS = (0,), {0: 2000}
COSINE_STEPS = 800
"""Horizon and length of the cosine smoke."""


def first_bug(seeds: Sequence[int], full_steps: Mapping[int, int]) -> dict[int, Three]:
    """The short cosine smoke, the smoke in constant mode, and the full cosine run, by seed; printed as they end."""
    (case,) = load_cases(HERE / "two_bugs_a.smoke.yaml", root=ROOT)
    runs = {}
    for seed in seeds:
        cosine = train(changed(case, seed=seed, lr_schedule="cosine", max_steps=COSINE_STEPS))
        print(first_row(seed, "cosine smoke", cosine), flush=True)
        constant = train(changed(case, seed=seed))
        print(first_row(seed, "constant smoke", constant), flush=True)
        full = None
        if seed in full_steps:
            horizon = case.full.max_steps
            full = train(changed(case, seed=seed, lr_schedule="cosine", max_steps=horizon, run_steps=full_steps[seed]))
            print(first_row(seed, "full run", full), flush=True)
        runs[seed] = Three(cosine=cosine, constant=constant, full=full)
    return runs


FIRST_HEADER = (
    "| seed | run | macro-F1, last five evaluations | judge | best macro-F1 before the fall | lowest | "
    f"steps {FELL:g} or more below the best | for good from step | at the end |\n"
    "|---:|---|---|---|---|---|---:|---:|---:|"
)


def first_row(seed: int, name: str, run: Run) -> str:
    """A row of the table."""
    fall, last = collapse(run.f1), " ".join(f"{value:.3f}" for _, value in run.f1[-5:])
    row = [str(seed), name, last, run.verdict, "", "", str(fall.steps_below), "", f"{fall.last:.3f}"]
    if fall.steps_below:
        row[4:6] = f"{fall.peak:.3f} at {fall.peak_step}", f"{fall.low:.3f} at {fall.low_step}"
        row[7] = "not reached" if fall.healed_step is None else str(fall.healed_step)
    return f"| {' | '.join(row)} |"


SECOND_HEADER = (
    "| optimizer | learning rate | seed | batch 8 | macro-F1 at the end | batch 128 | macro-F1 at the end |\n"
    "|---|---:|---:|---|---:|---|---:|"
)
TASKS = {"AdamW": "recipes.address_tagger:AddressTagger", "SGD": "benchmarks.two_bugs_task:SgdTagger"}
PAIRS = (("SGD", 0.08, 0), ("AdamW", 0.06, 0))
"""Optimizer, learning rate and seed of the pairs that the plot and the table show."""
BATCHES = (8, 128)


def second_bug(pairs: Sequence[tuple[str, float, int]]) -> dict[tuple[str, float, int], dict[int, Run]]:
    """Both batches of every pair at one learning rate; printed as they end. A run is stopped where it is doomed."""
    (case,) = load_cases(HERE / "two_bugs_b.smoke.yaml", root=ROOT)
    refused = next(finding for finding in preflight(case) if finding.status == "fail")
    print(f"Before it runs, the smoke at batch 8 is refused: {refused.text}\n\n{SECOND_HEADER}")
    runs = {}
    for optimizer, rate, seed in pairs:
        by_batch = {batch: train(geometry(case, optimizer, rate, seed, batch), early_stop=True) for batch in BATCHES}
        cells = [f"{run.verdict} | {run.f1[-1][1]:.3f}" if run.f1 else f"{run.verdict} | " for run in by_batch.values()]
        print(f"| {optimizer} | {rate:g} | {seed} | {' | '.join(cells)} |", flush=True)
        runs[optimizer, rate, seed] = by_batch
    return runs


def geometry(case: Case, optimizer: str, learning_rate: float, seed: int, batch: int) -> Case:
    """`case` with one batch in the full run and the smoke alike."""
    full = case.full.model_copy(update={"learning_rate": learning_rate, "batch_size": batch})
    recipe = case.recipe.model_copy(update={"task": TASKS[optimizer], "full": full})
    return changed(replace(case, recipe=recipe), seed=seed, batch_size=batch)


def main() -> None:
    """Run and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, shorter, no plots")
    parser.add_argument("--only", choices=("a", "b"), help="one of the two bugs")
    options = parser.parse_args()
    if options.only != "b":
        print(FIRST_HEADER)
        seeds = QUICK_SEEDS if options.quick else SEEDS
        runs = first_bug(seeds, QUICK_STEPS if options.quick else FULL_STEPS)
        shown = runs[0]
        assert shown.cosine.refused is not None
        print(f"\nBefore it runs, the cosine smoke is refused: {shown.cosine.refused.text}")
        print(f"Its curve: {shown.cosine.loss_trend.text}")
        print(f"The constant smoke's: {shown.constant.loss_trend.text}\n")
        if not options.quick:
            plots.first(runs, ROOT / "docs" / "two-bugs-a.svg")

    if options.only != "a":
        pairs = second_bug(PAIRS[:1] if options.quick else PAIRS)
        if not options.quick:
            plots.second(pairs, ROOT / "docs" / "two-bugs-b.svg")


if __name__ == "__main__":
    main()
