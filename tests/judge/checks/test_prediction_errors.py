"""The finding that a tagger's errors become."""

from __future__ import annotations

import json

from pytest_smoke.diagnose import diagnose
from pytest_smoke.judge.checks.prediction_errors import errors, unreadable
from pytest_smoke.judge.verdict import decide
from pytest_smoke.outcome import Finding

ROWS = [
    {"raw": "12 Rue Foch, 76470", "gold": {"postcode": "76470"}, "pred": {"postcode": ", 7647"}},
    {"raw": "12 Rue Foch, 76470", "gold": {"postcode": "76470"}, "pred": {"postcode": "76470"}},
    {"raw": "12 Rue Foch", "gold": {"house": "12"}, "pred": {"house": "21"}},
    {"raw": "12 Rue Foch", "gold": {"house": "12"}, "pred": {}},
    {"raw": "Foch", "gold": {"street": "Foch"}, "pred": {"street": "Foch"}},
]


def test_the_sentence_counts_and_names_the_kinds() -> None:
    """Misses of gold spans, and wrong predictions of those made."""
    found = errors(diagnose(ROWS))
    assert found.status == "pass"
    assert "5 examples: 3 of 5 gold spans missed (60.0 %:" in found.text
    assert "2 of 4 predicted wrongly (50.0 %: bio_slip 25.0 %, num_confused 25.0 %)" in found.text
    assert "empty_pred 20.0 %" in found.text
    assert json.loads(json.dumps(found.data, allow_nan=False))["all"]["fn"]["errors"] == 3


def test_no_error_and_no_span_are_said_plainly() -> None:
    """Nothing is divided by nothing."""
    assert errors(diagnose(ROWS[-1:])).text == ("1 example: none of 1 gold spans missed; none of 1 predicted wrongly")
    assert "none of 0 gold spans missed" in errors(diagnose([{"raw": "x", "gold": {}, "pred": {}}])).text


def test_it_decides_nothing() -> None:
    """A promoted smoke stays promoted, whatever its tagger gets wrong, and even if its rows cannot be read."""
    trend = Finding(id="loss-trend", status="pass", text="fine")
    assert decide([trend, errors(diagnose(ROWS)), unreadable("no 'raw'")]).word == "promote"
