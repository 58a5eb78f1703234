"""Synthetic training curves with known onset: what `calibration.py` measures the judge on.

A family is `points, seed -> Curve`. Levels are those of a small language model: from 4.5 down to 1.8.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A loss curve and its truth."""

    losses: list[float]
    onset: int | None = None
    """Point at which the trouble begins; None: healthy."""
    edges: tuple[int, ...] = ()
    """Declared epoch edges."""
    lr: list[float] | None = None
    """Learning rate, where the family is about it."""


Noise = Callable[[random.Random, int], list[float]]
"""`count` draws of unit standard deviation (lognormal: of a factor's logarithm, centred)."""


def gaussian(draw: random.Random, count: int) -> list[float]:
    """Independent N(0, 1)."""
    return [draw.gauss(0, 1) for _ in range(count)]


def lognormal(draw: random.Random, count: int) -> list[float]:
    """exp(N(0, 1)), centred and scaled: skewed like the loss of a small batch."""
    mean, sd = math.exp(0.5), math.sqrt((math.e - 1) * math.e)
    return [(math.exp(draw.gauss(0, 1)) - mean) / sd for _ in range(count)]


def student3(draw: random.Random, count: int) -> list[float]:
    """Student t with 3 degrees of freedom, scaled to unit variance."""
    return [
        draw.gauss(0, 1) / math.sqrt(sum(draw.gauss(0, 1) ** 2 for _ in range(3)) / 3) / math.sqrt(3)
        for _ in range(count)
    ]


def autoregressive(share: float) -> Noise:
    """AR(1) of unit variance with lag-1 correlation `share`."""

    def noise(draw: random.Random, count: int) -> list[float]:
        value, out = draw.gauss(0, 1), []
        for _ in range(count):
            value = share * value + math.sqrt(1 - share * share) * draw.gauss(0, 1)
            out.append(value)
        return out

    return noise


NOISES: dict[str, Noise] = {
    "gaussian": gaussian,
    "lognormal": lognormal,
    "t3": student3,
    "AR(0.15)": autoregressive(0.15),
    "AR(0.5)": autoregressive(0.5),
}
"""Healthy minibatch residuals have lag-1 correlation 0.045 in the median and 0.13 at 95 %: AR(0.5) is a stress."""


def power_law(points: int) -> list[float]:
    """1.8 + 2.7 (1 + 60 t)^-0.6 for t from 0 to 1: most of the fall in the first tenth."""
    return [1.8 + 2.7 * (1 + 60 * step / points) ** -0.6 for step in range(points)]


def settled(points: int) -> list[float]:
    """2 + 2.5 exp(-20 t): a descent that is over after a quarter, so that a later step is a rise above the trough."""
    return [2 + 2.5 * math.exp(-20 * step / points) for step in range(points)]


def flat(points: int) -> list[float]:
    """A level of 2, where every noise has its best chance of a false alarm."""
    return [2.0] * points


def noisy(levels: list[float], noise: Noise, sigma: float, seed: int) -> list[float]:
    """Levels plus noise of standard deviation `sigma` of each level."""
    draws = noise(random.Random(seed), len(levels))
    return [max(level * (1 + sigma * draw), 1e-9) for level, draw in zip(levels, draws, strict=True)]


Family = Callable[[int, int], Curve]
SIGMA = 0.04
"""Noise of the shapes below, as a share of the level: a language model at batch 32."""


def _healthy(levels: list[float], seed: int) -> Curve:
    return Curve(losses=noisy(levels, gaussian, SIGMA, seed))


def _broken(levels: list[float], onset: int, seed: int) -> Curve:
    return Curve(losses=noisy(levels, gaussian, SIGMA, seed), onset=onset)


def _onset(points: int, seed: int) -> int:
    return int(points * random.Random(f"onset {seed}").uniform(0.1, 0.9))


def descent(points: int, seed: int) -> Curve:
    """Power-law decay."""
    return _healthy(power_law(points), seed)


def plateau(points: int, seed: int) -> Curve:
    """A third of the window on one level, then down again."""
    levels = [4.5 - 2 * min(1.0, 4 * t / points) - max(0.0, t / points - 0.6) for t in range(points)]
    return _healthy(levels, seed)


