"""The `grad-ratio` check: no loss term's gradient dominates another's, and the sentences about gradient probes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from math import inf, isfinite
from statistics import median
from typing import Any

from pytest_smoke import schedules
from pytest_smoke.events import Gradients
from pytest_smoke.judge.checks.check import NOT_MADE, Check, Reason, RunView, StageView, not_made
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.text import closest, count, listed, number, percent

DOMINANT = 8.0
"""A gradient this many times as large as another's leaves the other term without influence."""
COLLAPSED = 0.01
"""A gradient this small relative to another's has no influence itself."""
BALANCED = (0.5, 2.0)
TINY = 1e-12
"""Replaces a norm of zero in a ratio."""
NEGLIGIBLE = 0.01
"""A weighted gradient norm below this share of the largest one is called negligible."""
CONFLICTING = -0.1
"""Cosine from which two gradients are said to conflict: any below 0 does (Yu et al. 2020), but those of random
directions scatter around 0."""
REST = "rest"
"""Term of a trainer's loss beyond its named losses; see `train.adapters`."""
FEWEST_TERMS = 3
"""Terms from which there is more to say than one ratio."""


def gradient_ratios(run: RunView) -> Iterator[Finding]:
    """Make the check in every stage."""
    for view in run.stages:
        finding_id = view.stage.finding_id(CHECK.id)
        if not (view.finished and view.updates is not None):
            if run.case.recipe.checks.grad_ratio:
                yield not_made(run, finding_id)
            continue
        from_step = view.stage.first_step + _first_evidence_step(view.stage)
        pairs, probes, terms = _pairs_of(run, view), view.gradients, view.terms
        if not pairs and run.case.recipe.trainer != "task":
            probes, terms = _without_rest(probes), [term for term in terms if term != REST]
        finding = grad_ratio(probes, pairs, terms=terms, from_step=from_step, finding_id=finding_id)
        if finding is not None:
            yield finding


def _without_rest(probes: Sequence[Gradients]) -> list[Gradients]:
    """Leave out the part of a trainer's loss that has no name: an auxiliary loss next to it is small by design."""
    return [
        replace(
            probe,
            raw={term: norm for term, norm in probe.raw.items() if term != REST},
            weighted={term: norm for term, norm in probe.weighted.items() if term != REST},
            cosines={pair: cosine for pair, cosine in probe.cosines.items() if REST not in pair.split("/")},
        )
        for probe in probes
    ]


def grad_ratio(
    probes: Sequence[Gradients],
    bounds: Mapping[str, Sequence[float | None]],
    *,
    terms: Sequence[str],
    from_step: int = 0,
    finding_id: str = "grad-ratio",
) -> Finding | None:
    """Compare the median ratio over the probes from `from_step` on (over all, if there are none) with its bounds.

    Declared pairs bound the ratio of raw norms and can fail. Without any, weighted norms, which are what trains, are
    compared and only warn. Returns None if there is nothing to compare: one term, and no declared pair. A probe counts
    for the pairs whose terms it has, because phases may have different terms.
    """
    finite = [probe for probe in probes if all(map(isfinite, probe.raw.values()))]  # a loss scaler skipped the others
    counted = [probe for probe in finite if probe.step >= from_step] or finite
    if not bounds:
        return (
            _with_balance(_undeclared(counted, terms, finding_id), counted, terms)
            if counted and len(terms) > 1
            else None
        )
    unknown = sorted({term for pair in bounds for term in pair.split("/") if term not in terms})
    if unknown:
        names = listed(terms, limit=len(terms))
        text = f"checks.grad_ratio names {listed(unknown)}, but the task's loss terms are {names}"
        hint = next((f"did you mean {near}?" for term in unknown if (near := closest(term, terms))), "")
        return Finding(id=finding_id, status="fail", reason="unknown-term", text=text, hint=hint)
    by_pair = {pair: [probe for probe in counted if set(pair.split("/")) <= probe.raw.keys()] for pair in bounds}
    if not all(by_pair.values()):
        text = "no gradient probe was made"
        if probes:
            text = "the only gradient probe was not finite"
            text = f"none of the {len(probes):,} gradient probes was finite" if len(probes) > 1 else text
        if counted:
            text = f"no gradient probe has both terms of {next(pair for pair in bounds if not by_pair[pair])}"
        return Finding(id=finding_id, status="not-checked", reason="no-gradient-probe", text=text)
    texts, failed, observed = [], [], {}
    for pair, (low, high) in bounds.items():
        above, below = pair.split("/")
        ratios = [probe.raw[above] / max(probe.raw[below], TINY) for probe in by_pair[pair]]
        middle = observed[pair] = median(ratios)
        inside = (0.0 if low is None else low) <= middle <= (inf if high is None else high)  # False for NaN
        texts.append(
            f"the raw gradient norms {pair} have a median ratio of {number(middle, 3)} ({number(min(ratios), 3)} to "
            f"{number(max(ratios), 3)} in {count(len(ratios), 'probe')}), {_compared(low, high, inside=inside)}"
        )
        if not inside:
            failed.append((above, below, middle, low, high))
    finding = Finding(
        id=finding_id,
        status="fail" if failed else "pass",
        reason="ratio-out-of-bounds" if failed else "",
        text="; ".join(texts),
        observed=observed,
        bound={pair: list(limits) for pair, limits in bounds.items()},
        hint="; ".join(_advice(*pair) for pair in failed),
    )
    return _with_balance(finding, counted, terms)


