"""What a gradient probe of N loss terms says, in figures and in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite, nan
from statistics import median

from pytest_smoke.judge.checks.grad_ratio import COLLAPSED, DOMINATED, TINY, TermNorms, grad_ratio, read
from pytest_smoke.judge.checks.term_conflict import FEWEST, OPPOSED, SILENT, sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A figure over the batches on which it is finite; NaN where it is on none."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TermReading:
    """One term."""

    name: str
    weight: float
    raw: Spread
    """2-norm of its gradient."""
    weighted: Spread
    """The same times the size of its weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReading:
    """Two terms, the louder first."""

    stronger: str
    weaker: str
    raw: Spread
    """Ratio of raw norms."""
    weighted: Spread
    """Ratio of weighted norms; its median is 1 or more."""
    cosine: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReading:
    """All of it."""

    terms: tuple[TermReading, ...]
    pairs: tuple[PairReading, ...]
    """Widest ratio first."""
    sentences: tuple[str, ...]
    """Who is loudest, who is silent, who opposes whom; then what it means, and what to do."""
    within: bool
    """Whether every gradient is finite and every bound, declared or default, is kept."""


def read_probe(
    probes: Sequence[TermNorms], weights: Mapping[str, float], bounds: Mapping[str, Sequence[float]]
) -> ProbeReading:
    """The reading of some effective batches of two terms or more.

    `bounds` are the recipe's, on raw norms. Without any, no weighted norm may be more than 8 times another's; terms of
    weight 0 do not pull, and are left out of that.
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
    pairs = tuple(sorted((_pair(probes, a, b) for a, b in combinations(names, 2)), key=_width, reverse=True))
    broken = {name: sum(not isfinite(probe.raw[name]) for probe in probes) for name in names}
    sentences = [
        f"the gradient of {name} is not finite on {count} of {len(probes)} batches"
        for name, count in broken.items()
        if count
    ]
    kept = not sentences
    if any(isfinite(term.weighted.median) for term in terms):
        sentences += _standing(terms, pairs, declared=bool(bounds))
        verdict, held = _bounds(probes, names, weights, pairs, bounds)
        sentences += verdict
        kept = kept and held
        sentences += [] if held else _repair(pairs, weights)
    return ProbeReading(terms=terms, pairs=pairs, sentences=tuple(sentences), within=kept)


def _spread(values: Iterable[float]) -> Spread:
    found = [value for value in values if isfinite(value)]
    return (
        Spread(median=median(found), low=min(found), high=max(found))
        if found
        else Spread(median=nan, low=nan, high=nan)
    )


def _pair(probes: Sequence[TermNorms], a: str, b: str) -> PairReading:
    # By the median of the ratio and not of the norms, so that the louder one's ratio is 1 or more.
    whole = [probe for probe in probes if isfinite(probe.weighted[a]) and isfinite(probe.weighted[b])]
    middle = _spread(_over(probe.weighted, a, b) for probe in whole).median
    stronger, weaker = (b, a) if middle < 1 else (a, b)
    return PairReading(
        stronger=stronger,
        weaker=weaker,
        raw=_spread(_over(probe.raw, stronger, weaker) for probe in whole),
        weighted=_spread(_over(probe.weighted, stronger, weaker) for probe in whole),
        cosine=_spread(probe.cosines[f"{a}/{b}"] for probe in whole),
    )


def _over(norms: Mapping[str, float], above: str, below: str) -> float:
    if norms[above] == norms[below]:
        return 1.0  # two silent terms are equals
    return norms[above] / max(norms[below], TINY)


def _width(pair: PairReading) -> float:
    return pair.weighted.median if isfinite(pair.weighted.median) else 0.0


def _standing(terms: Sequence[TermReading], pairs: Sequence[PairReading], *, declared: bool) -> list[str]:
    """Who is loudest, who is silent and why, who opposes whom; of three terms and more as `grad-ratio` says it.

    `declared`: the sentence on the declared bounds has it already.
    """
    norms = {term.name: term.weighted.median for term in terms if isfinite(term.weighted.median)}
    cosines = {f"{pair.stronger}/{pair.weaker}": pair.cosine.median for pair in pairs if isfinite(pair.cosine.median)}
    stronger = max(norms, key=norms.__getitem__)
    if len(norms) >= FEWEST:
        said = [] if declared else sentence(norms, cosines).split("; ")
    else:
        said = [f"loudest: {stronger}, weighted gradient norm {_g(norms[stronger])}", *map(_apart, pairs)]
    return [*said, *_silent(terms, norms[stronger])]


def _apart(pair: PairReading) -> str:
    span = f"cosine {pair.cosine.median:.2f} (range {pair.cosine.low:.2f} to {pair.cosine.high:.2f})"
    if pair.cosine.median <= OPPOSED:
        return f"{pair.stronger} and {pair.weaker} are opposed, {span}: a step for one is a step against the other"
    return f"{pair.stronger} and {pair.weaker} are not opposed, {span}"


def _silent(terms: Sequence[TermReading], most: float) -> list[str]:
    """Terms that pull at nothing, each with why."""
    said = []
    for term in terms:
        if term.weight == 0:
            said.append(f"{term.name} (its weight is 0)")
        elif term.raw.median == 0:
            said.append(f"{term.name} (no gradient at all)")
        elif term.weighted.median < SILENT * most:
            said.append(f"{term.name} ({_g(term.weighted.median / most)}x the loudest)")
    return [f"silent: {', '.join(said)}"] if said else []


def _bounds(
    probes: Sequence[TermNorms],
    names: Sequence[str],
    weights: Mapping[str, float],
    pairs: Sequence[PairReading],
    bounds: Mapping[str, Sequence[float]],
) -> tuple[list[str], bool]:
    """Sentences, and whether the bounds are kept."""
    declared = grad_ratio(probes, bounds, terms=names) if bounds else None
    if declared is not None:
        return [declared.text, *([declared.hint] if declared.hint else [])], declared.status == "pass"
    pulling = [pair for pair in pairs if weights[pair.stronger] and weights[pair.weaker]]
    if not pulling:
        return ["one term has a weight: nothing pulls against it"], True
    widest = pulling[0]
    ratio = widest.weighted.median
    collapsed = ratio > 1 / COLLAPSED
    said = read(widest.weaker, widest.stronger, 1 / ratio) if collapsed else read(widest.stronger, widest.weaker, ratio)
    return [f"widest ratio, of weighted norms: {said}"], ratio <= DOMINATED


def _repair(pairs: Sequence[PairReading], weights: Mapping[str, float]) -> list[str]:
    """Norms go with the weights, so the weight at which two are equal is known without another run."""
    pulling = [pair for pair in pairs if weights[pair.stronger] and weights[pair.weaker]]
    if not pulling or pulling[0].weighted.median <= DOMINATED:
        return []
    stronger, weaker, ratio = pulling[0].stronger, pulling[0].weaker, pulling[0].weighted.median
    return [
        f"repair: {stronger} pulls as hard as {weaker} at weight {_g(weights[stronger] / ratio)} "
        f"(now {weights[stronger]:g}); "
        f"or, if {stronger} is not what the model is for, train on {weaker} alone and use {stronger} at inference only"
    ]


def _g(value: float) -> str:
    return f"{value:.3g}"
