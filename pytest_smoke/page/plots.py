"""The data of a run's plots: series, marks at steps, levels, and the spans of a rise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import isfinite
from typing import Any

from pytest_smoke.criteria import CriterionError, parse
from pytest_smoke.criteria.nodes import Call, MetricRef, Node
from pytest_smoke.judge.curve.evidence import PEAK_SHARE
from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.page.series import Series, encoded, rounded, smoothed
from pytest_smoke.page.trace import Trace, curve_series
from pytest_smoke.plain import plain_name
from pytest_smoke.report.terminal import label
from pytest_smoke.text import number, percent

MAX_METRICS = 24
"""Metrics that are drawn; those with a criterion come first. More would be a page of their own."""
MAX_TERMS = 12
"""Loss terms that are drawn; the largest at the end come first. More lines cannot be told apart."""
MAX_RATIOS = 6
"""Ratios of gradient norms that are drawn if the recipe bounds none: all pairs of four terms."""
Panel = dict[str, Any]


def plot_data(outcome: Outcome, trace: Trace | None) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the data of the plots, None if there is nothing to draw, and what is left out, in sentences.

    Raises ValueError, TypeError, KeyError and AttributeError for an outcome whose values have the wrong types.
    """
    loss = trace.loss if trace else curve_series(outcome.curve) if outcome.curve.get("step") else Series()
    levels = _levels(outcome)
    panels: list[Panel] = []
    if loss.steps:
        panels.append(_loss(outcome, trace, loss, levels))
    if trace is not None:
        panels += _trace_panels(outcome, trace, levels)
    panels += _gradients(outcome)
    metrics, left_out = _metrics(outcome, levels)
    panels += metrics
    if not panels:
        return None, []
    return {"marks": list(_marks(outcome, trace)), "panels": panels}, left_out


def _loss(outcome: Outcome, trace: Trace | None, loss: Series, levels: Mapping[str, list[Panel]]) -> Panel:
    means, width = smoothed(loss) if trace else (Series(), 1)
    name = "loss" if trace else "loss, means of blocks"
    series = [_series(name, loss, "raw" if means.steps else "line")]
    if means.steps:
        series.append(_series(f"mean of {width} steps", means))
    if trace and trace.probe_loss.steps:
        series.append(_series("probe loss", trace.probe_loss, "points"))
    found = levels.get("loss", []) + levels.get("probe_loss", [])
    return _panel("Loss", series, found, wide=True, spans=list(_spans(outcome.findings)))


def _trace_panels(outcome: Outcome, trace: Trace, levels: Mapping[str, list[Panel]]) -> Iterator[Panel]:
    if trace.lr.steps:
        edges = [
            _level(PEAK_SHARE * peak, f"{percent(PEAK_SHARE)} of the peak") for _, _, peak in _peaks(outcome, trace)
        ]
        unique = list({edge["y"]: edge for edge in edges}.values())
        yield _panel(
            "Learning rate", [_series("learning rate", trace.lr, schedule=True)], unique + levels.get("lr", [])
        )
    if trace.grad_norm.steps:
        clip = outcome.facts.settings.get("grad_clip_norm")
        clipped = [_level(clip, "clipped above")] if isinstance(clip, int | float) else []
        yield _panel(
            "Gradient norm", [_series("gradient norm", trace.grad_norm)], clipped + levels.get("grad_norm", [])
        )
    if len(trace.terms) > 1:
        chosen = sorted(trace.terms, key=lambda term: -_last(trace.terms[term]))[:MAX_TERMS]
        series = [_series(term, trace.terms[term]) for term in trace.terms if term in chosen]
        yield _panel("Loss terms", series, [line for term in chosen for line in levels.get(term, [])])


def _gradients(outcome: Outcome) -> Iterator[Panel]:
    """Yield gradient norm and ratios of the loss terms at the gradient probes."""
    raw = {term: Series.of((int(row[0]), float(row[1])) for row in rows) for term, rows in outcome.gradients.items()}
    weighted = {
        term: Series.of((int(row[0]), float(row[2])) for row in rows) for term, rows in outcome.gradients.items()
    }
    if len(raw) < 2:
        return
    chosen = sorted(weighted, key=lambda term: -_last(weighted[term]))[:MAX_TERMS]
    series = [_series(term, weighted[term], "points") for term in weighted if term in chosen]
    yield _panel("Gradient norm of each term, weighted", series, [])
    bounds: dict[str, Any] = {}
    for finding in outcome.findings:
        if finding.check == "grad-ratio" and isinstance(finding.bound, Mapping):
            bounds |= finding.bound
    if bounds:
        pairs = [tuple(pair.split("/", 1)) for pair in bounds if pair.count("/")]
        lines = [
            _level(limit, f"{pair} {'at least' if low else 'at most'} {number(float(limit), 3)}")
            for pair, limits in bounds.items()
            for low, limit in zip((True, False), limits, strict=True)
            if limit is not None
        ]
        drawn = [_ratio(a, b, raw) for a, b in pairs if a in raw and b in raw]
        if drawn:
            yield _panel("Gradient ratio, unweighted", drawn, lines)
    else:
        drawn = [_ratio(a, b, weighted) for a, b in combinations(chosen, 2)][:MAX_RATIOS]
        yield _panel("Gradient ratio, weighted", drawn, [])


