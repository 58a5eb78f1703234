"""The `prediction-errors` report."""

from __future__ import annotations

import json

from pytest_smoke.diagnose import diagnose
from pytest_smoke.judge.checks.prediction_errors import prediction_errors, unreadable_predictions
from pytest_smoke.judge.verdict import decide
from pytest_smoke.outcome import Finding

ROWS = [
    {"raw": "12 Rue Foch, 76470", "gold": {"postcode": "76470"}, "pred": {"postcode": ", 7647"}},
    {"raw": "12 Rue Foch, 76470", "gold": {"postcode": "76470"}, "pred": {"postcode": "76470"}},
    {"raw": "12 Rue Foch", "gold": {"house": "12"}, "pred": {"house": "21"}},
    {"raw": "12 Rue Foch", "gold": {"house": "12"}, "pred": {}},
    {"raw": "Foch", "gold": {"street": "Foch"}, "pred": {"street": "Foch"}},
]


def test_the_sentence_counts_missed_and_wrong_spans_by_kind() -> None:
    finding = prediction_errors(diagnose(ROWS))
    assert finding.status == "pass"
    assert "5 examples: 3 of 5 gold spans missed (60 %:" in finding.text
    assert "2 of 4 predicted spans wrong (50 %: bio_slip 25 %, num_confused 25 %)" in finding.text
    assert "empty_pred 20 %" in finding.text
    assert json.loads(json.dumps(finding.data, allow_nan=False))["all"]["fn"]["errors"] == 3


def test_no_errors_and_no_spans_are_counted_without_a_division_by_zero() -> None:
    assert prediction_errors(diagnose(ROWS[-1:])).text == (
        "1 example: none of 1 gold spans missed; none of 1 predicted spans wrong"
    )
    empty = prediction_errors(diagnose([{"raw": "x", "gold": {}, "pred": {}}]))
    assert "none of 0 gold spans missed" in empty.text


def test_errors_and_unreadable_predictions_do_not_change_the_verdict() -> None:
    trend = Finding(id="loss-trend", status="pass", text="fine")
    unreadable = unreadable_predictions("predictions(model): row 1 has no 'raw'")
    assert (unreadable.status, unreadable.reason) == ("warn", "unreadable-predictions")
    assert decide([trend, prediction_errors(diagnose(ROWS)), unreadable]).word == "promote"
