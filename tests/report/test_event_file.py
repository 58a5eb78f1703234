"""TensorBoard event files, read back by TensorBoard's own reader."""

from __future__ import annotations

import math
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.outcome import Facts, Finding, GradientFacts, Outcome, StageFacts
from pytest_smoke.report.event_file import escaped, event_file, findings_text, hyperparameters, points_of

pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util

TRACE = "step,stage,phase,loss,lr,grad_norm,probe_loss,loss/ce,resumed\n"


def outcome(**changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "id": "a.smoke.yaml::constant",
        "recipe": "a.smoke.yaml",
        "mode": "constant",
        "cell": None,
        "verdict": "unstable",
        "reason": "rise",
        "step": 1,
        "text": "loss rose",
        "decided_by": "loss-trend",
        "findings": (Finding(id="loss-trend", status="fail", reason="rise", text="loss rose", hint="reduce it"),),
        "facts": Facts(started_at="2026-01-02T03:04:05+00:00", seconds=10.0),
    }
    return Outcome(**(values | changes))


def read(folder: Path, *contents: bytes) -> EventAccumulator:
    for number, content in enumerate(contents):
        (folder / f"events.out.tfevents.{number}").write_bytes(content)
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def scalars(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def text(events: EventAccumulator, tag: str) -> list[tuple[int, str]]:
    return [(event.step, tensor_util.make_ndarray(event.tensor_proto).item().decode()) for event in events.Tensors(tag)]


def test_series_of_the_trace_metrics_and_the_gradient_probe_are_scalars(tmp_path: Path) -> None:
    facts = Facts(
        started_at="2026-01-02T03:04:05+00:00",
        seconds=10.0,
        gradient_norms=GradientFacts(step=1, raw={"ce": 2.0}, weighted={"ce": 4.0}, cosines={"ce/kl": -0.5}),
        stages=(
            StageFacts(name="A", first_step=0, steps=1, planned_steps=1, evidence_steps=1, full_steps=9),
            StageFacts(name="B", first_step=1, steps=1, planned_steps=1, evidence_steps=1, full_steps=9),
            StageFacts(name="C", first_step=2, steps=0, planned_steps=1, evidence_steps=0, full_steps=9),
        ),
    )
    trace = TRACE + "0,A,,4.0,0.5,,3.0,4.0,0\n1,B,warm,nan,0.25,8.0,,,1\n"
    made = event_file(outcome(facts=facts, metrics={"f1": [[1, 0.5]]}), trace, written_at=0.0)
    events = read(tmp_path, made)
    assert sorted(events.Tags()["scalars"]) == [
        "grad_norm",
        "gradient_probe/cosine/ce/kl",
        "gradient_probe/raw/ce",
        "gradient_probe/weighted/ce",
        "loss",
        "loss/ce",
        "lr",
        "metrics/f1",
        "probe_loss",
    ]
    assert scalars(events, "lr") == [(0, 0.5), (1, 0.25)]
    assert scalars(events, "grad_norm") == [(1, 8.0)]
    assert scalars(events, "loss/ce") == [(0, 4.0)]
    assert scalars(events, "metrics/f1") == [(1, 0.5)]
    assert scalars(events, "gradient_probe/cosine/ce/kl") == [(1, -0.5)]
    assert math.isnan(scalars(events, "loss")[1][1])
    assert text(events, "stage") == [(0, "stage A starts"), (1, "stage B starts")]
    started = 1767323045.0
    assert [event.wall_time for event in events.Scalars("lr")] == [started, started + 5]


def test_verdict_and_findings_are_texts_and_settings_are_hyperparameters(tmp_path: Path) -> None:
    facts = Facts(settings={"learning_rate": 0.5, "precision": "bf16"}, args={"size": {"hidden": 8}}, seed=3)
    events = read(tmp_path, event_file(outcome(facts=facts), TRACE + "7,,,1.0,0.5,,,,0\n", written_at=5.0))
    assert text(events, "verdict") == [(1, "unstable (rise): loss rose\n\nHint: reduce it")]
    [(step, table)] = text(events, "findings")
    assert step == 7
    assert table.splitlines()[2] == "| FAIL | loss-trend | rise | loss rose |"
    assert table.endswith("0 of 1 checks passed")
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    hparams = metadata.parse_session_start_info_plugin_data(content).hparams
    assert hparams["learning_rate"].number_value == 0.5
    assert hparams["precision"].string_value == "bf16"
    assert hparams["args.size.hidden"].number_value == 8
    assert hparams["seed"].number_value == 3


def test_without_a_trace_the_curve_of_the_outcome_is_shown(tmp_path: Path) -> None:
    curve = {"step": [0, 10], "loss": [2.0, 1.0]}
    events = read(tmp_path, event_file(outcome(curve=curve), None, written_at=0.0))
    assert scalars(events, "loss") == [(0, 2.0), (10, 1.0)]


def test_a_run_that_did_not_train_has_texts_only(tmp_path: Path) -> None:
    events = read(tmp_path, event_file(outcome(step=None, facts=Facts()), None, written_at=7.0))
    assert events.Tags()["scalars"] == []
    assert [event.wall_time for event in events.Tensors("verdict")] == [7.0]


def test_a_reader_that_is_open_drops_the_points_of_an_earlier_run(tmp_path: Path) -> None:
    old = event_file(outcome(), TRACE + "".join(f"{step},,,9.0,0.5,,,,0\n" for step in range(9)), written_at=0.0)
    new = event_file(outcome(), TRACE + "0,,,1.0,0.5,,,,0\n", written_at=0.0)
    assert scalars(read(tmp_path, old, new), "loss") == [(0, 1.0)]


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
NUMBERS = st.floats(allow_nan=False, width=32)


@given(st.dictionaries(NAMES, st.lists(st.tuples(st.integers(0, 2**40), NUMBERS), min_size=1, max_size=3), max_size=3))
def test_any_name_and_any_number_of_a_metric_is_read_back(metrics: dict[str, list[tuple[int, float]]]) -> None:
    points = points_of(outcome(metrics=metrics), None)
    assert {(step, tag, value) for step, found in points.items() for tag, value in found.scalars.items()} == {
        (step, f"metrics/{name}", value) for name, series in metrics.items() for step, value in dict(series).items()
    }
    assert event_file(outcome(metrics=metrics), None, written_at=0.0)


def test_numbers_beyond_single_precision_are_infinite(tmp_path: Path) -> None:
    events = read(tmp_path, event_file(outcome(metrics={"a": [[0, 1e300], [1, -math.inf]]}), None, written_at=0.0))
    assert scalars(events, "metrics/a") == [(0, math.inf), (1, -math.inf)]


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated")  # TensorBoard's own use of bleach
@pytest.mark.parametrize(
    "given_text",
    ["<script>alert(1)</script>", "a | b\n| c |", "[x](javascript:y)", "![x](http://y)", "# x", "* x", "`x`", "~~x~~"],
)
def test_untrusted_text_stays_text_in_tensorboards_html(given_text: str) -> None:
    from tensorboard.plugin_util import markdown_to_safe_html

    html = markdown_to_safe_html(findings_text([Finding(id="x", status="fail", text=given_text)]))
    assert html.count("<tr>") == 2
    for tag in ("<script", "<a ", "<img", "<h1", "<li", "<code", "<del", "<em"):
        assert tag not in html
    assert " ".join(given_text.split()) in markdown_text(html)


def markdown_text(html: str) -> str:
    """Return the text that a browser shows."""
    return unescape(re.sub(r"<[^>]+>", "", html))


@given(st.text())
def test_an_escaped_text_is_one_line(given_text: str) -> None:
    assert len(escaped(given_text).splitlines()) <= 1


@given(st.dictionaries(NAMES, st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())))
def test_every_setting_is_a_hyperparameter_that_tensorboard_can_show(settings: dict[str, Any]) -> None:
    found = hyperparameters(outcome(facts=Facts(settings=settings)))
    for name, value in settings.items():
        if value is not None and name not in ("mode", "cell", "seed", "device", "args"):
            assert found[name] == (str(value) if isinstance(value, list) else value)
