"""A trace is read as it was written, or refused with a sentence."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import ProbeLoss, Step
from pytest_smoke.monitor.trace import Trace as Recorded
from pytest_smoke.outcome import Facts
from pytest_smoke.page.trace import TraceError, parse, read_trace

NUMBERS = st.floats(allow_nan=False)


def a_step(step: int, *, stage: str = "", phase: str = "", **terms: float) -> Step:
    loss = sum(terms.values())
    return Step(step=step, loss=loss, terms=terms, lr=0.1 * step, grad_norm=math.nan, stage=stage, phase=phase)


def test_what_a_run_recorded_is_read_back() -> None:
    recorded = Recorded()
    recorded.add(a_step(0, stage="A", phase="text", ce=1.5))
    recorded.add(a_step(1, stage="A", phase='the "other", one', ce=math.inf))
    recorded.add(a_step(2, stage="B", ce=0.5, kl=0.25))
    recorded.add(ProbeLoss(step=1, loss=2.5))
    recorded.resumed_at.add(2)
    trace = parse(recorded.to_csv())
    assert trace.loss == ([0, 1, 2], [1.5, math.inf, 0.75])
    assert trace.lr == ([0, 1, 2], [0.0, 0.1, 0.2])
    assert trace.probe_loss == ([1], [2.5])
    assert trace.terms == {"ce": ([0, 1, 2], [1.5, math.inf, 0.5]), "kl": ([2], [0.25])}
    assert trace.phases == (("stage A, text", 0), ('stage A, the "other", one', 1), ("stage B", 2))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "step,loss\n",
        "loss,step\n1,2\n",
        "step,loss\n0\n",
        "step,loss\n0,1,2\n",
        "step,loss\n1,2\n1,2\n",
        "step,loss\n-1,2\n",
        "step,loss\n0,x\n",
        "step,loss\nx,1\n",
        "step,loss\n0,1\n\n2,3\n",
        f"step,loss\n{2**53},1\n",
    ],
)
def test_what_is_no_trace_is_refused(text: str) -> None:
    with pytest.raises((ValueError, csv.Error)):
        parse(text)


@given(st.text() | st.text('0123456789,.\n-e"\r\0').map(lambda text: f"step,loss,lr\n{text}"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        trace = parse(text)
    except (ValueError, csv.Error):
        return
    assert list(trace.loss.steps) == sorted(set(trace.loss.steps))


def test_a_run_without_a_trace_has_none(tmp_path: Path) -> None:
    assert read_trace(tmp_path, Facts()) is None


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "loop"])
def test_a_name_that_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(TraceError, match="means of blocks"):
        read_trace(tmp_path, Facts(trace=name, trace_sha256="0"))