def _compared(low: float | None, high: float | None, *, inside: bool) -> str:
    """Compare a ratio with its bounds in words."""
    if high is None:
        return f"{'at least' if inside else 'below'} the limit {low:g}"
    if not low:
        return f"{'at most' if inside else 'above'} the limit {high:g}"
    return f"{'within' if inside else 'outside'} the bounds [{low:g}, {high:g}]"


def _advice(above: str, below: str, ratio: float, low: float | None, high: float | None) -> str:
    """Say what to do about a ratio out of its bounds; a recipe may ask for another balance than the usual one."""
    too_high, too_low = high is not None and ratio > high, low is not None and ratio < low
    if not (too_high or too_low) or (too_high and ratio >= DOMINANT) or (too_low and ratio < COLLAPSED):
        return describe_ratio(above, below, ratio)
    side, limit, change = ("above", high, "down") if too_high else ("below", low, "up")
    return (
        f"the gradient of {above} is {number(ratio, 3)}x that of {below}, {side} the recipe's limit of {limit:g}. "
        f"Scale {above} {change} in losses(), or change the limit: it is on unweighted gradients, which loss_weights "
        "does not change"
    )


def describe_ratio(above: str, below: str, ratio: float) -> str:
    """Say what a ratio of two terms' gradient norms means, and what to do about it."""
    size = f"the gradient of {above} is {number(ratio, 3)}x that of {below}"
    if not ratio < DOMINANT:  # also infinite and NaN
        return f"{size}: {above} dominates. Reduce its weight, or drop one of the two terms"
    if ratio < COLLAPSED:
        return f"{size}: {above} has almost no effect on training. Increase its weight, or remove it"
    if BALANCED[0] <= ratio <= BALANCED[1]:
        return f"{size}: the two are balanced. Look for the cause elsewhere: capacity, data, learning rate"
    if ratio < BALANCED[0]:
        return f"{size}: {above} has the smaller influence, but is not negligible (that is below {COLLAPSED:g}x)"
    return f"{size}: {above} has the larger influence, but does not dominate (that starts at {DOMINANT:g}x)"


def is_term_to_blame(probe: Gradients) -> bool:
    """Tell whether the gradient of one of several terms was not finite, or dominated another one."""
    if len(probe.weighted) < 2:
        return False
    if not all(map(isfinite, probe.raw.values())):
        return True
    influential = [norm for norm in probe.weighted.values() if norm > 0]
    return len(influential) > 1 and max(influential) >= DOMINANT * max(min(influential), TINY)


def describe_postmortem(probe: Gradients) -> str:
    """Say what the gradient norms were on the last good checkpoint; empty for a single term."""
    if len(probe.weighted) < 2:
        return ""
    broken = [term for term, norm in probe.raw.items() if not isfinite(norm)]
    if broken:
        return f"the gradient of {', '.join(broken)} was not finite on the last good checkpoint (step {probe.step})"
    norms = ", ".join(f"{term} {number(norm, 3)}" for term, norm in probe.weighted.items())
    influential = {term: norm for term, norm in probe.weighted.items() if norm > 0}  # weight 0, or a loss at its floor
    if len(influential) < 2:
        balance = f"only {next(iter(influential))} has a gradient" if influential else "no term has a gradient"
    elif not is_term_to_blame(probe):
        balance = "no term dominates"
    else:
        largest, smallest = max(influential, key=influential.__getitem__), min(influential, key=influential.__getitem__)
        balance = describe_ratio(largest, smallest, influential[largest] / max(influential[smallest], TINY))
    return f"on the last good checkpoint (step {probe.step}) the weighted gradient norms are {norms}; {balance}"


def median_norms(weighted: Sequence[Mapping[str, float]], terms: Sequence[str]) -> dict[str, float]:
    """Return the median weighted gradient norm by term over the probes; terms without any probe are left out."""
    return {
        term: median(probe[term] for probe in weighted if term in probe)
        for term in terms
        if any(term in probe for probe in weighted)
    }


