"""The `pipeline[...]` checks: what follows the training must work too, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from pytest_smoke.outcome import Finding

UPSTREAM = "upstream"
"""Reason of a check that was not made because another one failed; the other one decides."""
PREFIX = "pipeline["
BRANCH_HINT = "an exported graph has one way through: let torch.where or torch.cond choose by values, not Python's if"

Figures = Mapping[str, Any]


class StageSeen(Protocol):
    """What was seen of one stage."""

    @property
    def name(self) -> str:
        """`evaluate`, `export`, ..."""

    @property
    def ok(self) -> bool:
        """Whether it ran to its end and later ones may build on it."""

    @property
    def seconds(self) -> float:
        """Wall time."""

    @property
    def figures(self) -> Figures:
        """What it measured; a stage's own keys."""

    @property
    def reason(self) -> str:
        """Where it broke: one word ..."""

    @property
    def text(self) -> str:
        """... a sentence ..."""

    @property
    def place(self) -> str:
        """... the user's `file:line`, if any ..."""

    @property
    def traceback(self) -> str:
        """... and the traceback, if any."""


def pipeline(
    wanted: Sequence[str],
    seen: Sequence[StageSeen],
    *,
    max_drop: Mapping[str, float],
    max_rise: Mapping[str, float],
    cut: str,
) -> list[Finding]:
    """A finding for each wanted stage, in order.

    A stage that was not run after one that broke is `not-checked` with reason `upstream`. Where none broke it was
    the run that ended, and `cut` is the sentence that says where.
    """
    stages = {stage.name: stage for stage in seen}
    broken = next((stage.name for stage in seen if not stage.ok), None)
    found = []
    for name in wanted:
        stage = stages.get(name)
        if stage is not None:
            found.append(_judged(stage, max_drop, max_rise))
        elif broken is not None:
            text = f"not run: it builds on {broken}, which failed"
            found.append(Finding(id=_id(name), status="not-checked", reason=UPSTREAM, text=text))
        else:
            found.append(Finding(id=_id(name), status="not-checked", reason="cut", text=cut))
    return found


def _judged(stage: StageSeen, max_drop: Mapping[str, float], max_rise: Mapping[str, float]) -> Finding:
    data = {"seconds": stage.seconds, **stage.figures}
    if not stage.ok:
        data |= {"place": stage.place, "traceback": stage.traceback} if stage.place else {}
        at = f" at {stage.place}" if stage.place else ""
        text = f"{stage.name} failed: {stage.text}{at}"
        hint = BRANCH_HINT if "GuardOnDataDependent" in stage.text else ""
        return Finding(id=_id(stage.name), status="fail", reason=stage.reason, text=text, hint=hint, data=data)
    if stage.name == "quantize" and (wrong := list(_costs_too_much(stage.figures, max_drop, max_rise))):
        reasons, sentences = zip(*wrong, strict=True)
        return Finding(id=_id(stage.name), status="fail", reason=reasons[0], text="; ".join(sentences), data=data)
    return Finding(id=_id(stage.name), status="pass", text=_SENTENCES[stage.name](stage.figures), data=data)


def _costs_too_much(
    figures: Figures, max_drop: Mapping[str, float], max_rise: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
    """(reason, sentence) of every bound that does not hold; a metric that is missing holds none."""
    before, after = figures["float_metrics"], figures["metrics"]
    for bounds, sign, verb in ((max_drop, -1.0, "dropped"), (max_rise, 1.0, "rose")):
        for name, bound in bounds.items():
            if name not in before or name not in after:
                known = ", ".join(sorted(before)) or "none"
                yield "missing-metric", f"no metric {name!r} to bound the cost of int8 with; evaluate has {known}"
            elif not sign * (after[name] - before[name]) <= bound:
                change = abs(after[name] - before[name])
                yield (
                    "cost",
                    f"{name} {verb} from {before[name]:.4g} to {after[name]:.4g} with int8 weights: {change:.3g}, "
                    f"at most {bound:g}",
                )


def _evaluated(figures: Figures) -> str:
    return _metrics(figures["metrics"])


def _exported(figures: Figures) -> str:
    apart = figures["differences"]
    free = ", ".join(figures["free"]) or "none"
    worst, allowed = max(apart.values()), figures["tolerance"]
    return (
        f"ONNX, {_size(figures['bytes'])}: outputs within {worst:.2g} of the model's (at most {allowed:g}) on "
        f"{_listed(list(apart))}; free dimensions: {free}"
    )


def _quantized(figures: Figures) -> str:
    before, after = figures["float_metrics"], figures["metrics"]
    costs = ", ".join(
        f"{name} {before[name]:.4g} -> {after[name]:.4g} ({after[name] - before[name]:+.2g})"
        for name in before
        if name in after
    )
    share = 100 * figures["bytes"] / figures["float_bytes"]
    return (
        f"int8, {_size(figures['bytes'])} ({share:.0f} % of fp32), {figures['weights']} weights: outputs move by "
        f"{figures['difference']:.2g}, {costs}"
    )


def _packaged(figures: Figures) -> str:
    return f"{len(figures['files'])} files, {_size(figures['bytes'])}: {', '.join(figures['files'])}"


def _loaded(figures: Figures) -> str:
    parts = [part for part in figures["parts"] if part["difference"] is not None]
    worst = max(part["difference"] for part in parts)
    return (
        f"a fresh process loads {_listed([part['part'] for part in parts])}; outputs within {worst:.2g} of the packaged"
    )


_SENTENCES: dict[str, Callable[[Figures], str]] = {
    "evaluate": _evaluated,
    "export": _exported,
    "quantize": _quantized,
    "package": _packaged,
    "load": _loaded,
}


def _id(stage: str) -> str:
    return f"{PREFIX}{stage}]"


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _size(count: float) -> str:
    """`812 bytes`, `43.7 kB`, `1.2 GB`: powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
