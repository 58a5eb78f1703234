"""The estimated data mix against the intended one: share of a source = rows x weight / sum of rows x weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from pytest_smoke.text import count, percent

ROUNDING = 1e-9
"""Slack of every bound: in binary, 0.45 is more than 1.5 x 0.3, and 0.22 - 0.2 more than 0.02."""


class SourceIntent(Protocol):
    """What a recipe states about one source."""

    @property
    def weight(self) -> float:
        """How often one row of the source is sampled, relative to the rows of other sources."""

    @property
    def share(self) -> float | None:
        """Intended share of the samples; None if the recipe does not state one."""


class MixIntent(Protocol):
    """What a recipe states about its mix; implemented by the recipe's model and by `PlainMix`."""

    @property
    def sources(self) -> Mapping[str, SourceIntent]:
        """The sources by name."""

    @property
    def dominant_share(self) -> float:
        """Largest share that a source may have."""

    @property
    def lead_ratio(self) -> float:
        """Largest ratio of the largest share to the second largest."""

    @property
    def tolerance(self) -> float:
        """Largest allowed difference between an actual and an expected share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSource:
    """A source of a `PlainMix`."""

    weight: float = 1.0
    """How often one row of the source is sampled, relative to the rows of other sources."""
    share: float | None = None
    """Intended share of the samples; None if none is stated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainMix:
    """A mix without a recipe; the defaults are those of a recipe."""

    sources: Mapping[str, PlainSource]
    """The sources by name."""
    dominant_share: float = 0.4
    """Largest share that a source may have."""
    lead_ratio: float = 1.5
    """Largest ratio of the largest share to the second largest."""
    tolerance: float = 0.02
    """Largest allowed difference between an actual and an expected share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixFault:
    """One difference from the intended mix."""

    reason: str
    """`no-weight`, `source-without-rows`, `unknown-source`, `share-off-target`, `dominant-source`, `leading-source`, or
    for samples `too-few-samples`, `source-never-sampled`, `sampled-share-off`."""
    source: str
    """Name of the source; empty if the fault concerns all sources."""
    text: str
    """What is wrong, with the numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixAudit:
    """The estimated mix and its faults."""

    shares: dict[str, float]
    """Estimated share of each source of the mix, largest first; all 0 if nothing can be sampled."""
    faults: tuple[MixFault, ...]
    """Differences from the intended mix."""

    @property
    def table(self) -> str:
        """The shares as text: `nad 35.0 %, gn 33.0 %, ...`."""
        return shares_text(self.shares)


def audit(rows: Mapping[str, int], mix: MixIntent, *, unit: str = "rows") -> MixAudit:
    """Compare the weighted rows of each source with the intended mix. `unit` names what was counted, for messages.

    A source of `rows` that the mix does not name has no weight: it gets no share, and a fault of its own.
    """
    shares = descending(_estimated_shares(rows, mix))
    faults = [*_name_faults(rows, mix, unit), *_share_faults(rows, mix, shares, unit)]
    faults += dominance_faults(shares, mix, of="the estimated mix") if any(shares.values()) else []
    return MixAudit(shares=shares, faults=tuple(faults))


def dominance_faults(
    shares: Mapping[str, float], mix: MixIntent, *, of: str, noise: Mapping[str, float] | None = None
) -> list[MixFault]:
    """Compare the largest share with `dominant_share`, and with `lead_ratio` times the second largest.

    `noise` is the sampling error of each share. A single source cannot dominate. If `dominant_share` is below the share
    of equal sources (0.4 with two sources), no mix can satisfy it: then a source must also lead to be dominant.
    """
    if len(shares) < 2:
        return []
    (first, largest), (second, second_largest), *_ = descending(shares).items()
    low = largest - (noise[first] if noise else 0.0)
    high = second_largest + (noise[second] if noise else 0.0)
    leads = low > mix.lead_ratio * high + ROUNDING
    satisfiable = mix.dominant_share + ROUNDING >= 1 / len(shares)
    faults = []
    if low > mix.dominant_share + ROUNDING and (satisfiable or leads):
        text = f"source {first!r} is {share_text(largest)} of {of}; the limit is {share_text(mix.dominant_share)}"
        faults.append(MixFault(reason="dominant-source", source=first, text=text))
    if leads:
        if second_largest:
            text = f"source {first!r} has {largest / second_largest:.1f}x the share of the next source, {second!r}"
        else:
            text = f"source {first!r} has all of {of}, the next source, {second!r}, has none"
        text += f"; the limit is {mix.lead_ratio:g}x"
        faults.append(MixFault(reason="leading-source", source=first, text=text))
    return faults


def descending(shares: Mapping[str, float]) -> dict[str, float]:
    """Sort by share, largest first; equal shares keep their order."""
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def share_text(share: float) -> str:
    """Format a share with one decimal, because it is compared with others: `35.0 %`."""
    return percent(share, decimals=1)


def shares_text(shares: Mapping[str, float]) -> str:
    """Format all shares: `nad 35.0 %, gn 33.0 %, ...`."""
    return ", ".join(f"{name} {share_text(share)}" for name, share in shares.items())


def _estimated_shares(rows: Mapping[str, int], mix: MixIntent) -> dict[str, float]:
    largest = max((source.weight for name, source in mix.sources.items() if rows.get(name)), default=0.0) or 1.0
    # Relative to the largest weight of a source with rows, so that no product overflows and not all underflow.
    mass = {
        name: amount * (mix.sources[name].weight / largest) if (amount := rows.get(name, 0)) else 0.0
        for name in mix.sources
    }
    total = sum(mass.values())
    return {name: part / total if total else 0.0 for name, part in mass.items()}


def _name_faults(rows: Mapping[str, int], mix: MixIntent, unit: str) -> Iterator[MixFault]:
    weighted = {name for name, source in mix.sources.items() if source.weight}
    if not weighted:
        yield MixFault(reason="no-weight", source="", text="every source has weight 0, so nothing can be sampled")
    for name in mix.sources:
        if name in weighted and not rows.get(name):
            text = f"source {name!r} has no {unit}, but weight {mix.sources[name].weight:g} in the mix"
            yield MixFault(reason="source-without-rows", source=name, text=text)
    for name, amount in rows.items():
        if name not in mix.sources:
            text = f"source {name!r} has {_amount(amount, unit)}, but is not in the mix ({', '.join(mix.sources)})"
            yield MixFault(reason="unknown-source", source=name, text=text)


def _share_faults(
    rows: Mapping[str, int], mix: MixIntent, shares: Mapping[str, float], unit: str
) -> Iterator[MixFault]:
    for name, source in mix.sources.items():
        if source.share is not None and abs(shares[name] - source.share) > mix.tolerance + ROUNDING:
            text = (
                f"source {name!r} is {share_text(shares[name])} of the estimated mix "
                f"({_amount(rows.get(name, 0), unit)} x weight {source.weight:g}), not the intended "
                f"{share_text(source.share)}"
            )
            yield MixFault(reason="share-off-target", source=name, text=text)


def _amount(amount: int, unit: str) -> str:
    return count(amount, unit.removesuffix("s"))
