"""Train one run of a family and record its losses, gradient norms, learning rates, probe losses and slice losses."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from families.labels import Recorded

Batch = tuple[Tensor, ...]
Sample = Callable[[int, Generator], Batch]
"""Draws `count` samples from the data of the run: `sample(count, generator)`; the first dimension is the sample."""
Optimize = Callable[[Iterable[nn.Parameter], float], Optimizer]
SCORES = 400
"""Slice losses per run: a window of a quarter of the run has 100."""
PROBES = 40
"""Probe losses per window."""
WINDOWS = (0.25, 0.5, 1.0)
"""Windows of a run, as shares of its steps."""
FAULT_START = 0.55
"""Where a fault begins, as a share of the run's steps; for odd seeds: EARLY_FAULT_START."""
EARLY_FAULT_START = 0.15


def adam(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """Build Adam with PyTorch's defaults."""
    return torch.optim.Adam(parameters, lr, fused=True)


def adamw(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """Build AdamW with betas 0.9, 0.95, as language models use it."""
    return torch.optim.AdamW(parameters, lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)


def sgd(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """Build plain SGD."""
    return torch.optim.SGD(parameters, lr, fused=True)


def momentum(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """Build SGD with momentum 0.9."""
    return torch.optim.SGD(parameters, lr, momentum=0.9, fused=True)


@dataclass(kw_only=True)
class Problem:
    """A model and its data.

    `loss` returns the mean loss of a batch and is deterministic: noise belongs to the batch.
    """

    model: nn.Module
    sample: Sample
    loss: Callable[[Batch], Tensor]
    optimizer: Optimize = adam
    objective: Callable[[Batch], Tensor] | None = None
    """What is minimised, if it is not the loss that is logged."""
    in_order: Callable[[int], Batch] | None = None
    """Batch of a step, for data in a fixed order."""
    pass_steps: int | None = None
    """Steps of one pass, for data in a fixed order that repeats."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of training: `build` makes a problem, after the seed was set."""

    name: str
    split: str
    """`dev` or `held-out`."""
    build: Callable[[], Problem]
    rate: float
    """A learning rate that trains well."""
    multiples: tuple[float, ...] = (0.2, 1, 3, 6, 10, 17, 30, 60)
    """Learning rates of the grid, as multiples of `rate`."""
    steps: int = 1000
    batch: int = 16
    clip: float | None = None
    """Limit of the gradient norm; runs with an even seed train without."""
    slice_size: int = 512
    probe_size: int = 48
    log_mean: int = 1
    """Steps per logged point; a logged loss is their mean. The steps of the log count logged points."""
    pair_slice: bool = False
    """Mean the slice loss over two consecutive steps: deterministic full-batch training oscillates with period two."""
    from_scratch: bool = True
    ordered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One run of a family."""

    name: str
    seed: int
    multiple: float = 1.0
    """Learning rate, as a multiple of the family's."""
    warmup: float = 0.03
    """Warm-up, as a share of the steps."""
    ramp: float = 1.0
    """Factor by which the learning rate grows exponentially over the run."""
    jump: float = 1.0
    """Factor on the learning rate from the fault's start on, for `fault_share` of the steps."""
    mislabelled: float = 0.0
    """Share of the samples of a batch that get another sample's last tensor, from the fault's start on."""
    fault_share: float = 1.0

    def fault(self, step: int, steps: int) -> bool:
        """Tell whether the fault is active at a step."""
        start = int((FAULT_START if self.seed % 2 == 0 else EARLY_FAULT_START) * steps)
        return start <= step < start + max(3, round(self.fault_share * steps))


def variants(family: Family) -> list[Variant]:
    """Return the runs of a family: a grid of learning rates, runs without warm-up, and training events."""
    found = [
        Variant(name=f"lr{multiple:g}", seed=i % 2, multiple=multiple) for i, multiple in enumerate(family.multiples)
    ]
    found += [Variant(name=f"lr{m:g}", seed=1 - i % 2, multiple=m) for i, m in enumerate(family.multiples) if i < 5]
    top = family.multiples[-1]
    for seed, multiple in ((2, family.multiples[-3]), (3, top)):
        found.append(Variant(name=f"cold{multiple:g}", seed=seed, multiple=multiple, warmup=0.0))
    for seed, ramp in ((2, top / 4), (3, top / 2), (4, 2 * top)):
        found.append(Variant(name=f"ramp{ramp:g}", seed=seed, ramp=ramp))
    for seed, jump in ((2, top / 6), (3, top / 2)):
        found.append(Variant(name=f"raise{jump:g}", seed=seed, jump=jump))
    for seed, jump, share in ((2, top, 0.005), (3, top / 2, 0.03)):
        found.append(Variant(name=f"jump{jump:g}", seed=seed, jump=jump, fault_share=share))
    for seed, wrong, share in ((3, 1.0, 0.03), (4, 0.5, 0.2), (5, 0.15, 1.0)):
        found.append(Variant(name=f"mislabel{wrong:g}x{share:g}", seed=seed, mislabelled=wrong, fault_share=share))
    return found


@dataclass(kw_only=True)
class Run:
    """The record of a run: one entry per logged point."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    probes: dict[int, float] = field(default_factory=dict)
    score_steps: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    points: int
    """Planned points."""
    ordered: bool = False
    pass_steps: int | None = None
    from_scratch: bool = True

    def recorded(self) -> Recorded:
        """Return what the labels need."""
        return Recorded(
            losses=self.losses,
            score_steps=self.score_steps,
            scores=self.scores,
            from_scratch=self.from_scratch,
            ordered=self.ordered,
            pass_steps=self.pass_steps,
        )

    def windows(self) -> list[int]:
        """Return the lengths of the windows, in points."""
        return [round(share * self.points) for share in WINDOWS]

    def probes_of(self, window: int) -> dict[int, float]:
        """Return the probe losses of a window: `PROBES` of them, and the last step's."""
        every = max(1, window // PROBES)
        return {s: v for s, v in self.probes.items() if s < window and (s % every == 0 or s == window - 1)}


def mislabelled(batch: Batch, share: float) -> Batch:
    """Give a share of the samples the last tensor of another sample; a lone tensor is replaced by noise."""
    count = max(2, round(share * len(batch[-1])))
    last = batch[-1].clone()
    if len(batch) == 1:
        last[:count] = last[:count].std() * 3 * torch.randn_like(last[:count])
    else:
        last[:count] = last[torch.randperm(count)]
    return (*batch[:-1], last)


def rate_factor(variant: Variant, step: int, steps: int) -> float:
    """Return the learning rate of a step relative to the variant's."""
    warmup = round(variant.warmup * steps)
    factor = min(1.0, (step + 1) / warmup) if warmup else 1.0
    factor *= float(variant.ramp ** (step / steps))
    return factor * variant.jump if variant.fault(step, steps) else factor


def train(family: Family, variant: Variant) -> Run:
    """Train until the steps are done or the loss is not finite."""
    seed = zlib.crc32(f"{family.name} {variant.seed}".encode())
    torch.manual_seed(seed)
    problem = family.build()
    draw = Generator().manual_seed(seed + 1)
    held = problem.sample(family.slice_size, Generator().manual_seed(seed + 2))
    probe = problem.sample(family.probe_size, Generator().manual_seed(seed + 3))
    lr = family.rate * variant.multiple
    parameters = [p for p in problem.model.parameters() if p.requires_grad]
    optimizer = problem.optimizer(parameters, lr)
    clip = family.clip if family.clip is not None and variant.seed % 2 else math.inf
    objective = problem.objective or problem.loss
    steps, mean = family.steps, family.log_mean
    points = steps // mean
    run = Run(
        points=points,
        ordered=family.ordered,
        from_scratch=family.from_scratch,
        pass_steps=problem.pass_steps and max(1, problem.pass_steps // mean),
    )
    score_every, ends = max(1, points // SCORES), {w - 1 for w in run.windows()}
    probe_points = {point for window in run.windows() for point in range(0, window, max(1, window // PROBES))} | ends

    def evaluate(batch: Batch) -> float:
        problem.model.eval()
        with torch.no_grad():
            value = float(problem.loss(batch))
        problem.model.train()
        return value

    pending: float | None = None
    total = norm_total = 0.0
    for step in range(steps):
        point, inside = divmod(step, mean)
        if inside == 0 and point in probe_points:
            run.probes[point] = evaluate(probe)
        if pending is not None:
            run.scores[-1] = 0.5 * (pending + evaluate(held))
            pending = None
        if inside == 0 and (point % score_every == 0 or point in ends):
            score = evaluate(held)
            run.score_steps.append(point)
            run.scores.append(score)
            pending = score if family.pair_slice else None
        batch = problem.in_order(step) if problem.in_order else problem.sample(family.batch, draw)
        if variant.mislabelled and variant.fault(step, steps):
            batch = mislabelled(batch, variant.mislabelled)
        factor = rate_factor(variant, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = lr * factor
        loss = objective(batch)
        logged = loss if problem.objective is None else problem.loss(batch)
        total += float(logged.detach())
        optimizer.zero_grad()
        if math.isfinite(total):
            loss.backward()
            norm_total += float(nn.utils.clip_grad_norm_(parameters, clip, foreach=True))
            optimizer.step()
        if inside == mean - 1 or not math.isfinite(total):
            run.losses.append(total / mean)
            run.norms.append(norm_total / mean)
            run.rates.append(lr * factor)
            if not math.isfinite(total):
                break
            total = norm_total = 0.0
    return run