def median_cosines(cosines: Sequence[Mapping[str, float]], terms: Sequence[str]) -> dict[str, float]:
    """Return the median cosine by `term/term` over the probes that have one: a zero gradient has no direction."""
    medians: dict[str, float] = {}
    for a, b in combinations(terms, 2):
        pair = f"{a}/{b}"
        values = [value for probe in cosines if isfinite(value := probe.get(pair, float("nan")))]
        if values:
            medians[pair] = median(values)
    return medians


def describe_balance(norms: Mapping[str, float], cosines: Mapping[str, float]) -> str:
    """Name the largest, the negligible and the most conflicting of three or more terms; empty for fewer."""
    if len(norms) < FEWEST_TERMS:
        return ""
    largest = max(norms, key=norms.__getitem__)
    top, total = norms[largest], sum(norms.values())
    if not top:
        return f"none of {len(norms)} terms has a gradient"
    text = f"of {len(norms)} terms {largest} has the largest gradient ({percent(top / total)} of the sum), "
    negligible = [term for term, norm in norms.items() if norm < NEGLIGIBLE * top]
    smallest = min(norms, key=norms.__getitem__)
    text += (
        f"negligible: {', '.join(negligible)}"
        if negligible
        else f"{smallest} the smallest ({number(norms[smallest] / top, 2)}x of it)"
    )
    if not cosines:
        return text
    pair = min(cosines, key=cosines.__getitem__)
    label = "most conflicting" if cosines[pair] <= CONFLICTING else "no two conflict, least aligned"
    return f"{text}; {label}: {pair} (median cosine {cosines[pair]:.2f})"


def _with_balance(finding: Finding | None, probes: Sequence[Gradients], terms: Sequence[str]) -> Finding | None:
    """Add the medians of all terms and pairs, and a sentence about them if there are three terms or more."""
    if finding is None:
        return None
    norms = median_norms([probe.weighted for probe in probes], terms)
    cosines = median_cosines([probe.cosines for probe in probes], terms)
    text = describe_balance(norms, cosines)
    data: dict[str, Any] = {"weighted_norms": norms, "cosines": cosines}
    return replace(finding, text=f"{finding.text}; {text}" if text else finding.text, data=data)


def _undeclared(probes: Sequence[Gradients], terms: Sequence[str], finding_id: str) -> Finding | None:
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
    larger, smaller = pair
    text = (
        f"largest median ratio of weighted gradient norms: {larger}/{smaller} {number(worst, 3)} (no bounds declared)"
    )
    if worst <= DOMINANT:
        return Finding(id=finding_id, status="pass", text=text, observed=worst)
    return Finding(
        id=finding_id,
        status="warn",
        reason="dominant-term",
        text=text,
        observed=worst,
        hint=f"{describe_ratio(larger, smaller, worst)}. Declare checks.grad_ratio to make this fail",
    )


def _first_evidence_step(stage: Stage) -> int:
    """Return the first step of the stage, from its own first, near its peak learning rate; 0 if there is none."""
    curve = schedules.named(stage.lr_schedule, stage.warmup_steps, stage.max_steps)
    return next((step for step in range(stage.steps) if curve(step) >= schedules.EVIDENCE_SHARE), 0)


def _pairs_of(run: RunView, view: StageView) -> dict[str, list[float | None]]:
    """Return the declared pairs whose terms this stage has; in the last stage also those that no stage has."""
    pairs, last = run.case.recipe.checks.grad_ratio, view is run.stages[-1]
    known = [pair for pair in pairs if any(set(pair.split("/")) <= set(other.terms) for other in run.stages)]
    return {
        pair: bounds
        for pair, bounds in pairs.items()
        if set(pair.split("/")) <= set(view.terms) or (last and pair not in known)
    }


CHECK = Check(
    id="grad-ratio",
    needed=lambda case: bool(case.recipe.checks.grad_ratio),
    question="Do the gradient norms of the loss terms stay within their bounds, so that none dominates another?",
    when="end of a stage",
    verdict="hold",
    key="checks.grad_ratio",
    reasons=(
        Reason(id="ratio-out-of-bounds", status="fail", when="the median ratio of a declared pair is out of bounds"),
        Reason(id="unknown-term", status="fail", when="`checks.grad_ratio` names a term that the task does not have"),
        Reason(id="no-gradient-probe", status="not-checked", when="no finite gradient probe has both terms"),
        Reason(id="dominant-term", status="warn", when="without declared bounds, one term's gradient dominates"),
        *NOT_MADE,
    ),
    at_end=gradient_ratios,
)
