"""`history FOLDER`: a table for the terminal, the notes, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_smoke.__main__ import main
from tests.history.sessions import outcome, write

HOSTILE = "a\x1b[31m\u202e<script>alert(1)</script>"


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """Return a folder with twelve sessions: `lm` drifts, `tagger` does not."""
    for at in range(12):
        runs = [outcome(at, accuracy=0.75 - 0.01 * at), outcome(at, name="tagger", accuracy=0.8 + 0.01 * (at % 3))]
        write(tmp_path / f"{at:03}", runs)
    return tmp_path


def test_a_drift_is_exit_status_1_and_a_sentence(sessions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", str(sessions)]) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines() == [
        "smoke run         runs  newest verdict  loss  time  margin  nearest limit",
        "lm::constant      12    promote         1.11  23 s  6.7 %   val_acc > 0.6",
        "tagger::constant  12    promote         1.11  23 s  37 %    val_acc > 0.6",
        "",
        "drift: lm::constant: val_acc > 0.6: the margin fell from about 25 % to 6.7 % in",
        "  12 sessions (less than 1 in a million by chance). At this rate it reaches the",
        "  limit in about 4 sessions",
    ]


def test_without_a_drift_the_exit_status_is_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for at in range(12):
        write(tmp_path / f"{at:03}", [outcome(at, accuracy=0.7 + 0.01 * (at % 3))])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "verdicts.json").write_text("{")
    assert main(["history", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "1 smoke run in 12 sessions: no margin drifts towards its limit"
    assert printed.err.startswith(f"note: {tmp_path}/bad/verdicts.json is left out: 1:2: not valid JSON")


def test_a_folder_without_sessions_is_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", str(tmp_path / "missing")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "missing: no such folder" in printed.err


def test_too_few_sessions_are_not_called_free_of_drift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for at in range(5):
        write(tmp_path / f"{at}", [outcome(at, accuracy=0.9 - 0.05 * at)])
    assert main(["history", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "1 smoke run in 5 sessions: too few to tell a drift from chance. That takes 6",
        "  comparable runs with different margins",
    ]


def test_json_has_points_series_and_drifts(sessions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", str(sessions), "--format", "json"]) == 1
    tree = json.loads(capsys.readouterr().out)
    assert (tree["schema"], tree["sessions"], len(tree["smoke_runs"]), len(tree["drifting"])) == (1, 12, 2, 1)


def test_hostile_names_reach_no_terminal_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"git_commit": HOSTILE}
    write(tmp_path / HOSTILE.replace("/", ""), [outcome(0, name=HOSTILE.replace("/", ""), facts=facts)])
    assert main(["history", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\u202e" not in printed
