"""What a sampler really drew, against what it was expected to, and how far chance alone takes the two apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, Protocol

from pytest_smoke.mix.audit import ROUNDING, Fault, Intent, descending, dominance, percent

ALPHA = 1e-4
"""Chance that a fair sampler is called unfair at one look; a run is looked at ten times or fewer."""
MIN_SEEN = 30
"""Samples of a source from which its spread over micro-batches is known to a fifth or so."""


class Seen(Protocol):
    """What was counted."""

    @property
    def samples(self) -> int:
        """Samples drawn."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Of them, by source."""

    @property
    def design_effect(self) -> float:
        """Variance of a share over that of as many independent samples."""


class Draws:
    """Counts samples by source, one micro-batch after the other."""

    def __init__(self) -> None:
        self.batches = 0
        self.samples = 0
        self.counts: Counter[str] = Counter()
        self._squares: Counter[str] = Counter()
        self._products: Counter[str] = Counter()
        self._sizes_squared = 0
        self._homogeneous = True

    def state_dict(self) -> dict[str, Any]:
        """What was counted, in plain values."""
        return {key: dict(value) if isinstance(value, Counter) else value for key, value in vars(self).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count on from there."""
        for key, value in state.items():
            setattr(self, key, Counter(value) if isinstance(value, dict) else value)

    def add(self, counts: Mapping[str, int]) -> None:
        """One micro-batch: how many samples of each source. Raises ValueError if there are none, or fewer."""
        size = sum(counts.values())
        if size < 1 or min(counts.values()) < 0:
            raise ValueError(f"{dict(counts)} is no number of samples by source")
        self.batches += 1
        self.samples += size
        self._sizes_squared += size * size
        self._homogeneous &= max(counts.values()) == size
        for source, count in counts.items():
            self.counts[source] += count
            self._squares[source] += count * count
            self._products[source] += count * size

    @property
    def design_effect(self) -> float:
        """Variance of a share over that of as many independent samples (Kish, Survey Sampling, 1965), at least 1.

        1 where samples are drawn one by one, the micro-batch's size where each comes from a single source. It is
        estimated from how shares vary between micro-batches, by the source that varies most; where too little was
        seen to tell, each micro-batch counts as one sample.
        """
        common = [source for source, count in self.counts.items() if MIN_SEEN <= count < self.samples]
        if self._homogeneous or self.batches < 2 or not common:
            return max(1.0, self._sizes_squared / max(1, self.samples))
        return max(1.0, *map(self._spread, common))

    def _spread(self, source: str) -> float:
        share = self.counts[source] / self.samples
        residual = self._squares[source] - 2 * share * self._products[source] + share**2 * self._sizes_squared
        return residual * self.batches / (self.batches - 1) / (self.samples * share * (1 - share))


def noise(share: float, samples: int, *, sources: int, design_effect: float = 1.0) -> float:
    """By how much a source of this expected share may miss it, but for a chance of `ALPHA` over all `sources`.

    Half-width of the score interval that Goodman (Technometrics 7, 1965, 247-254) makes simultaneous over the cells of
    a multinomial by Bonferroni: z(ALPHA / 2k) sqrt(p (1 - p) / n), here with n over the design effect.
    """
    z = NormalDist().inv_cdf(1 - ALPHA / (2 * max(1, sources)))
    return z * sqrt(design_effect * share * (1 - share) / samples)


def resolution(seen: Seen, *, design_effect: float | None = None) -> float:
    """The noise of the share that has most, one half: a larger difference cannot hide, whatever the shares."""
    effect = seen.design_effect if design_effect is None else design_effect
    return noise(0.5, seen.samples, sources=len(seen.counts), design_effect=effect)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnAudit:
    """What was found in what was drawn."""

    shares: dict[str, float]
    """Drawn share by source, largest first; of one that was never drawn, 0."""
    faults: tuple[Fault, ...]
    """Differences beyond the tolerance and beyond noise: `drawn`, `not-drawn`, `unnamed`."""
    warnings: tuple[Fault, ...]
    """Sources out of place by less than the tolerance; too few samples; dominance where nothing is expected."""


def audit_draws(seen: Seen, expected: Mapping[str, float] | None, mix: Intent) -> DrawnAudit:
    """Hold drawn shares against expected ones; `expected` None: only `dominant_share` and `lead_ratio` are left.

    A source of which nothing is expected and something drawn, or the reverse, is named however small its share.
    """
    names = dict.fromkeys([*(expected or ()), *(name for name, count in seen.counts.items() if count)])
    shares = descending({name: seen.counts.get(name, 0) / seen.samples for name in names})
    likely = shares if expected is None else expected
    noises = {
        name: noise(likely.get(name, 0.0), seen.samples, sources=len(names), design_effect=seen.design_effect)
        for name in shares
    }
    of = f"the {seen.samples} samples drawn"
    faults: list[Fault] = []
    warnings: list[Fault] = []
    if expected is None:
        warnings += dominance(shares, mix, of=of, noise=noises)
    differences = descending({name: abs(share - likely.get(name, 0.0)) for name, share in shares.items()})
    for name, difference in differences.items():
        fault = _fault(name, shares[name], likely.get(name, 0.0), noises[name], mix, of)
        if fault is not None:
            (faults if difference > mix.tolerance + ROUNDING else warnings).append(fault)
    hidden = max(noises.values())
    if hidden > mix.tolerance and not faults:
        text = f"a difference of up to {percent(hidden)} could hide in {of}: too few for a tolerance of "
        warnings.append(Fault(reason="few", source="", text=f"{text}{100 * mix.tolerance:g} %"))
    return DrawnAudit(shares=shares, faults=tuple(faults), warnings=tuple(warnings))


def _fault(name: str, share: float, likely: float, noise: float, mix: Intent, of: str) -> Fault | None:
    """What is wrong with one source; None if chance explains it, or the tolerance forgives a share that is not 0."""
    difference = abs(share - likely)
    if difference <= noise:
        return None
    if name not in mix.sources:
        text = f"source {name!r} is {percent(share)} of {of}, but the mix does not name it"
        return Fault(reason="unnamed", source=name, text=text)
    if not share:
        text = f"source {name!r} was never drawn in {of}; expected {percent(likely)}"
        return Fault(reason="not-drawn", source=name, text=text)
    if likely and difference <= mix.tolerance + ROUNDING:
        return None
    text = (
        f"source {name!r} is {percent(share)} of {of}, not the expected {percent(likely)}: more than the tolerance of "
        f"{100 * mix.tolerance:g} % and than chance ({percent(noise)})"
    )
    return Fault(reason="drawn", source=name, text=text)
