"""Compare a gradient probe, a step with one backward pass per loss term, with an ordinary step of the same model.

    python benchmarks/gradient_probe.py [--rounds 40]

Both kinds of step alternate. Prints a Markdown table: the ratio of their times, median and quartiles over the rounds,
and what the probes add to a smoke run; for 2, 4 and 8 terms of one transformer, and for the latent phases of
recipes/latent_prefix.smoke.yaml.
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
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.data import BatchStream, seeded_task
from pytest_smoke.train.plan import RunPlan, gradient_probe_every_steps
from pytest_smoke.train.step import Stepper

ROOT = Path(__file__).parents[1]
WIDTH, LAYERS, TOKENS, BATCH = 128, 4, 64, 8
WARMUP_ROUNDS = 3


class TransformerTask:
    """A transformer encoder with one linear head per loss term, on one fixed batch."""

    def __init__(self, terms: int) -> None:
        self.terms = terms
        self.batch = torch.randn(BATCH, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))

    def model(self) -> nn.Module:
        """Return the encoder with its heads."""
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        return nn.Sequential(encoder, nn.Linear(WIDTH, self.terms))

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Repeat the batch, whatever the arguments are."""
        while True:
            yield self.batch

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        """Return the mean square of each head's output."""
        return {f"t{k}": column.square().mean() for k, column in enumerate(model(batch).unbind(-1))}


def case_of(steps: int) -> Case:
    """Return a smoke run of `steps` steps for the transformer."""
    settings = {"batch_size": BATCH, "learning_rate": 1e-4, "max_steps": steps, "grad_clip_norm": 1.0}
    recipe = Recipe.model_validate({"task": "a:B", "full": settings, "smoke": {"max_steps": steps}})
    return Case(path="a", recipe=recipe, mode="constant")


def measure(stepper: Stepper, stream: BatchStream, rounds: int) -> tuple[float, list[float]]:
    """Return the median seconds of an ordinary step, and per round the time of a probe divided by that of a step."""
    plain, ratios = [], []
    for number in range(WARMUP_ROUNDS + rounds):
        seconds = {}
        for probe in (False, True) if number % 2 else (True, False):
            batches = stream.draw()
            began = time.perf_counter()
            stepper.update(batches, 1.0, probe=probe)
            seconds[probe] = time.perf_counter() - began
        if number >= WARMUP_ROUNDS:
            plain.append(seconds[False])
            ratios.append(seconds[True] / seconds[False])
    return median(plain), ratios


def row(name: str, terms: int, stage: Stage, plain: float, ratios: list[float]) -> str:
    """Format a row of the table."""
    low, middle, high = quantiles(ratios, n=4)
    probes = -(-stage.steps // gradient_probe_every_steps(stage, terms))
    cost = f"{probes} in {stage.steps} steps: +{100 * probes * (middle - 1) / stage.steps:.1f} %"
    return f"| {name} | {terms} | {1e3 * plain:.1f} | {middle:.2f} ({low:.2f} to {high:.2f}) | {cost} |"


def main() -> None:
    """Run the benchmark and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="steps of each kind, at least 2 (default 40)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    device = torch.device("cpu")
    print("| model | terms | ordinary step, ms | probe / ordinary step, median (quartiles) | probes and their cost |")
    print("|---|---:|---:|---|---|")
    for terms in (2, 4, 8):
        task = TransformerTask(terms)
        plan = RunPlan.of(case_of(1000), root=".", device="cpu")
        stepper, stream = Stepper(plan, task, device), BatchStream(task, plan, seed=0)
        stepper.learn_terms(task.batch)
        timing = measure(stepper, stream, rounds)
        print(row("transformer, 0.8 million weights", terms, plan.stages[0], *timing), flush=True)
    case, *_ = load_cases(ROOT / "recipes" / "latent_prefix.smoke.yaml", root=ROOT)
    plan = RunPlan.of(case, root=str(ROOT), device="cpu")
    latent_prefix = seeded_task(plan)
    stepper, stream = Stepper(plan, latent_prefix, device), BatchStream(latent_prefix, plan, seed=0)
    for stage in plan.stages:
        if stage.first_step:
            stepper.start_stage(stage)
        stream.restart(0)
        stepper.learn_terms(stream.draw()[0])
        _, latent_phase_step = stage.phases[-1]
        stepper.start_phase(latent_phase_step)
        stream.restart(0)
        stepper.learn_terms(stream.draw()[0])
        timing = measure(stepper, stream, rounds)
        print(row(f"latent_prefix, stage {stage.name}, latent", len(stepper.terms), stage, *timing), flush=True)


if __name__ == "__main__":
    main()
