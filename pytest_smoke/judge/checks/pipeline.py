"""The `pipeline` checks: what follows training (evaluate, export, quantize, package, load) works, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytest_smoke.events import PIPELINE_STAGES, ExportProgress, ExportStage
from pytest_smoke.judge.checks.check import ENDED_EARLY, Check, Reason, RunView
from pytest_smoke.outcome import Finding
from pytest_smoke.text import count, file_size, listed, number, percent, signed

EARLIER_STEP_FAILED = "earlier-step-failed"
"""Reason of a step that was not run because one that it needs failed; that one decides."""
BRANCH_HINT = "an exported graph has one path: choose by values with torch.where or torch.cond, not with Python's if"

Figures = Mapping[str, Any]


def export_pipeline(run: RunView) -> Iterator[Finding]:
    """Judge every step of the pipeline that the recipe asks for."""
    asked = run.case.pipeline
    if asked is None:
        return
    wanted = [name for name in PIPELINE_STAGES if asked.quantize or name != "quantize"]
    progress = run.events(ExportProgress)
    where = f" (during {progress[-1].stage}: {progress[-1].doing})" if progress else ""
    yield from pipeline(
        wanted,
        run.events(ExportStage),
        max_drop=asked.max_drop,
        max_rise=asked.max_rise,
        ended_early=f"not run: the run did not reach its end{where}",
    )


def pipeline(
    wanted: Sequence[str],
    stages: Sequence[ExportStage],
    *,
    max_drop: Mapping[str, float],
    max_rise: Mapping[str, float],
    ended_early: str,
) -> list[Finding]:
    """Return one finding per wanted step, in order.

    A step that was not run after one that failed is `not-checked`. If none failed, the run itself ended, and
    `ended_early` is the sentence that says where.
    """
    by_name = {stage.name: stage for stage in stages}
    failed = next((stage.name for stage in stages if not stage.ok), None)
    findings = []
    for name in wanted:
        stage = by_name.get(name)
        if stage is not None:
            findings.append(_judged(stage, max_drop, max_rise))
        elif failed is not None:
            text = f"not run: it needs {failed}, which failed"
            findings.append(Finding(id=_id(name), status="not-checked", reason=EARLIER_STEP_FAILED, text=text))
        else:
            findings.append(Finding(id=_id(name), status="not-checked", reason=ENDED_EARLY, text=ended_early))
    return findings


def _judged(stage: ExportStage, max_drop: Mapping[str, float], max_rise: Mapping[str, float]) -> Finding:
    data = {"seconds": stage.seconds, **stage.figures}
    if not stage.ok:
        data |= {"traceback": stage.traceback} if stage.place else {}
        at = f" at {stage.place}" if stage.place else ""
        return Finding(
            id=_id(stage.name),
            status="fail",
            reason=stage.reason,
            text=f"{stage.name} failed: {stage.text}{at}",
            hint=BRANCH_HINT if "GuardOnDataDependent" in stage.text else "",
            place=stage.place,
            data=data,
        )
    if stage.name == "quantize" and (wrong := list(_costs_too_much(stage.figures, max_drop, max_rise))):
        reasons, sentences = zip(*wrong, strict=True)
        return Finding(id=_id(stage.name), status="fail", reason=reasons[0], text="; ".join(sentences), data=data)
    return Finding(id=_id(stage.name), status="pass", text=_SENTENCES[stage.name](stage.figures), data=data)


def _costs_too_much(
    figures: Figures, max_drop: Mapping[str, float], max_rise: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
    """Yield reason and sentence of every bound that does not hold; a metric that is missing meets no bound."""
    before, after = figures["float_metrics"], figures["metrics"]
    for bounds, sign, verb, key in ((max_drop, -1.0, "dropped", "max_drop"), (max_rise, 1.0, "rose", "max_rise")):
        for name, bound in bounds.items():
            if name not in before or name not in after:
                known = listed(sorted(before), limit=20)
                yield "missing-metric", f"smoke.pipeline.{key} names {name}, but evaluate() returned {known}"
            elif not sign * (after[name] - before[name]) <= bound:
                change = abs(after[name] - before[name])
                yield (
                    "quantization-cost",
                    f"{name} {verb} from {number(before[name])} to {number(after[name])} with int8 weights: by "
                    f"{number(change, 3)}, and smoke.pipeline.{key} allows {bound:g}",
                )


def _evaluated(figures: Figures) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in figures["metrics"].items())


def _exported(figures: Figures) -> str:
    differences = figures["differences"]
    free = ", ".join(figures["free"]) or "none"
    return (
        f"ONNX, {file_size(figures['bytes'])}: outputs within {number(max(differences.values()), 2)} of the model's "
        f"(at most {figures['tolerance']:g}) on {listed(differences)}; dynamic dimensions: {free}"
    )


def _quantized(figures: Figures) -> str:
    before, after = figures["float_metrics"], figures["metrics"]
    costs = ", ".join(
        f"{name} {number(before[name])} -> {number(after[name])} ({signed(after[name] - before[name], 2)})"
        for name in before
        if name in after
    )
    return (
        f"int8, {file_size(figures['bytes'])} ({percent(figures['bytes'] / figures['float_bytes'])} of fp32), "
        f"{count(figures['weights'], 'weight')} quantized. Outputs change by {number(figures['difference'], 2)}; "
        f"{costs}"
    )


def _packaged(figures: Figures) -> str:
    files = figures["files"]
    return f"{count(len(files), 'file')}, {file_size(figures['bytes'])}: {listed(files, limit=20)}"


def _loaded(figures: Figures) -> str:
    parts = [part for part in figures["parts"] if part["difference"] is not None]
    worst = max(part["difference"] for part in parts)
    names = listed(part["part"] for part in parts)
    return f"a fresh process loads {names}; its outputs are within {number(worst, 2)} of the packaged ones"


_SENTENCES: dict[str, Callable[[Figures], str]] = {
    "evaluate": _evaluated,
    "export": _exported,
    "quantize": _quantized,
    "package": _packaged,
    "load": _loaded,
}


def _id(stage: str) -> str:
    return f"{CHECK.id}[{stage}]"


CHECK = Check(
    id="pipeline",
    needed=lambda case: case.pipeline is not None,
    question="Can the trained model be evaluated, exported, quantized, packaged and loaded (`smoke.pipeline`)?",
    when="after training",
    verdict="hold",
    key="smoke.pipeline",
    reasons=(
        Reason(id="exception", status="fail", when="a step raised an exception"),
        Reason(id="out-of-memory", status="fail", when="memory ran out"),
        Reason(id="invalid-task", status="fail", when="the task lacks what the step needs, or has it in another form"),
        Reason(id="non-finite", status="fail", when="a metric is NaN or infinite"),
        Reason(id="outputs-differ", status="fail", when="outputs differ from the model's by more than the tolerance"),
        Reason(id="nondeterministic", status="fail", when="the model gives other outputs for the same inputs"),
        Reason(id="unsupported-output", status="fail", when="the model returns something other than tensors"),
        Reason(id="input-count", status="fail", when="the exported file takes another number of inputs"),
        Reason(id="nothing-quantized", status="fail", when="the model has no weight that can be quantized"),
        Reason(id="quantization-cost", status="fail", when="a metric loses more than `max_drop` or `max_rise` allow"),
        Reason(id="missing-metric", status="fail", when="`max_drop` or `max_rise` name a metric that `evaluate` lacks"),
        Reason(id="crash", status="fail", when="the fresh process that loads the package died"),
        Reason(id=EARLIER_STEP_FAILED, status="not-checked", when="a step that it needs failed", yields_to=("*",)),
        Reason(id=ENDED_EARLY, status="not-checked", when="the run did not reach its end"),
    ),
    at_end=export_pipeline,
)
