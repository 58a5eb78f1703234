"""Verdicts that are kept between sessions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.bisect.cache import KEPT, VerdictCache, fingerprint
from pytest_smoke.errors import BisectStateError
from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Mode, Recipe
from pytest_smoke.bisect.result import BisectResult, BisectTrial

TRIED = st.builds(
    BisectTrial,
    settings=st.lists(st.text(max_size=4), max_size=3).map(tuple),
    verdict=st.text(max_size=4),
    reason=st.text(max_size=4),
    step=st.none() | st.integers(),
    text=st.text(max_size=9),
    answer=st.sampled_from(("pass", "fail", "unresolved")),
    smoke=st.text(max_size=4),
    kept=st.booleans(),
)
NAMES = st.lists(st.text(max_size=4), max_size=3).map(tuple)
BISECT_RESULT = st.builds(
    BisectResult,
    good=st.text(max_size=4),
    bad=st.text(max_size=4),
    differences=NAMES,
    unseen=NAMES,
    tried=st.lists(TRIED, max_size=3).map(tuple),
    minimal=NAMES,
    text=st.text(max_size=9),
)


@given(BISECT_RESULT)
def test_a_bisect_survives_its_wire_form_and_json(bisected: BisectResult) -> None:
    """It crosses to xdist's controller, and is written to disk."""
    assert BisectResult.from_dict(json.loads(json.dumps(bisected.to_dict()))) == bisected


def outcome(verdict: str, reason: str = "") -> Outcome:
    return Outcome(
        id="i", recipe="r", mode="constant", cell=None, verdict=verdict, reason=reason, step=7, text="t", findings=()
    )


EMPTY = BisectResult(good="g", bad="b", differences=(), unseen=(), tried=(), minimal=(), text="")


def test_what_was_decided_is_read_again_and_what_only_the_machine_did_is_not(tmp_path: Path) -> None:
    """A process that was killed may live tomorrow; a task that raises will raise."""
    state = VerdictCache(tmp_path / "bisect.json")
    state.put("a", outcome("promote"))
    state.put("b", outcome("error", "crash"))
    state.put("c", outcome("error", "exception"))
    assert state.get("b") is not None, "in one session it is asked for once"
    state.write(EMPTY)
    again = VerdictCache(tmp_path / "bisect.json")
    assert again.get("a") == {"verdict": "promote", "reason": "", "step": 7, "text": "t"}
    assert again.from_earlier_session("a")
    assert not state.from_earlier_session("a")
    assert again.get("b") is None
    assert len(again) == 2


def test_verdicts_of_another_bisect_are_kept_beside(tmp_path: Path) -> None:
    """One folder may hold the searches of a day."""
    first = VerdictCache(tmp_path / "bisect.json")
    first.put("a", outcome("promote"))
    first.write(EMPTY)
    second = VerdictCache(tmp_path / "bisect.json")
    second.put("b", outcome("promote"))
    second.write(EMPTY)
    assert len(VerdictCache(tmp_path / "bisect.json")) == 2


@pytest.mark.parametrize("text", ["", "[1]", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "decided": [1]}'])
def test_a_file_that_is_no_state_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    """And what to do about it."""
    (tmp_path / "bisect.json").write_text(text)
    with pytest.raises(BisectStateError, match=r"bisect\.json (is no state of a bisect|has schema 2).*: move it away$"):
        VerdictCache(tmp_path / "bisect.json")


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search works all the same."""
    monkeypatch.chdir(tmp_path)
    state = VerdictCache(None)
    state.put("a", outcome("promote"))
    state.write(EMPTY)
    assert set(state.get("a") or {}) == set(KEPT)
    assert list(tmp_path.iterdir()) == []


FULL: dict[str, Any] = {"batch_size": 16, "learning_rate": 5e-4, "max_steps": 50_000}


def case(mode: Mode = "constant", smoke: dict[str, Any] | None = None, **changes: Any) -> Case:
    sections = {key: changes.pop(key) for key in ("args", "checks", "task") if key in changes}
    data = {"task": "a_task:Task", "full": {**FULL, **changes}, "smoke": {"max_steps": 2500, **(smoke or {})}}
    return Case(path="a", recipe=Recipe.model_validate({**data, **sections}), mode=mode)


def test_a_fingerprint_tells_apart_all_that_decides_and_nothing_else(tmp_path: Path) -> None:
    """Settings, checks, mode, device and the task's file; not what no smoke sees."""
    (tmp_path / "a_task.py").write_text("class Task: ...\n")
    plain = fingerprint(case(), root=tmp_path, device="cpu")
    assert fingerprint(case(max_steps=60_000, lr_schedule="linear"), root=tmp_path, device="cpu") == plain
    others = [
        fingerprint(case(learning_rate=1e-3), root=tmp_path, device="cpu"),
        fingerprint(case(args={"depth": 1}), root=tmp_path, device="cpu"),
        fingerprint(case(args={"depth": True}), root=tmp_path, device="cpu"),
        fingerprint(case(smoke={"seed": 1}), root=tmp_path, device="cpu"),
        fingerprint(case(checks={"accept": ["a < 1"]}), root=tmp_path, device="cpu"),
        fingerprint(case("long-tail"), root=tmp_path, device="cpu"),
        fingerprint(case(), root=tmp_path, device="cuda"),
        fingerprint(case(task="gone:Task"), root=tmp_path, device="cpu"),
    ]
    (tmp_path / "a_task.py").write_text("class Task: ... # another\n")
    others.append(fingerprint(case(), root=tmp_path, device="cpu"))
    assert len({plain, *others}) == 1 + len(others)
