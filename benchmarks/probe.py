"""A step whose loss terms are differentiated one by one, against an ordinary step of the same model; interleaved.

    python benchmarks/probe.py [--rounds 40]

Prints the ratio of their times, median and quartiles over the rounds, for 2, 4 and 8 terms of one transformer and for
the latent phase of `recipes/latent_prefix.smoke.yaml`, and what that makes of a whole smoke.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn

from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.train.batch_stream import BatchStream
from pytest_smoke.train.data import seeded_task
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.plan import RunPlan, ratio_every_steps
from pytest_smoke.train.step import Stepper

ROOT = Path(__file__).parents[1]
WIDTH, LAYERS, TOKENS, BATCH = 128, 4, 64, 8


class Heads:
    """Terms that each look at another head of one transformer encoder."""

    def __init__(self, terms: int) -> None:
        self.terms = terms
        self.batch = torch.randn(BATCH, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))

    def model(self) -> nn.Module:
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        trunk = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        return nn.Sequential(trunk, nn.Linear(WIDTH, self.terms))

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        while True:
            yield self.batch

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        return {f"t{k}": column.square().mean() for k, column in enumerate(model(batch).unbind(-1))}


def case_of(steps: int) -> Case:
    """A recipe of the synthetic task."""
    settings = {"batch_size": BATCH, "learning_rate": 1e-4, "max_steps": steps, "grad_clip_norm": 1.0}
    recipe = Recipe.model_validate({"task": "a:B", "full": settings, "smoke": {"max_steps": steps}})
    return Case(path="a", recipe=recipe, mode="constant")


def measured(stepper: Stepper, feed: BatchStream, rounds: int) -> tuple[float, list[float]]:
    """Seconds of an ordinary step (median), and the ratio of a probed one to the ordinary one beside it, by round."""
    plain, ratios = [], []
    for number in range(rounds + 3):
        times = []
        for probe in (False, True) if number % 2 else (True, False):
            batches = feed.draw()
            began = time.perf_counter()
            row, gram = stepper.update(batches, 1.0, probe=probe)
            times.append((probe, time.perf_counter() - began, row, gram))
        seconds = {probe: spent for probe, spent, _, _ in times}
        if number >= 3:  # the first are warm-up
            plain.append(seconds[False])
            ratios.append(seconds[True] / seconds[False])
    return median(plain), ratios


def line(name: str, terms: int, stage: Stage, plain: float, ratios: list[float]) -> str:
    """A row of the table."""
    low, middle, high = quantiles(ratios, n=4)
    probes = -(-stage.steps // ratio_every_steps(stage, terms))
    cost = f"{probes} in {stage.steps} steps: +{100 * probes * (middle - 1) / stage.steps:.1f} %"
    return f"| {name} | {terms} | {1e3 * plain:.1f} | {middle:.2f} ({low:.2f} to {high:.2f}) | {cost} |"


def main() -> None:
    """Run and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    device = torch.device("cpu")
    print("| model | terms | ordinary step, ms | probed / ordinary, median (quartiles) | probes, and their cost |")
    print("|---|---:|---:|---|---|")
    for terms in (2, 4, 8):
        task = Heads(terms)
        plan = RunPlan.of(case_of(1000), root=".", device="cpu")
        stepper, feed = Stepper(plan, task, device), BatchStream(task, plan, seed=0)
        stepper.learn_terms(task.batch)
        print(line("transformer, 0.8 million weights", terms, plan.stages[0], *measured(stepper, feed, rounds)))
    case, *_ = load_cases(ROOT / "recipes" / "latent_prefix.smoke.yaml", root=ROOT)
    plan = RunPlan.of(case, root=str(ROOT), device="cpu")
    task = seeded_task(plan)
    for stage in plan.stages:
        feed = BatchStream(task, plan, seed=0)
        stepper = stepper if stage.first_step else Stepper(plan, task, device)
        if stage.first_step:
            stepper.begin(stage)
        stepper.learn_terms(feed.draw()[0])
        stepper.enter_phase(stage.phases[-1][1])
        feed.restart(0)
        stepper.learn_terms(feed.draw()[0])
        name = f"latent_prefix, stage {stage.name}, latent"
        print(line(name, len(stepper.terms), stage, *measured(stepper, feed, rounds)))


if __name__ == "__main__":
    main()
