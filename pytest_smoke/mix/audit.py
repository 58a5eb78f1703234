"""The data mix against what was meant: share of a source = rows x weight over the sum of rows x weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

ROUNDING = 1e-9
"""Slack of every bound: in binary 0.45 is more than 1.5 x 0.3, and 0.22 - 0.2 more than 0.02."""


class Named(Protocol):
    """What a recipe says of one source."""

    @property
    def weight(self) -> float:
        """How often one of its rows is drawn, relative to other sources' rows."""

    @property
    def share(self) -> float | None:
        """Intended share of what is drawn; None: none is intended."""


class Intent(Protocol):
    """What a recipe says of the mix; `recipe.model.Mix` is one, and `Mix` below another."""

    @property
    def sources(self) -> Mapping[str, Named]:
        """The sources by name."""

    @property
    def dominant_share(self) -> float:
        """A source with a larger share dominates."""

    @property
    def lead_ratio(self) -> float:
        """The largest source may not have more than this times the share of the next."""

    @property
    def tolerance(self) -> float:
        """Largest difference of two shares that should be equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One source as it is meant to be drawn."""

    weight: float = 1.0
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A mix that no recipe describes; the defaults are a recipe's."""

    sources: Mapping[str, Source]
    dominant_share: float = 0.4
    lead_ratio: float = 1.5
    tolerance: float = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way in which a mix is not what was meant."""

    reason: str
    """`empty`, `missing`, `unnamed`, `share`, `dominant` or `lead`."""
    source: str
    """The source it speaks of; empty where it is all of them."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found."""

    shares: dict[str, float]
    """Estimated share of each source the mix names, largest first; all 0 where nothing can be drawn."""
    faults: tuple[Fault, ...]

    @property
    def table(self) -> str:
        """`nad 35.0 %, gn 33.0 %, ...`."""
        return ", ".join(f"{name} {percent(share)}" for name, share in self.shares.items())


def audit(rows: Mapping[str, int], mix: Intent, *, unit: str = "rows") -> Audit:
    """Hold the rows of each source, as they are weighted, against `mix`. `unit`: what was counted, for the sentences.

    A source of `rows` that the mix does not name has no weight, so it counts in no share: it is a fault of its own.
    """
    shares = descending(_shares(rows, mix))
    faults = [*_faults_of_names(rows, mix, unit), *_faults_of_intent(rows, mix, shares, unit)]
    faults += dominance(shares, mix, of="the sampled mix") if any(shares.values()) else []
    return Audit(shares=shares, faults=tuple(faults))


def dominance(
    shares: Mapping[str, float], mix: Intent, *, of: str, noise: Mapping[str, float] | None = None
) -> list[Fault]:
    """The largest share against `dominant_share` and against `lead_ratio` times the next.

    `noise` is by how much each may err. A single source can do neither. A `dominant_share` below the share of equals,
    0.4 of two sources, is met by no mix: there a source dominates only if it leads, too.
    """
    if len(shares) < 2:
        return []
    (first, most), (second, next_most), *_ = descending(shares).items()
    least = most - (noise[first] if noise else 0.0)
    rival = next_most + (noise[second] if noise else 0.0)
    leads = least > mix.lead_ratio * rival + ROUNDING
    can_be_met = mix.dominant_share + ROUNDING >= 1 / len(shares)
    faults = []
    if least > mix.dominant_share + ROUNDING and (can_be_met or leads):
        text = f"source {first!r} is {percent(most)} of {of}, over {100 * mix.dominant_share:g} %"
        faults.append(Fault(reason="dominant", source=first, text=text))
    if leads:
        lead = f"{most / next_most:.1f}x" if next_most else "all of it against none for"
        text = f"source {first!r} leads the next, {second!r}, {lead}; at most {mix.lead_ratio:g}x is allowed"
        faults.append(Fault(reason="lead", source=first, text=text))
    return faults


def descending(shares: Mapping[str, float]) -> dict[str, float]:
    """Largest first; equal ones keep their order."""
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def percent(share: float) -> str:
    """`35.0 %`."""
    return f"{100 * share:.1f} %"


def _shares(rows: Mapping[str, int], mix: Intent) -> dict[str, float]:
    heaviest = max((source.weight for source in mix.sources.values()), default=0.0) or 1.0
    # Relative to the heaviest, so that no product of a large weight and many rows overflows.
    mass = {name: rows.get(name, 0) * (source.weight / heaviest) for name, source in mix.sources.items()}
    total = sum(mass.values())
    return {name: part / total if total else 0.0 for name, part in mass.items()}


def _faults_of_names(rows: Mapping[str, int], mix: Intent, unit: str) -> Iterator[Fault]:
    weighted = {name for name, source in mix.sources.items() if source.weight}
    if not weighted:
        yield Fault(reason="empty", source="", text="every source has weight 0: nothing can be drawn")
    for name in mix.sources:
        if name in weighted and not rows.get(name):
            weight = mix.sources[name].weight
            text = f"source {name!r} has no {unit}, but weight {weight:g} in the mix"
            yield Fault(reason="missing", source=name, text=text)
    for name, count in rows.items():
        if name not in mix.sources:
            text = f"source {name!r} has {count} {unit}, but the mix does not name it (named: {', '.join(mix.sources)})"
            yield Fault(reason="unnamed", source=name, text=text)


def _faults_of_intent(rows: Mapping[str, int], mix: Intent, shares: Mapping[str, float], unit: str) -> Iterator[Fault]:
    for name, source in mix.sources.items():
        if source.share is not None and abs(shares[name] - source.share) > mix.tolerance + ROUNDING:
            text = (
                f"source {name!r} is {percent(shares[name])} of the sampled mix ({rows.get(name, 0)} {unit} x weight "
                f"{source.weight:g}), not the intended {percent(source.share)}"
            )
            yield Fault(reason="share", source=name, text=text)
