"""Gradient norms of the loss terms against each other: the `grad-ratio` check, and its reading in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isfinite
from statistics import median

from pytest_smoke.judge.checks.term_conflict import figures, median_cosines, median_norms, sentence
from pytest_smoke.outcome import Finding

DOMINATED = 8.0
"""A term whose gradient is this many times another's leaves the other no say."""
COLLAPSED = 0.01
"""... and one this small against another has no say itself."""
BALANCED = (0.5, 2.0)
TINY = 1e-12
"""Stands in for a norm of zero in a ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TermNorms:
    """Gradient norms of the terms over one effective batch."""

    step: int
    raw: Mapping[str, float]
    """2-norm by term."""
    weighted: Mapping[str, float]
    """The same times the size of the term's weight."""
    cosines: Mapping[str, float]
    """Cosine by `term/term`."""


def grad_ratio(
    probes: Sequence[TermNorms],
    bounds: Mapping[str, Sequence[float]],
    *,
    terms: Sequence[str],
    from_step: int = 0,
    id: str = "grad-ratio",
) -> Finding | None:
    """The median ratio over the probes from `from_step` on (all, if there are none) against its bounds.

    Declared pairs bound the ratio of raw norms and can fail. Where none is declared, weighted norms, which are what
    pulls, only warn. None if there is nothing to compare: one term, and no pair declared. A probe counts for the pairs
    whose terms it has: phases may differ in theirs. `id`: what the finding goes by, where a stage has its own.
    """
    whole = [probe for probe in probes if all(map(isfinite, probe.raw.values()))]  # a loss scaler skipped the others
    counted = [probe for probe in whole if probe.step >= from_step] or whole
    if not bounds:
        return _with_conflict(_undeclared(counted, terms, id), counted, terms) if counted and len(terms) > 1 else None
    unknown = sorted({term for pair in bounds for term in pair.split("/") if term not in terms})
    if unknown:
        text = f"checks.grad_ratio names {', '.join(unknown)}; the task's loss terms are {', '.join(terms)}"
        return Finding(id=id, status="fail", reason="unknown-term", text=text)
    by_pair = {pair: [probe for probe in counted if set(pair.split("/")) <= probe.raw.keys()] for pair in bounds}
    if not all(by_pair.values()):
        text = f"{len(probes)} gradient probes were taken, none of them finite"
        if counted:
            text = f"no gradient probe has both terms of {next(pair for pair in bounds if not by_pair[pair])}"
        return Finding(id=id, status="not-checked", reason="no-probe", text=text)
    texts, failed, observed = [], [], {}
    for pair, (low, high) in bounds.items():
        above, below = pair.split("/")
        ratios = [probe.raw[above] / max(probe.raw[below], TINY) for probe in by_pair[pair]]
        middle = observed[pair] = median(ratios)
        texts.append(
            f"raw gradient norm {pair}: median {_g(middle)} "
            f"(range {_g(min(ratios))} to {_g(max(ratios))}, {len(ratios)} probes), "
            f"{'within' if low <= middle <= high else 'outside'} [{low:g}, {high:g}]"
        )
        if not low <= middle <= high:  # NaN fails too
            failed.append((above, below, middle))
    found = Finding(
        id=id,
        status="fail" if failed else "pass",
        reason="ratio" if failed else "",
        text="; ".join(texts),
        observed=observed,
        bound={pair: list(limits) for pair, limits in bounds.items()},
        hint="; ".join(read(*pair) for pair in failed),
    )
    return _with_conflict(found, counted, terms)


def read(above: str, below: str, ratio: float) -> str:
    """What a ratio of two terms' gradient norms means, and what repairs it."""
    if not ratio < DOMINATED:  # infinite and NaN too
        return (
            f"{above} dominates: its gradient is {_g(ratio)}x that of {below}; "
            f"reduce the weight of {above} drastically, or drop one of the two"
        )
    if ratio < COLLAPSED:
        return (
            f"{above} has collapsed: its gradient is {_g(ratio)}x that of {below}, so the objectives have decoupled; "
            f"drop one of the two, or give them separate optimizers"
        )
    if BALANCED[0] <= ratio <= BALANCED[1]:
        return f"{above} and {below} are balanced ({_g(ratio)}x): the cause is elsewhere (capacity, data, LR schedule)"
    return f"{above} pulls {_g(ratio)}x as hard as {below}: neither balanced (0.5 to 2) nor dominated (over 8)"


def postmortem(probe: TermNorms) -> str:
    """Which term pulled on the last good checkpoint, in one sentence; empty for a single term."""
    if len(probe.weighted) < 2:
        return ""
    broken = [term for term, norm in probe.raw.items() if not isfinite(norm)]
    if broken:
        return (
            f"already on the last good checkpoint (step {probe.step}) the gradient of {', '.join(broken)} is not finite"
        )
    norms = ", ".join(f"{term} {_g(norm)}" for term, norm in probe.weighted.items())
    pulling = {term: norm for term, norm in probe.weighted.items() if norm > 0}  # no weight, or still at its floor
    if len(pulling) < 2:
        said = f"{next(iter(pulling))} alone pulls" if pulling else "none pulls"
    else:
        stronger, weaker = max(pulling, key=pulling.__getitem__), min(pulling, key=pulling.__getitem__)
        said = read(stronger, weaker, pulling[stronger] / max(pulling[weaker], TINY))
    return f"on the last good checkpoint (step {probe.step}) the weighted gradient norms are {norms}: {said}"


def _with_conflict(found: Finding | None, probes: Sequence[TermNorms], terms: Sequence[str]) -> Finding | None:
    """The finding with the medians of all terms and pairs, and what they say where there are three terms or more."""
    if found is None:
        return None
    norms = median_norms([probe.weighted for probe in probes], terms)
    cosines = median_cosines([probe.cosines for probe in probes], terms)
    said = sentence(norms, cosines)
    return replace(found, text=f"{found.text}; {said}" if said else found.text, data=figures(norms, cosines))


def _undeclared(probes: Sequence[TermNorms], terms: Sequence[str], id: str) -> Finding | None:
    worst, pair = 1.0, (terms[0], terms[1])
    compared = False
    for a, b in combinations(terms, 2):
        both = [probe.weighted for probe in probes if a in probe.weighted and b in probe.weighted]
        if not both:
            continue
        compared = True
        middle = median(norms[a] / max(norms[b], TINY) for norms in both)
        for ratio, names in ((middle, (a, b)), (1 / max(middle, TINY), (b, a))):
            if not ratio <= worst:
                worst, pair = ratio, names
    if not compared:
        return None
    stronger, weaker = pair
    text = f"widest ratio of weighted gradient norms: {stronger}/{weaker}, median {_g(worst)}; no bounds declared"
    if worst <= DOMINATED:
        return Finding(id=id, status="pass", text=text, observed=worst)
    return Finding(
        id=id,
        status="warn",
        reason="ratio",
        text=text,
        observed=worst,
        hint=f"{read(stronger, weaker, worst)}; declare checks.grad_ratio to make this decide",
    )


def _g(value: float) -> str:
    return f"{value:.3g}"
