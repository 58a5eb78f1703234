"""The mix that a run sampled against the expected one, and how far chance alone takes the two apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, Protocol

from pytest_smoke.mix.audit import ROUNDING, MixFault, MixIntent, descending, dominance_faults, share_text
from pytest_smoke.text import count, percent

ALPHA = 1e-4
"""Chance that one audit rejects a correct sampler; a run is audited at most ten times."""
MIN_SAMPLES = 30
"""Samples of a source from which its variance over micro-batches is known to about a fifth."""


class SampledCounts(Protocol):
    """Counts of samples by source."""

    @property
    def samples(self) -> int:
        """Number of all samples."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of samples by source."""

    @property
    def design_effect(self) -> float:
        """Variance of a share, divided by its variance with as many independent samples."""


class SampleCounter:
    """Counts samples by source, one micro-batch at a time."""

    def __init__(self) -> None:
        self.batches = 0
        self.samples = 0
        self.counts: Counter[str] = Counter()
        self._squares: Counter[str] = Counter()
        self._products: Counter[str] = Counter()
        self._sizes_squared = 0
        self._homogeneous = True

    def state_dict(self) -> dict[str, Any]:
        """Return the counts as builtins."""
        return {key: dict(value) if isinstance(value, Counter) else value for key, value in vars(self).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the counts of `state_dict`."""
        for key, value in state.items():
            setattr(self, key, Counter(value) if isinstance(value, dict) else value)

    def add(self, counts: Mapping[str, int]) -> None:
        """Count one micro-batch, given its number of samples by source.

        Raises ValueError if it has no samples or a negative number of them.
        """
        size = sum(counts.values())
        if size < 1 or min(counts.values()) < 0:
            raise ValueError(f"{dict(counts)} does not give a number of samples for each source")
        self.batches += 1
        self.samples += size
        self._sizes_squared += size * size
        self._homogeneous &= max(counts.values()) == size
        for source, amount in counts.items():
            self.counts[source] += amount
            self._squares[source] += amount * amount
            self._products[source] += amount * size

    @property
    def design_effect(self) -> float:
        """Variance of a share over that of as many independent samples (Kish, Survey Sampling, 1965), at least 1.

        It is 1 if samples are independent, and the size of a micro-batch if each micro-batch has a single source. It is
        estimated from the variance of the shares between micro-batches, of the source where it is largest; with too few
        samples for that, each micro-batch counts as one sample.
        """
        common = [source for source, amount in self.counts.items() if MIN_SAMPLES <= amount < self.samples]
        if self._homogeneous or self.batches < 2 or not common:
            return max(1.0, self._sizes_squared / max(1, self.samples))
        return max(1.0, *map(self._source_design_effect, common))

    def _source_design_effect(self, source: str) -> float:
        share = self.counts[source] / self.samples
        residual = self._squares[source] - 2 * share * self._products[source] + share**2 * self._sizes_squared
        return residual * self.batches / (self.batches - 1) / (self.samples * share * (1 - share))


def sampling_error(share: float, samples: int, *, sources: int, design_effect: float = 1.0) -> float:
    """Return the largest difference from an expected share that chance explains, at level `ALPHA` over all sources.

    Half-width of the score interval that Goodman (Technometrics 7, 1965, 247-254) makes simultaneous over the cells of
    a multinomial by Bonferroni: z(ALPHA / 2k) sqrt(p (1 - p) / n), here with n divided by the design effect.
    """
    z = NormalDist().inv_cdf(1 - ALPHA / (2 * max(1, sources)))
    return z * sqrt(design_effect * share * (1 - share) / samples)


def resolution(sampled: SampledCounts, *, design_effect: float | None = None) -> float:
    """Return the sampling error of a share of one half, the largest of all: no greater difference stays undetected."""
    effect = sampled.design_effect if design_effect is None else design_effect
    return sampling_error(0.5, sampled.samples, sources=len(sampled.counts), design_effect=effect)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledMixAudit:
    """The sampled mix and its faults."""

    shares: dict[str, float]
    """Sampled share by source, largest first; 0 for a source that was never sampled."""
    faults: tuple[MixFault, ...]
    """Differences beyond the tolerance and beyond chance: `sampled-share-off`, `source-never-sampled`,
    `unknown-source`."""
    warnings: tuple[MixFault, ...]
    """Unexpected or missing sources within the tolerance, too few samples, dominance if no mix is expected."""


def audit_samples(sampled: SampledCounts, expected: Mapping[str, float] | None, mix: MixIntent) -> SampledMixAudit:
    """Compare sampled shares with expected ones; without `expected`, only with `dominant_share` and `lead_ratio`.

    A source that is sampled but not expected, or the reverse, is reported however small its share.
    """
    names = dict.fromkeys([*(expected or ()), *(name for name, amount in sampled.counts.items() if amount)])
    shares = descending({name: sampled.counts.get(name, 0) / sampled.samples for name in names})
    expectation = shares if expected is None else expected
    noise = {
        name: sampling_error(
            expectation.get(name, 0.0), sampled.samples, sources=len(names), design_effect=sampled.design_effect
        )
        for name in shares
    }
    of = f"the first {count(sampled.samples, 'sample')}"
    faults: list[MixFault] = []
    warnings: list[MixFault] = []
    if expected is None:
        warnings += dominance_faults(shares, mix, of=of, noise=noise)
    differences = descending({name: abs(share - expectation.get(name, 0.0)) for name, share in shares.items()})
    for name, difference in differences.items():
        fault = _source_fault(name, shares[name], expectation.get(name, 0.0), noise[name], mix, of)
        if fault is not None:
            (faults if difference > mix.tolerance + ROUNDING else warnings).append(fault)
    undetected = max(noise.values())
    if undetected > mix.tolerance and not faults:
        text = (
            f"{of} are too few for a tolerance of {percent(mix.tolerance)}: a share that is off by "
            f"{_above(undetected, mix.tolerance)} could go unnoticed"
        )
        warnings.append(MixFault(reason="too-few-samples", source="", text=text))
    return SampledMixAudit(shares=shares, faults=tuple(faults), warnings=tuple(warnings))


def _above(share: float, limit: float) -> str:
    """Format a share with as many digits as it takes to show that it is above `limit`: `2.03 %`."""
    shown = (percent(share), *(percent(share, decimals=decimals) for decimals in (2, 3, 4)))
    return next((text for text in shown if text != percent(limit)), shown[-1])


def _source_fault(name: str, share: float, expected: float, noise: float, mix: MixIntent, of: str) -> MixFault | None:
    """Return the fault of one source; None if chance explains it, or a share that is not 0 is within the tolerance."""
    difference = abs(share - expected)
    if difference <= noise:
        return None
    if name not in mix.sources:
        text = f"source {name!r} is {share_text(share)} of {of}, but is not in the mix"
        return MixFault(reason="unknown-source", source=name, text=text)
    if not share:
        text = f"source {name!r} is missing from {of}; expected {share_text(expected)}"
        return MixFault(reason="source-never-sampled", source=name, text=text)
    if expected and difference <= mix.tolerance + ROUNDING:
        return None
    text = (
        f"source {name!r} is {share_text(share)} of {of}, not the expected {share_text(expected)}: more than the "
        f"tolerance of {percent(mix.tolerance)}, and more than chance explains ({percent(noise)})"
    )
    return MixFault(reason="sampled-share-off", source=name, text=text)
