"""From what was seen of the stages to findings and a word."""

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


def seen(name: str, *, ok: bool = True, **changes: Any) -> ExportStage:
    figures = {**FIGURES[name], **changes} if ok else {}
    return ExportStage(name, ok, 1.5, figures, *(() if ok else ("exception", f"{name} broke", "task.py:3")))


def judged(stages: list[ExportStage], **bounds: dict[str, float]) -> list[Finding]:
    return pipeline(
        PIPELINE_STAGES, stages, max_drop=bounds.get("drop", {}), max_rise=bounds.get("rise", {}), cut="cut short"
    )


@given(st.lists(st.sampled_from(["ok", "broken", "absent"]), min_size=5, max_size=5))
def test_only_a_whole_pipeline_is_promoted(states: list[str]) -> None:
    """A broken stage decides with its own sentence; where none broke, what is missing is a gap."""
    stages = [
        seen(name, ok=state == "ok") for name, state in zip(PIPELINE_STAGES, states, strict=True) if state != "absent"
    ]
    findings = judged(stages)
    assert [finding.id for finding in findings] == [f"pipeline[{name}]" for name in PIPELINE_STAGES]
    verdict = decide([TREND, *findings])
    if "broken" in states:
        first = PIPELINE_STAGES[states.index("broken")]
        assert (verdict.word, verdict.reason) == ("hold", "exception")
        assert verdict.text == f"{first} failed: {first} broke at task.py:3"
    elif "absent" in states:
        assert (verdict.word, verdict.text) == ("inconclusive", "cut short")
    else:
        assert verdict.word == "promote"


def test_a_broken_pipeline_is_held_in_a_wiring_run_too() -> None:
    """But it does not make up for evidence that is missing."""
    findings = judged([seen("evaluate", ok=False)])
    wiring = Finding(id="loss-trend", status="not-checked", reason="wiring", text="never a verdict")
    short = Finding(id="loss-trend", status="not-checked", reason="too-short", text="too short")
    assert decide([wiring, *findings]).word == "hold"
    assert decide([wiring, *judged([seen(name) for name in PIPELINE_STAGES])]).word == "inconclusive"
    assert decide([short, *findings]).word == "inconclusive"


finite = st.floats(-1e3, 1e3)


@given(finite, finite, st.floats(1e-3, 1e3), st.booleans())
def test_a_metric_may_move_by_its_bound_and_only_one_way(before: float, after: float, bound: float, drop: bool) -> None:
    """A drop is bounded by max_drop, a rise by max_rise; the other way it may move as it likes."""
    stage = seen("quantize", metrics={"m": after}, float_metrics={"m": before})
    finding = judged([stage], **{"drop" if drop else "rise": {"m": bound}})[2]
    assert (finding.status == "fail") == ((before - after if drop else after - before) > bound)
    if finding.status == "fail":
        assert finding.reason == "cost"
        assert "m dropped from" in finding.text if drop else "m rose from" in finding.text


def test_a_bound_on_a_metric_that_is_not_there_does_not_hold() -> None:
    """A misspelt name must not pass."""
    finding = judged([seen("quantize")], drop={"val_fl": 0.1})[2]
    assert (finding.status, finding.reason) == ("fail", "missing-metric")
    assert finding.text == "no metric 'val_fl' to bound the cost of int8 with; evaluate has val_f1"


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [
        ("evaluate", "val_f1 0.8"),
        (
            "export",
            "ONNX, 4.5 kB: outputs within 2e-07 of the model's (at most 0.0001) on the example inputs; "
            "free dimensions: ids[0]",
        ),
        ("quantize", "int8, 1.2 kB (25 % of fp32), 2 weights: outputs move by 0.01, val_f1 0.8 -> 0.79 (-0.01)"),
        ("package", "2 files, 999 bytes: a, b"),
        ("load", "a fresh process loads model.onnx; outputs within 1e-07 of the packaged"),
    ],
)
def test_a_stage_that_held_gives_its_numbers(stage: str, sentence: str) -> None:
    """In the words a person reads."""
    finding = next(f for f in judged([seen(stage)]) if f.id == f"pipeline[{stage}]")
    assert (finding.status, finding.text) == ("pass", sentence)
