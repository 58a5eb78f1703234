"""Which of many loss terms is stronger, which is silent, and which two pull apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import isfinite
from statistics import median
from typing import Any

SILENT = 0.01
"""A term that pulls this little against the loudest has no say."""
OPPOSED = -0.1
"""Cosine from which two terms are said to pull apart: any below 0 conflicts (Yu et al. 2020), but those of random
directions lie around it."""
FEWEST = 3
"""Terms from which there is more to say than one ratio."""


def median_norms(weighted: Sequence[Mapping[str, float]], terms: Sequence[str]) -> dict[str, float]:
    """Median weighted gradient norm by term over the probes; terms that no probe has are left out."""
    return {
        term: median(probe[term] for probe in weighted if term in probe)
        for term in terms
        if any(term in probe for probe in weighted)
    }


def median_cosines(cosines: Sequence[Mapping[str, float]], terms: Sequence[str]) -> dict[str, float]:
    """Median cosine by `term/term` over the probes that have one: a term without a gradient has no direction."""
    found: dict[str, float] = {}
    for a, b in combinations(terms, 2):
        pair = f"{a}/{b}"
        values = [value for probe in cosines if isfinite(value := probe.get(pair, float("nan")))]
        if values:
            found[pair] = median(values)
    return found


def sentence(norms: Mapping[str, float], cosines: Mapping[str, float]) -> str:
    """`of 8 terms kce pulls hardest ...`; empty for fewer than three terms."""
    if len(norms) < FEWEST:
        return ""
    stronger = max(norms, key=norms.__getitem__)
    top, total = norms[stronger], sum(norms.values())
    if not top:
        return f"none of {len(norms)} terms pulls at all"
    said = f"of {len(norms)} terms {stronger} pulls hardest ({100 * top / total:.2g} % of the sum of weighted norms), "
    silent = [term for term, norm in norms.items() if norm < SILENT * top]
    weaker = min(norms, key=norms.__getitem__)
    said += f"silent: {', '.join(silent)}" if silent else f"{weaker} least ({norms[weaker] / top:.2g}x of that)"
    if not cosines:
        return said
    pair = min(cosines, key=cosines.__getitem__)
    apart = "most opposed" if cosines[pair] <= OPPOSED else "no two are opposed, the least aligned are"
    return f"{said}; {apart}: {pair} (median cosine {cosines[pair]:.2f})"


def figures(norms: Mapping[str, float], cosines: Mapping[str, float]) -> dict[str, Any]:
    """What a table or a matrix is drawn from."""
    return {"weighted_norms": dict(norms), "cosines": dict(cosines)}