def warmup_bump(points: int, seed: int) -> Curve:
    """The first 1 % climbs by a tenth while the learning rate warms up, then falls: no rise from a trough."""
    bump = max(2, points // 100)
    return _healthy([level * (1 + 0.1 * min(1.0, t / bump)) for t, level in enumerate(power_law(points))], seed)


def lone_spike(points: int, seed: int) -> Curve:
    """One point at three times the level, gone at the next."""
    levels = power_law(points)
    levels[_onset(points, seed)] *= 3
    return _healthy(levels, seed)


def epoch_sawtooth(points: int, seed: int) -> Curve:
    """Five declared epochs; the loss jumps by 15 % at each start and falls within."""
    length = points // 5
    levels = [level * (1.15 - 0.15 * (t % length) / length) for t, level in enumerate(power_law(points))]
    edges = tuple(range(length, points, length))
    return Curve(losses=noisy(levels, gaussian, SIGMA, seed), edges=edges)


def cosine_masked(points: int, seed: int) -> Curve:
    """A cosine with a third of warm-up, as in the smoke that lied: 30.9 % of the peak after three quarters."""
    warmup = points // 3
    lr = [
        t / warmup if t < warmup else 0.5 * (1 + math.cos(math.pi * (t - warmup) / (points - warmup)))
        for t in range(points)
    ]
    return Curve(losses=noisy(power_law(points), gaussian, SIGMA, seed), lr=lr)


def step(share: float) -> Family:
    """A jump by `share` of the level, that lasts."""

    def family(points: int, seed: int) -> Curve:
        at = _onset(points, seed)
        return _broken([level * (1 + share * (t >= at)) for t, level in enumerate(power_law(points))], at, seed)

    return family


def slow_rise(share: float) -> Family:
    """A ramp from the onset to the end of the window, up to `share` of the level; onset in the first half."""

    def family(points: int, seed: int) -> Curve:
        at = _onset(points, seed) // 2
        ramp = [share * max(0, t - at) / (points - at) for t in range(points)]
        return _broken([level * (1 + up) for level, up in zip(power_law(points), ramp, strict=True)], at, seed)

    return family


def exponential(points: int, seed: int) -> Curve:
    """A blow-up that doubles with every 1 % of the window."""
    at = _onset(points, seed)
    doubling = max(1.0, points / 100)
    levels = [
        level + (0.01 * 2 ** min((t - at) / doubling, 60) if t >= at else 0)
        for t, level in enumerate(power_law(points))
    ]
    return _broken(levels, at, seed)


def transient_spike(points: int, seed: int) -> Curve:
    """2 % of the window at twice the level."""
    at = _onset(points, seed)
    length = max(5, points // 50)
    return _broken([level * (2 if at <= t < at + length else 1) for t, level in enumerate(power_law(points))], at, seed)


def not_a_number(points: int, seed: int) -> Curve:
    """One NaN."""
    at = _onset(points, seed)
    curve = _broken(power_law(points), at, seed)
    curve.losses[at] = math.nan
    return curve


def double_descent(points: int, seed: int) -> Curve:
    """Down, up by 20 % over a fifth of the window, down again: a rise, whatever it becomes later."""
    at = int(points * 0.3)
    hump = [math.sin(math.pi * min(1.0, max(0.0, (t - at) / (0.4 * points)))) for t in range(points)]
    return _broken([level * (1 + 0.2 * up) for level, up in zip(power_law(points), hump, strict=True)], at, seed)


HEALTHY: dict[str, Family] = {
    "power-law descent": descent,
    "plateau, then descent": plateau,
    "warm-up bump": warmup_bump,
    "lone spike of one point": lone_spike,
    "epoch sawtooth, edges declared": epoch_sawtooth,
}
MASKED: dict[str, Family] = {"cosine smoke": cosine_masked}
BROKEN: dict[str, Family] = {
    "step +50 %": step(0.5),
    "step +10 %": step(0.1),
    "step +5 %": step(0.05),
    "slow rise to +50 %": slow_rise(0.5),
    "slow rise to +20 %": slow_rise(0.2),
    "slow rise to +10 %": slow_rise(0.1),
    "exponential": exponential,
    "transient spike": transient_spike,
    "NaN": not_a_number,
    "double descent": double_descent,
}
