"""Sessions in a folder become series of comparable runs; nothing is lost silently."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.errors import ReportError
from pytest_smoke.history.trend import Trend, history
from pytest_smoke.outcome import Facts, Outcome
from pytest_smoke.page.history import history_page
from pytest_smoke.report.history import history_text
from tests.history.sessions import START, edit, outcome, write
from tests.page.test_html import Parsed


def trend(folder: Path) -> Trend:
    (only,) = history([folder]).trends
    return only


def test_runs_are_ordered_by_their_start_whatever_their_folders_are_called(tmp_path: Path) -> None:
    for at, name in enumerate(["z", "a/deep/er", "m", "b"]):
        write(tmp_path / name, [outcome(at)])
    found = trend(tmp_path)
    assert [point.session for point in found.points] == ["z", "a/deep/er", "m", "b"]
    assert [point.commit[-1] for point in found.points] == ["0", "1", "2", "3"]
    assert [point.loss for point in found.points] == [1.0, 1.01, 1.02, 1.03]
    assert set(found.series_of) == {0}


def test_times_of_other_zones_and_without_one_are_compared_in_utc(tmp_path: Path) -> None:
    edit(write(tmp_path / "a", [outcome(0)]), started_at="2026-01-05T03:00:00+05:00")
    edit(write(tmp_path / "b", [outcome(1)]), started_at="2026-01-05T01:00:00")
    edit(write(tmp_path / "c", [outcome(2)]), started_at="2026-01-04T23:00:00Z")
    assert [point.session for point in trend(tmp_path).points] == ["a", "c", "b"]


@pytest.mark.parametrize(
    ("facts", "changes"),
    [
        ({"settings": {"learning_rate": 1e-3, "batch_size": 64}}, ("learning_rate 0.003 -> 0.001",)),
        ({"device": "cuda:0", "device_name": "NVIDIA H100"}, ("device cpu x86_64 -> cuda NVIDIA H100",)),
        ({"precision": "bf16"}, ("precision fp32 -> bf16",)),
        ({"torch": "2.14.0"}, ("torch 2.13.0 -> 2.14.0",)),
        ({"seed": 7}, ("seed none -> 7",)),
        ({"args": {"layers": [2, 3]}}, ("args.layers none -> [2 and 3]",)),
        ({"planned_steps": 900}, ("planned_steps 600 -> 900",)),
    ],
)
def test_what_cannot_be_compared_is_a_new_series_that_says_what_changed(
    tmp_path: Path, facts: dict[str, Any], changes: tuple[str, ...]
) -> None:
    for at in range(4):
        write(tmp_path / str(at), [outcome(at, facts=facts if at >= 2 else None)])
    found = trend(tmp_path)
    assert found.series_of == [0, 0, 1, 1]
    assert [(one.first, one.changes) for one in found.series] == [(0, ()), (2, changes)]


def test_two_devices_in_turn_are_two_series_and_the_second_gpu_of_a_machine_is_none(tmp_path: Path) -> None:
    for at in range(6):
        facts = {"device": f"cuda:{at % 2}", "device_name": "A100" if at % 3 else "H100"}
        write(tmp_path / str(at), [outcome(at, facts=facts)])
    assert trend(tmp_path).series_of == [0, 1, 1, 0, 1, 1]


def test_a_run_that_never_started_is_shown_and_compared_with_nothing(tmp_path: Path) -> None:
    write(tmp_path / "0", [outcome(0)])
    broken = outcome(1)
    tree = {
        **broken.to_dict(),
        "verdict": "invalid",
        "reason": "too-short",
        "facts": {"started_at": "2026-01-06T03:00"},
    }
    write(tmp_path / "1", [Outcome.from_dict(tree)])
    write(tmp_path / "2", [outcome(2)])
    found = trend(tmp_path)
    assert [point.verdict for point in found.points] == ["promote", "invalid", "promote"]
    assert found.series_of == [0, None, 0]


def falling(folder: Path, *, drop: Callable[[int], float], sessions: int = 12, name: str = "lm") -> None:
    for at in range(sessions):
        write(folder / f"{name}-{at}", [outcome(at, name=name, accuracy=0.6 + drop(at))])


def test_a_margin_that_drifts_is_named_with_what_is_left(tmp_path: Path) -> None:
    falling(tmp_path, drop=lambda at: 0.15 - 0.01 * at)
    falling(tmp_path, drop=lambda at: 0.15 + 0.01 * (at % 3), name="steady")
    found = history([tmp_path])
    assert [one.id for one in found.trends] == [f"recipes/{name}.smoke.yaml::constant" for name in ("lm", "steady")]
    (drifting,) = found.drifting
    assert drifting.margin == "val_acc > 0.6"
    assert (drifting.observed, drifting.bound) == (pytest.approx(0.64), 0.6)
    assert drifting.text == (
        "val_acc > 0.6: the margin fell from about 25 % to 6.7 % in 12 sessions (less than 1 in a million by chance). "
        "At this rate it reaches the limit in about 4 sessions"
    )


def test_one_commit_that_explains_most_of_a_drift_is_named(tmp_path: Path) -> None:
    falling(tmp_path, drop=lambda at: 0.3 - 0.002 * at - (0.2 if at > 5 else 0.0))
    (drifting,) = history([tmp_path]).drifting
    assert drifting.text.endswith(f"Most of it came with {6:09x}".replace(f"{6:09x}", f"{6:040x}"[:9]))


def test_a_drift_is_not_looked_for_across_series_nor_in_a_series_that_ended(tmp_path: Path) -> None:
    for at in range(24):
        old = {"torch": "2.12.0"} if at < 12 else None
        accuracy = 0.75 - 0.01 * at if at < 12 else 0.7 + 0.01 * (at % 2)
        write(tmp_path / str(at), [outcome(at, accuracy=accuracy, facts=old)])
    assert history([tmp_path]).drifting == []


def test_two_machines_in_turn_are_both_tested(tmp_path: Path) -> None:
    for at in range(24):
        facts = {"device_name": "new" if at % 2 else "old"}
        write(tmp_path / str(at), [outcome(at, accuracy=0.9 if at % 2 else 0.75 - 0.005 * at, facts=facts)])
    (drifting,) = history([tmp_path]).drifting
    assert drifting.drift.sessions == 12


def test_a_session_that_was_copied_counts_once_with_a_note(tmp_path: Path) -> None:
    for at in range(3):
        write(tmp_path / str(at), [outcome(at), outcome(at, name="b")])
    shutil.copytree(tmp_path / "1", tmp_path / "again")
    write(tmp_path / "part", [outcome(0), outcome(7, name="b")])  # copied while it ran, or merged
    found = history([tmp_path])
    assert [len(one.points) for one in found.trends] == [4, 3]
    assert sorted(found.notes) == [
        f"{tmp_path}/again/verdicts.json: all 2 outcomes are also in {tmp_path}/1/verdicts.json, and counted once",
        f"{tmp_path}/part/verdicts.json: 1 outcome is also in {tmp_path}/0/verdicts.json, and counted once",
    ]


def test_a_folder_is_read_once_however_many_links_lead_to_it(tmp_path: Path) -> None:
    write(tmp_path / "a", [outcome(0)])
    (tmp_path / "latest").symlink_to("a")
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    found = history([tmp_path])
    assert (found.sessions, found.notes) == (1, ())


BROKEN = {
    "{": "is left out: 1:2: not valid JSON",
    "": "is left out: 1:1: not valid JSON",
    "\x00\xff": "is left out: not valid JSON",
    "[1, 2]": "is left out: it is not a report of smoke runs: it has no list of outcomes",
    '{"verdicts": []}': "is left out: it is not a report of smoke runs",
    '{"schema": 0, "outcomes": []}': "is left out: it has schema 0, and this version reads 1",
    '{"schema": 1, "outcomes": [3, {"id": "a"}]}': "left out outcome 1 (no id) and outcome 2 (verdict None)",
    '{"schema": 1, "outcomes": [{"id": "a", "verdict": "promote"}]}': "left out outcome 1 (no facts)",
    '{"schema": 1, "outcomes": [{"id": "a", "verdict": "promote", "facts": {}}]}': "outcome 1 (no start time)",
    "[" * 100_000: "is left out: not valid JSON (nested too deeply)",
}


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_what_cannot_be_read_is_one_note_and_the_rest_is_shown(tmp_path: Path, text: str) -> None:
    write(tmp_path / "good", [outcome(0)])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "verdicts.json").write_text(text, encoding="latin-1")
    found = history([tmp_path])
    assert len(found.trends) == 1
    (note,) = found.notes
    assert note.startswith(f"{tmp_path}/bad/verdicts.json")
    assert BROKEN[text] in note


def test_an_outcome_without_a_start_has_that_of_its_session(tmp_path: Path) -> None:
    """Such as one of a worker that crashed."""
    crashed = Outcome.from_dict({**outcome(0, name="b").to_dict(), "verdict": "error", "facts": Facts().to_dict()})
    write(tmp_path / "0", [outcome(3), crashed])
    points = {one.id: one.points[0] for one in history([tmp_path]).trends}
    assert {point.started for point in points.values()} == {START + timedelta(days=3)}


def test_smoke_runs_that_were_not_to_be_trained_are_counted_in_a_note(tmp_path: Path) -> None:
    write(tmp_path / "0", [outcome(0)])
    for at, reason in enumerate(["preflight", "unmet-requirements"], start=1):
        tree = {**outcome(at).to_dict(), "verdict": "inconclusive", "reason": reason}
        write(tmp_path / str(at), [Outcome.from_dict(tree)])
    found = history([tmp_path])
    assert len(found.trends[0].points) == 1
    assert found.notes == ("2 outcomes left out: only preflight was executed, or the smoke run was skipped",)


def test_what_earlier_sessions_left_in_a_used_folder_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "out", [outcome(1)])
    write(tmp_path / "out" / "stale", [outcome(0)])
    write(tmp_path / "stale", [outcome(2)])  # a session that somebody called so
    found = history([tmp_path])
    assert [point.session for point in found.trends[0].points] == ["out", "stale"]
    assert found.notes == (f"{tmp_path}/out/stale is left out: it mixes sessions; give each a folder",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "missing: no such folder"),
        ("file", "file is not a folder"),
        ("empty", r"no verdicts\.json below .*empty: write one per session with pytest --smoke"),
    ],
)
def test_a_folder_without_sessions_is_an_error(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ReportError, match=message):
        history([tmp_path / name])


def test_a_file_can_be_named_instead_of_its_folder(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, [outcome(at)]) for at, name in enumerate("ba")]
    (found,) = history(paths).trends
    assert [point.session for point in found.points] == ["b", "a"]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = [
    (),
    ("facts",),
    *((key,) for key in outcome(0).to_dict()),
    *(("facts", key) for key in outcome(0).facts.to_dict()),
]


@given(st.lists(st.tuples(st.sampled_from(PLACES), ANY), max_size=3))
def test_a_report_that_was_changed_by_hand_is_shown_or_noted(changes: list[tuple[tuple[str, ...], Any]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "good", [outcome(0)])
        tree: Any = {"schema": 1, "outcomes": [json.loads(json.dumps(outcome(1).to_dict()))]}
        for place, value in changes:
            inside = tree["outcomes"][0]
            if not place:
                tree["outcomes"][0] = value
            elif isinstance(inside, dict) and len(place) == 1:
                inside[place[0]] = value
            elif isinstance(inside, dict) and isinstance(inside.get("facts"), dict):
                inside["facts"][place[1]] = value
        (folder / "changed").mkdir()
        (folder / "changed" / "verdicts.json").write_text(json.dumps(tree))
        found = history([folder])
        assert sum(len(one.points) for one in found.trends) + len(found.notes) == 2
        assert Parsed(history_page(found)).text
        json.dumps(found.to_dict(), allow_nan=False)
        history_text(found)


def test_what_is_nested_too_deeply_is_noted(tmp_path: Path) -> None:
    write(tmp_path / "good", [outcome(0)])
    path = write(tmp_path / "deep", [outcome(1)])
    deep = "[" * 900 + "]" * 900
    path.write_text(path.read_text().replace('"batch_size": 64', f'"batch_size": {{"a": {deep}}}'))
    found = history([tmp_path])
    assert sum(len(one.points) for one in found.trends) + len(found.notes) == 2


def test_sessions_of_which_none_can_be_shown_are_an_error_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "verdicts.json").write_text("{")
    with pytest.raises(ReportError, match="not valid JSON"):
        history([tmp_path])


def test_texts_of_non_finite_numbers_are_not_figures(tmp_path: Path) -> None:
    path = write(tmp_path / "0", [outcome(0)])
    edit(path, loss_last="NaN", seconds="Infinity", samples_per_second=10**400)
    (point,) = trend(tmp_path).points
    assert (point.loss, point.seconds, point.samples_per_second) == (None, None, None)


def test_the_history_is_strict_json(tmp_path: Path) -> None:
    falling(tmp_path, drop=lambda at: 0.15 - 0.01 * at)
    tree = json.loads(json.dumps(history([tmp_path]).to_dict(), allow_nan=False))
    assert tree["sessions"] == 12
    assert tree["smoke_runs"][0]["points"][3]["margins"]["val_acc > 0.6"]["left"] == pytest.approx(0.2)
    assert tree["drifting"][0]["sessions_left"] == pytest.approx(4)
