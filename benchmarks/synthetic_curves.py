"""Synthetic training curves with a known onset of instability, for `calibration.py`.

A family is a function `points, seed -> Curve`. Losses fall from 4.5 to 1.8, as those of a small language model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A loss curve with a known truth."""

    losses: list[float]
    onset: int | None = None
    """Point at which the instability begins; None: there is none."""
    expected_jumps: tuple[int, ...] = ()
    """Points at which the loss jumps by design, as declared in a recipe."""
    lr: list[float] | None = None
    """Learning rate by point; None if the family has none."""


Noise = Callable[[random.Random, int], list[float]]
"""Draws `count` values with mean 0 and standard deviation 1."""


def gaussian(rng: random.Random, count: int) -> list[float]:
    """Draw independent values from N(0, 1)."""
    return [rng.gauss(0, 1) for _ in range(count)]


def lognormal(rng: random.Random, count: int) -> list[float]:
    """Draw exp(N(0, 1)), centred and scaled: skewed like the loss of a small batch."""
    mean, sd = math.exp(0.5), math.sqrt((math.e - 1) * math.e)
    return [(math.exp(rng.gauss(0, 1)) - mean) / sd for _ in range(count)]


def student3(rng: random.Random, count: int) -> list[float]:
    """Draw from Student's t with 3 degrees of freedom, scaled to unit variance."""
    return [
        rng.gauss(0, 1) / math.sqrt(sum(rng.gauss(0, 1) ** 2 for _ in range(3)) / 3) / math.sqrt(3)
        for _ in range(count)
    ]


def autoregressive(correlation: float) -> Noise:
    """Return an AR(1) process of unit variance with lag-1 correlation `correlation`."""

    def noise(rng: random.Random, count: int) -> list[float]:
        value, out = rng.gauss(0, 1), []
        for _ in range(count):
            value = correlation * value + math.sqrt(1 - correlation * correlation) * rng.gauss(0, 1)
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
"""In real healthy runs the lag-1 correlation of losses around their trend is 0.045 (median) and 0.13 (95 %): AR(0.5) is
harder than what training gives."""


def power_law(points: int) -> list[float]:
    """Return 1.8 + 2.7 (1 + 60 t)^-0.6 for t from 0 to 1, which falls mostly in its first tenth."""
    return [1.8 + 2.7 * (1 + 60 * step / points) ** -0.6 for step in range(points)]


def settled(points: int) -> list[float]:
    """Return 2 + 2.5 exp(-20 t) for t from 0 to 1, a descent that ends in its first quarter."""
    return [2 + 2.5 * math.exp(-20 * step / points) for step in range(points)]


def constant(points: int) -> list[float]:
    """Return a constant level of 2."""
    return [2.0] * points


def noisy(levels: list[float], noise: Noise, sigma: float, seed: int) -> list[float]:
    """Add noise whose standard deviation is `sigma` times each level."""
    values = noise(random.Random(seed), len(levels))
    return [max(level * (1 + sigma * value), 1e-9) for level, value in zip(levels, values, strict=True)]


Family = Callable[[int, int], Curve]
SIGMA = 0.04
"""Standard deviation of the families' noise, as a share of the level: that of a language model at batch size 32."""


def _healthy(levels: list[float], seed: int) -> Curve:
    return Curve(losses=noisy(levels, gaussian, SIGMA, seed))


def _unstable(levels: list[float], onset: int, seed: int) -> Curve:
    return Curve(losses=noisy(levels, gaussian, SIGMA, seed), onset=onset)


def _onset(points: int, seed: int) -> int:
    return int(points * random.Random(f"onset {seed}").uniform(0.1, 0.9))


def descent(points: int, seed: int) -> Curve:
    """Fall by a power law."""
    return _healthy(power_law(points), seed)


def plateau(points: int, seed: int) -> Curve:
    """Stay on one level for a third of the window, then fall on."""
    levels = [4.5 - 2 * min(1.0, 4 * t / points) - max(0.0, t / points - 0.6) for t in range(points)]
    return _healthy(levels, seed)


