"""What a gradient probe of several loss terms shows, in figures and in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf, isfinite, nan
from statistics import median

from pytest_smoke.events import Gradients
from pytest_smoke.judge.checks.grad_ratio import (
    COLLAPSED,
    CONFLICTING,
    DOMINANT,
    FEWEST_TERMS,
    NEGLIGIBLE,
    TINY,
    describe_balance,
    describe_ratio,
    grad_ratio,
)
from pytest_smoke.text import count, listed, number


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A figure over the batches on which it is finite; NaN if it is finite on none."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TermReading:
    """Gradient norms of one loss term."""

    name: str
    weight: float
    """Weight of the term in the loss."""
    raw: Spread
    """2-norm of its gradient."""
    weighted: Spread
    """The same times the absolute weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReading:
    """Two terms, the one with the larger weighted gradient first."""

    stronger: str
    weaker: str
    raw: Spread
    """Ratio of raw norms."""
    weighted: Spread
    """Ratio of weighted norms; its median is 1 or more."""
    cosine: Spread
    """Cosine of the angle between the two gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReading:
    """The result of a gradient probe."""

    terms: tuple[TermReading, ...]
    pairs: tuple[PairReading, ...]
    """The largest ratio first."""
    sentences: tuple[str, ...]
    """Which term has the largest gradient, which are negligible, which conflict; what it means; what to do."""
    within: bool
    """Whether every gradient is finite and every bound, declared or default, is met."""


def read_probe(
    probes: Sequence[Gradients], weights: Mapping[str, float], bounds: Mapping[str, Sequence[float | None]]
) -> ProbeReading:
    """Read the probes of some effective batches of two or more loss terms.

    `weights` are by term; `bounds` are the recipe's, on raw norms. Without bounds, no weighted norm may be more than
    8 times another; terms of weight 0 are left out of that.
    """
    names = list(weights)
    terms = tuple(
        TermReading(
            name=name,
            weight=weights[name],
            raw=_spread(probe.raw[name] for probe in probes),
            weighted=_spread(probe.weighted[name] for probe in probes),
        )
        for name in names
    )
    pairs = tuple(sorted((_pair(probes, a, b) for a, b in combinations(names, 2)), key=_ratio, reverse=True))
    non_finite = {name: sum(not isfinite(probe.raw[name]) for probe in probes) for name in names}
    sentences = [
        f"the gradient of {name} is not finite on {broken} of {count(len(probes), 'batch', 'batches')}"
        for name, broken in non_finite.items()
        if broken
    ]
    within = not sentences
    if any(isfinite(term.weighted.median) for term in terms):
        sentences += _balance(terms, pairs, declared=bool(bounds))
        judged, met = _bounds(probes, names, weights, pairs, bounds)
        sentences += judged
        within = within and met
        sentences += [] if met else _suggested_weight(pairs, weights, bounds)
    return ProbeReading(terms=terms, pairs=pairs, sentences=tuple(sentences), within=within)


def _spread(values: Iterable[float]) -> Spread:
    finite = [value for value in values if isfinite(value)]
    if not finite:
        return Spread(median=nan, low=nan, high=nan)
    return Spread(median=median(finite), low=min(finite), high=max(finite))


def _pair(probes: Sequence[Gradients], a: str, b: str) -> PairReading:
    # Ordered by the median of the ratio, not by the medians of the norms, so that the ratio's median is 1 or more.
    finite = [probe for probe in probes if isfinite(probe.weighted[a]) and isfinite(probe.weighted[b])]
    middle = _spread(_over(probe.weighted, a, b) for probe in finite).median
    stronger, weaker = (b, a) if middle < 1 else (a, b)
    return PairReading(
        stronger=stronger,
        weaker=weaker,
        raw=_spread(_over(probe.raw, stronger, weaker) for probe in finite),
        weighted=_spread(_over(probe.weighted, stronger, weaker) for probe in finite),
        cosine=_spread(probe.cosines[f"{a}/{b}"] for probe in finite),
    )


def _over(norms: Mapping[str, float], above: str, below: str) -> float:
    if norms[above] == norms[below]:
        return 1.0  # also for two norms of 0
    return norms[above] / max(norms[below], TINY)


def _ratio(pair: PairReading) -> float:
    return pair.weighted.median if isfinite(pair.weighted.median) else 0.0


def _balance(terms: Sequence[TermReading], pairs: Sequence[PairReading], *, declared: bool) -> list[str]:
    """Say which term has the largest gradient, which are negligible and which conflict.

    With `declared` bounds, `grad_ratio` adds the sentence about three or more terms itself.
    """
    norms = {term.name: term.weighted.median for term in terms if isfinite(term.weighted.median)}
    cosines = {f"{pair.stronger}/{pair.weaker}": pair.cosine.median for pair in pairs if isfinite(pair.cosine.median)}
    largest = max(norms, key=norms.__getitem__)
    if len(norms) >= FEWEST_TERMS:
        sentences = [] if declared else describe_balance(norms, cosines).split("; ")
    else:
        sentences = [f"{largest} has the largest weighted gradient norm: {number(norms[largest], 3)}"]
        sentences += map(_alignment, pairs)
    return [*sentences, *_negligible(terms, norms[largest])]


def _alignment(pair: PairReading) -> str:
    cosine = pair.cosine
    angle = f"cosine {cosine.median:.2f} (range {cosine.low:.2f} to {cosine.high:.2f})"
    if cosine.median <= CONFLICTING:
        return (
            f"the gradients of {pair.stronger} and {pair.weaker} conflict: {angle}, "
            f"so a step that lowers one raises the other"
        )
    return f"the gradients of {pair.stronger} and {pair.weaker} do not conflict: {angle}"


def _negligible(terms: Sequence[TermReading], largest: float) -> list[str]:
    """Name the terms whose gradient is negligible, each with the cause."""
    causes = []
    for term in terms:
        if term.weight == 0:
            causes.append(f"{term.name} (its weight is 0)")
        elif term.raw.median == 0:
            causes.append(f"{term.name} (its gradient is 0)")
        elif term.weighted.median < NEGLIGIBLE * largest:
            causes.append(f"{term.name} ({number(term.weighted.median / largest, 3)}x the largest)")
    return [f"negligible gradient: {listed(causes, limit=len(causes))}"] if causes else []


def _bounds(
    probes: Sequence[Gradients],
    names: Sequence[str],
    weights: Mapping[str, float],
    pairs: Sequence[PairReading],
    bounds: Mapping[str, Sequence[float | None]],
) -> tuple[list[str], bool]:
    """Return sentences about the bounds, and whether they are met."""
    finding = grad_ratio(probes, bounds, terms=names) if bounds else None
    if finding is not None:
        return [finding.text, *([finding.hint] if finding.hint else [])], finding.status == "pass"
    weighted = [pair for pair in pairs if weights[pair.stronger] and weights[pair.weaker]]
    if not weighted:
        return ["only one term has a weight, so there is no ratio to judge"], True
    largest = weighted[0]
    ratio = largest.weighted.median
    if ratio > 1 / COLLAPSED:
        meaning = describe_ratio(largest.weaker, largest.stronger, 1 / ratio)
    else:
        meaning = describe_ratio(largest.stronger, largest.weaker, ratio)
    return [f"largest ratio of weighted norms: {meaning}"], ratio <= DOMINANT


def _suggested_weight(
    pairs: Sequence[PairReading], weights: Mapping[str, float], bounds: Mapping[str, Sequence[float | None]]
) -> list[str]:
    """Suggest the weight that makes both norms equal: a weighted norm is proportional to its weight.

    Nothing is suggested for a pair that the recipe wants unequal.
    """
    weighted = [pair for pair in pairs if weights[pair.stronger] and weights[pair.weaker]]
    if not weighted or weighted[0].weighted.median <= DOMINANT:
        return []
    stronger, weaker, ratio = weighted[0].stronger, weighted[0].weaker, weighted[0].weighted.median
    low, high = bounds.get(f"{stronger}/{weaker}") or bounds.get(f"{weaker}/{stronger}") or (None, None)
    if not (low or 0.0) <= 1.0 <= (inf if high is None else high):
        return []
    return [
        f"suggestion: with a weight of {number(weights[stronger] / ratio, 3)} instead of {number(weights[stronger])}, "
        f"{stronger} has the same gradient norm as {weaker}; if {stronger} is only an auxiliary loss, "
        f"train on {weaker} alone"
    ]
