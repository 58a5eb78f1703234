"""The `pipeline` checks and the verdict that they lead to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import PIPELINE_STAGES, ExportStage
from pytest_smoke.judge.checks.pipeline import pipeline
from pytest_smoke.judge.verdict import decide
from pytest_smoke.outcome import Finding

FIGURES: dict[str, dict[str, Any]] = {
    "evaluate": {"metrics": {"val_f1": 0.8}},
    "export": {"tolerance": 1e-4, "bytes": 4500, "free": ["ids[0]"], "differences": {"the example inputs": 2e-7}},
    "quantize": {
        "bytes": 1200,
        "float_bytes": 4800,
        "weights": 2,
        "difference": 0.01,
        "metrics": {"val_f1": 0.79},
        "float_metrics": {"val_f1": 0.8},
    },
    "package": {"bytes": 999, "files": ["a", "b"]},
    "load": {"parts": [{"part": "model.onnx", "ok": True, "text": "", "difference": 1e-7}]},
}
TREND = Finding(id="loss-trend", status="pass", text="no rise")
ENDED_EARLY = "not run: the run did not reach its end"


def export_stage(name: str, *, ok: bool = True, **changes: Any) -> ExportStage:
    figures = {**FIGURES[name], **changes} if ok else {}
    return ExportStage(name, ok, 1.5, figures, *(() if ok else ("exception", f"{name} broke", "task.py:3")))


def findings_of(stages: list[ExportStage], **bounds: dict[str, float]) -> list[Finding]:
    return pipeline(
        PIPELINE_STAGES,
        stages,
        max_drop=bounds.get("drop", {}),
        max_rise=bounds.get("rise", {}),
        ended_early=ENDED_EARLY,
    )


@given(st.lists(st.sampled_from(["ok", "broken", "absent"]), min_size=5, max_size=5))
def test_only_a_whole_pipeline_is_promoted(states: list[str]) -> None:
    """The first step that failed decides; if none failed, a step that was not run is a gap."""
    stages = [
        export_stage(name, ok=state == "ok")
        for name, state in zip(PIPELINE_STAGES, states, strict=True)
        if state != "absent"
    ]
    findings = findings_of(stages)
    assert [finding.id for finding in findings] == [f"pipeline[{name}]" for name in PIPELINE_STAGES]
    verdict = decide([TREND, *findings])
    if "broken" in states:
        first = PIPELINE_STAGES[states.index("broken")]
        assert (verdict.word, verdict.reason, verdict.decided_by) == ("hold", "exception", f"pipeline[{first}]")
        assert verdict.text == f"{first} failed: {first} broke at task.py:3"
    elif "absent" in states:
        assert (verdict.word, verdict.text) == ("inconclusive", ENDED_EARLY)
    else:
        assert verdict.word == "promote"


def test_a_failed_pipeline_is_a_hold_in_a_wiring_run_but_never_replaces_missing_evidence() -> None:
    findings = findings_of([export_stage("evaluate", ok=False)])
    wiring = Finding(id="loss-trend", status="not-checked", reason="wiring", text="no verdict on the loss")
    short = Finding(id="loss-trend", status="not-checked", reason="too-short", text="too short")
    assert decide([wiring, *findings]).word == "hold"
    assert decide([wiring, *findings_of([export_stage(name) for name in PIPELINE_STAGES])]).word == "inconclusive"
    assert decide([short, *findings]).word == "inconclusive"


finite = st.floats(-1e3, 1e3)


@given(finite, finite, st.floats(1e-3, 1e3), st.booleans())
def test_max_drop_bounds_a_drop_and_max_rise_a_rise(before: float, after: float, bound: float, drop: bool) -> None:
    """In the other direction a metric may change by any amount."""
    stage = export_stage("quantize", metrics={"m": after}, float_metrics={"m": before})
    finding = findings_of([stage], **{"drop" if drop else "rise": {"m": bound}})[2]
    assert (finding.status == "fail") == ((before - after if drop else after - before) > bound)
    if finding.status == "fail":
        assert finding.reason == "quantization-cost"
        assert "m dropped from" in finding.text if drop else "m rose from" in finding.text


def test_a_bound_on_a_metric_that_evaluate_lacks_fails() -> None:
    finding = findings_of([export_stage("quantize")], drop={"val_fl": 0.1})[2]
    assert (finding.status, finding.reason) == ("fail", "missing-metric")
    assert finding.text == "smoke.pipeline.max_drop names val_fl, but evaluate() returned val_f1"


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [
        ("evaluate", "val_f1 0.8"),
        (
            "export",
            "ONNX, 4.5 kB: outputs within 2e-07 of the model's (at most 0.0001) on the example inputs; "
            "dynamic dimensions: ids[0]",
        ),
        (
            "quantize",
            "int8, 1.2 kB (25 % of fp32), 2 weights quantized. Outputs change by 0.01; val_f1 0.8 -> 0.79 (-0.01)",
        ),
        ("package", "2 files, 999 bytes: a and b"),
        ("load", "a fresh process loads model.onnx; its outputs are within 1e-07 of the packaged ones"),
    ],
)
def test_a_step_that_passes_gives_its_numbers(stage: str, sentence: str) -> None:
    finding = next(f for f in findings_of([export_stage(stage)]) if f.id == f"pipeline[{stage}]")
    assert (finding.status, finding.text) == ("pass", sentence)


def test_a_failed_step_names_the_line_of_code_and_explains_a_branch_on_data() -> None:
    branch = ExportStage(
        "export",
        False,
        1.5,
        {},
        "exception",
        "GuardOnDataDependentSymNode: could not guard on data-dependent expression",
        "task.py:3",
        "Traceback ...",
    )
    finding = findings_of([branch])[1]
    assert (finding.place, finding.data["traceback"]) == ("task.py:3", "Traceback ...")
    assert finding.hint == (
        "an exported graph has one path: choose by values with torch.where or torch.cond, not with Python's if"
    )