def warmup_bump(points: int, seed: int) -> Curve:
    """Climb by 10 % during the first 1 %, as during a warmup, then fall: never above an earlier lower level."""
    bump = max(2, points // 100)
    return _healthy([level * (1 + 0.1 * min(1.0, t / bump)) for t, level in enumerate(power_law(points))], seed)


def lone_spike(points: int, seed: int) -> Curve:
    """Put one point at three times the level."""
    levels = power_law(points)
    levels[_onset(points, seed)] *= 3
    return _healthy(levels, seed)


def epoch_sawtooth(points: int, seed: int) -> Curve:
    """Jump by 15 % at the start of each of five epochs, which are declared as expected jumps."""
    length = points // 5
    levels = [level * (1.15 - 0.15 * (t % length) / length) for t, level in enumerate(power_law(points))]
    jumps = tuple(range(length, points, length))
    return Curve(losses=noisy(levels, gaussian, SIGMA, seed), expected_jumps=jumps)


def cosine_masked(points: int, seed: int) -> Curve:
    """Decay the learning rate by a cosine after a warmup of a third: 30.9 % of the peak after three quarters."""
    warmup = points // 3
    lr = [
        t / warmup if t < warmup else 0.5 * (1 + math.cos(math.pi * (t - warmup) / (points - warmup)))
        for t in range(points)
    ]
    return Curve(losses=noisy(power_law(points), gaussian, SIGMA, seed), lr=lr)


def step(share: float) -> Family:
    """Return a family that jumps by `share` of the level and stays there."""

    def family(points: int, seed: int) -> Curve:
        at = _onset(points, seed)
        return _unstable([level * (1 + share * (t >= at)) for t, level in enumerate(power_law(points))], at, seed)

    return family


def slow_rise(share: float) -> Family:
    """Return a family that rises from an onset in the first half by `share` of the level at the end."""

    def family(points: int, seed: int) -> Curve:
        at = _onset(points, seed) // 2
        ramp = [share * max(0, t - at) / (points - at) for t in range(points)]
        return _unstable([level * (1 + up) for level, up in zip(power_law(points), ramp, strict=True)], at, seed)

    return family


def exponential(points: int, seed: int) -> Curve:
    """Add a term that doubles with every 1 % of the window."""
    at = _onset(points, seed)
    doubling = max(1.0, points / 100)
    levels = [
        level + (0.01 * 2 ** min((t - at) / doubling, 60) if t >= at else 0)
        for t, level in enumerate(power_law(points))
    ]
    return _unstable(levels, at, seed)


def transient_spike(points: int, seed: int) -> Curve:
    """Double the level for 2 % of the window."""
    at = _onset(points, seed)
    length = max(5, points // 50)
    return _unstable(
        [level * (2 if at <= t < at + length else 1) for t, level in enumerate(power_law(points))], at, seed
    )


def not_a_number(points: int, seed: int) -> Curve:
    """Put NaN at one point."""
    at = _onset(points, seed)
    curve = _unstable(power_law(points), at, seed)
    curve.losses[at] = math.nan
    return curve


def double_descent(points: int, seed: int) -> Curve:
    """Fall, rise by 20 % over a fifth of the window, fall again."""
    at = int(points * 0.3)
    hump = [math.sin(math.pi * min(1.0, max(0.0, (t - at) / (0.4 * points)))) for t in range(points)]
    return _unstable([level * (1 + 0.2 * up) for level, up in zip(power_law(points), hump, strict=True)], at, seed)


HEALTHY: dict[str, Family] = {
    "power-law descent": descent,
    "plateau, then descent": plateau,
    "warmup bump": warmup_bump,
    "lone spike of one point": lone_spike,
    "epoch sawtooth, jumps declared": epoch_sawtooth,
}
MASKED: dict[str, Family] = {"cosine smoke run": cosine_masked}
UNSTABLE: dict[str, Family] = {
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