def _ratio(above: str, below: str, norms: Mapping[str, Series]) -> Panel:
    values = dict(zip(*norms[below], strict=True))
    points = (
        (step, norm / values[step] if values[step] else float("inf"))
        for step, norm in zip(*norms[above], strict=True)
        if step in values
    )
    return _series(f"{above}/{below}", Series.of(points), "points")


def _metrics(outcome: Outcome, levels: Mapping[str, list[Panel]]) -> tuple[list[Panel], list[str]]:
    names = sorted(outcome.metrics, key=lambda name: (name not in levels, name != outcome.facts.main_metric))
    panels = []
    for name in names[:MAX_METRICS]:
        points = [(int(step), float(value)) for step, value in outcome.metrics[name]]
        first = outcome.facts.initial_metrics.get(name)
        if first is not None and points and points[0][0] > 0:
            points.insert(0, (0, float(first)))
        if points:
            panels.append(_panel(plain_name(name), [_series(name, Series.of(points), "points")], levels.get(name, [])))
    left = len(names) - MAX_METRICS
    return panels, [f"{left:,} more metrics are not drawn; verdicts.json has them"] if left > 0 else []


def _marks(outcome: Outcome, trace: Trace | None) -> Iterator[Panel]:
    """Yield what is marked at a step of every plot."""
    stages = [(f"stage {stage.name}", int(stage.first_step)) for stage in outcome.facts.stages]
    for text, step in trace.phases if trace and trace.phases else stages:
        yield _mark(step, text, "stage")
    for step in outcome.facts.resumed_at_steps:
        yield _mark(int(step), "resumed", "resume")
    for first, last, _ in _peaks(outcome, trace) if trace else ():
        yield _mark(first, "evidence starts", "evidence")
        if last is not None:
            yield _mark(last, "evidence ends", "evidence")
    if outcome.step is not None and outcome.verdict != "promote":
        yield _mark(int(outcome.step), label(outcome), "verdict")


def _peaks(outcome: Outcome, trace: Trace) -> Iterator[tuple[int, int | None, float]]:
    """Yield the first step at 80 % of each stage's peak learning rate, the last one if more follow, and the peak."""
    ends: list[tuple[int, int | None, Any]] = [
        (int(stage.first_step), int(stage.first_step + stage.steps), stage.settings.get("learning_rate"))
        for stage in outcome.facts.stages
    ]
    for start, end, declared in ends or [(0, None, outcome.facts.learning_rate)]:
        part = [
            (step, rate) for step, rate in zip(*trace.lr, strict=True) if step >= start and (end is None or step < end)
        ]
        highest = max((rate for _, rate in part if isfinite(rate)), default=0.0)
        peak = float(declared) if isinstance(declared, int | float) else highest
        near = [step for step, rate in part if rate >= PEAK_SHARE * peak * (1 - 1e-9)]
        if near and peak > 0:
            yield near[0], near[-1] if near[-1] != part[-1][0] else None, peak


def _spans(findings: Iterable[Finding]) -> Iterator[Panel]:
    """Yield the spans of a rise: `[first step, last step, level]`, with what they are."""
    for finding in findings:
        for key, text in (("low_span", "low"), ("high_span", "high")):
            match finding.data.get(key):
                case [int(first), int(last), level]:
                    yield {"from": first, "to": last, "y": rounded(float(level)), "kind": text}


def _levels(outcome: Outcome) -> dict[str, list[Panel]]:
    """Return the limits of the criteria on a single series, by series."""
    found: dict[str, dict[float, list[str]]] = {}
    for finding in _criteria(outcome.findings):
        try:
            condition = parse(finding.subject).condition
        except (CriterionError, RecursionError):
            continue
        name = _series_of(condition.left) or _series_of(condition.right)
        if name and isinstance(finding.bound, int | float) and isfinite(finding.bound):
            status = "" if finding.status == "pass" else f" ({'failed' if finding.status == 'fail' else 'not judged'})"
            levels = found.setdefault(name, {})
            levels.setdefault(float(finding.bound), []).append(f"{finding.subject}{status}")
    return {
        name: [_level(bound, "; ".join(dict.fromkeys(texts))) for bound, texts in levels.items()]
        for name, levels in found.items()
    }


def _criteria(findings: Iterable[Finding]) -> Iterator[Finding]:
    for finding in findings:
        if finding.check == "accept":
            yield finding
        elif finding.check == "stage":
            yield from (Finding.from_dict(one) for one in finding.data.get("criteria", ()))


def _series_of(node: Node) -> str | None:
    """Return the series that one side of a comparison is, or is a function of."""
    if isinstance(node, Call):
        node = node.argument
    return node.name if isinstance(node, MetricRef) else None


def _last(series: Series) -> float:
    return next((value for value in reversed(series.values) if isfinite(value)), 0.0)


def _panel(
    title: str, series: Sequence[Panel], levels: Sequence[Panel], *, wide: bool = False, spans: Sequence[Panel] = ()
) -> Panel:
    more = {"wide": wide, "levels": list(levels), "spans": list(spans)}
    return {"title": title, "series": list(series), **{key: value for key, value in more.items() if value}}


def _series(name: str, series: Series, kind: str = "line", *, schedule: bool = False) -> Panel:
    drawn = encoded(series, schedule=schedule)
    return {"name": plain_name(name), **({} if kind == "line" else {"kind": kind}), **drawn}


def _mark(step: int, text: str, kind: str) -> Panel:
    return {"x": step, "text": plain_name(text), "kind": kind}


def _level(value: float, text: str) -> Panel:
    return {"y": rounded(float(value)), "text": plain_name(text)}
