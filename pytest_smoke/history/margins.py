"""How far an outcome stayed from the limits that its verdict depends on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

SMALLEST_RISE = "smallest detectable rise"
"""Name of the margin of the loss curve's noise."""
_ALL_OR_NOTHING = re.compile(r"[=!]=")
"""Such a criterion holds or does not: there is no distance to its limit."""
_FOLDED = re.compile(r"\b(?:max|min|mean|median|first|last)\(")
"""Such a criterion compares one number over all steps up to its deadline."""
_DEADLINE = re.compile(r"\bby step (\d+)\]$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """The distance of one measured value from its limit."""

    left: float
    """The distance as a share of the limit: 0 at the limit, negative beyond it, and 0.2 for a loss of 0.8 that must
    stay below 1. Of a limit of 0 it is the distance itself."""
    observed: float
    """What was measured."""
    bound: float
    """The limit; of two, the nearer one."""

    def to_dict(self) -> dict[str, float]:
        """Return a tree of builtins."""
        return asdict(self)


def margins_of(findings: Any) -> dict[str, Margin]:
    """Return the margins of an outcome by name, from its findings as `verdicts.json` has them.

    - A criterion, of the recipe or of a stage: the distance of its two sides, over the right one. With a deadline
      (`by step N`), the steps that were left when it held, over N; 0 if it did not hold by then.
    - A declared ratio of gradient norms: `1 - ratio / upper bound` or `1 - lower bound / ratio`, the smaller one.
    - The smallest lasting rise of the loss that would have been detected: `1 - rise / limit`, where the limit is the
      rise from which a curve is `inconclusive (too-noisy)`.

    What is not finite has no margin, and findings of another form are passed over.
    """
    return dict(_margins(findings)) if isinstance(findings, list) else {}


def _margins(findings: list[Any], prefix: str = "") -> Iterator[tuple[str, Margin]]:
    for finding in findings:
        if not isinstance(finding, Mapping) or not isinstance(finding.get("id"), str):
            continue
        check, _, subject = finding["id"].partition("[")
        data = finding.get("data")
        data = data if isinstance(data, Mapping) else {}
        stage = f" [{subject}" if subject else ""
        if check == "accept":
            margin = _criterion(finding)
            if margin is not None:
                yield f"{prefix}{subject.removesuffix(']')}", margin
        elif check == "stage":
            criteria = data.get("criteria")
            yield from _margins(criteria if isinstance(criteria, list) else [], f"{subject.removesuffix(']')}: ")
        elif check == "grad-ratio":
            yield from ((f"{name}{stage}", margin) for name, margin in _ratios(finding))
        elif check == "loss-trend":
            share, ratio = finite_number(data.get("smallest_rise")), finite_number(data.get("smallest_rise_of_limit"))
            if share is not None and ratio is not None and ratio > 0:
                yield f"{SMALLEST_RISE}{stage}", Margin(left=1 - ratio, observed=share, bound=share / ratio)


def _criterion(finding: Mapping[str, Any]) -> Margin | None:
    """Return the margin of one criterion, on the side of its limit that its status tells."""
    observed, bound = finite_number(finding.get("observed")), finite_number(finding.get("bound"))
    holds = finding.get("status") == "pass"
    if observed is None or bound is None or _ALL_OR_NOTHING.search(finding["id"]):
        return None
    deadline = None if _FOLDED.search(finding["id"]) else _DEADLINE.search(finding["id"])
    step = finding.get("step")
    if deadline and (not holds or isinstance(step, int)):
        last = int(deadline[1])
        met = step if holds and isinstance(step, int) else last
        return Margin(left=(last - met) / max(last, 1), observed=met, bound=last)
    distance = abs(observed - bound) / (abs(bound) or 1.0)
    return Margin(left=distance if holds else -distance, observed=observed, bound=bound) if isfinite(distance) else None


def _ratios(finding: Mapping[str, Any]) -> Iterator[tuple[str, Margin]]:
    """Yield the margin of every declared pair of terms."""
    ratios, bounds = finding.get("observed"), finding.get("bound")
    if not isinstance(ratios, Mapping) or not isinstance(bounds, Mapping):
        return
    for pair, limits in bounds.items():
        ratio = finite_number(ratios.get(pair))
        if ratio is None or not isinstance(limits, list) or len(limits) != 2:
            continue
        low, high = map(finite_number, limits)
        found = []
        if high is not None and high > 0:
            found.append(Margin(left=1 - ratio / high, observed=ratio, bound=high))
        if low is not None and low > 0 and ratio > 0:
            found.append(Margin(left=1 - low / ratio, observed=ratio, bound=low))
        if found:
            names = ["any" if limit is None else f"{limit:g}" for limit in (low, high)]
            yield f"{pair} in [{', '.join(names)}]", min(found, key=lambda margin: margin.left)


def finite_number(value: Any) -> float | None:
    """Return a finite number; None for anything else, such as the texts that stand for NaN and infinities."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if isfinite(value) else None
    except OverflowError:
        return None
