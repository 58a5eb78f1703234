"""Verdicts that a bisect keeps between sessions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.bisect.cache import KEPT, VerdictCache, fingerprint
from pytest_smoke.bisect.result import BisectResult, BisectTrial
from pytest_smoke.errors import BisectStateError
from pytest_smoke.outcome import Outcome, VerdictWord
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Mode, Recipe

TRIALS = st.builds(
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
BISECT_RESULTS = st.builds(
    BisectResult,
    good=st.text(max_size=4),
    bad=st.text(max_size=4),
    differences=NAMES,
    unseen=NAMES,
    tried=st.lists(TRIALS, max_size=3).map(tuple),
    minimal=NAMES,
    text=st.text(max_size=9),
)


@given(BISECT_RESULTS)
def test_a_result_round_trips_through_json(result: BisectResult) -> None:
    """It is sent to pytest-xdist's controller, and written to disk."""
    assert BisectResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def outcome(verdict: VerdictWord, reason: str = "") -> Outcome:
    return Outcome(
        id="i",
        recipe="r",
        mode="constant",
        cell=None,
        verdict=verdict,
        reason=reason,
        step=7,
        text="t",
        decided_by="loss-trend",
        findings=(),
    )


EMPTY = BisectResult(good="g", bad="b", differences=(), unseen=(), tried=(), minimal=(), text="")


def test_verdicts_are_read_again_except_errors_that_may_not_occur_again(tmp_path: Path) -> None:
    """A process that was killed may survive tomorrow; a task that raises will raise again."""
    cache = VerdictCache(tmp_path / "bisect.json")
    cache.put("a", outcome("promote"))
    cache.put("b", outcome("error", "crash"))
    cache.put("c", outcome("error", "exception"))
    assert cache.get("b") is not None, "within one session it is not repeated"
    cache.write(EMPTY)
    later = VerdictCache(tmp_path / "bisect.json")
    assert later.get("a") == {"verdict": "promote", "reason": "", "step": 7, "text": "t"}
    assert later.from_earlier_session("a")
    assert not cache.from_earlier_session("a")
    assert later.get("b") is None
    assert len(later) == 2


@pytest.mark.parametrize("reason", ["crash", "hang", "out-of-memory", "missing-device"])
def test_an_error_of_the_machine_is_not_kept(tmp_path: Path, reason: str) -> None:
    cache = VerdictCache(tmp_path / "bisect.json")
    cache.put("a", outcome("error", reason))
    cache.write(EMPTY)
    assert len(VerdictCache(tmp_path / "bisect.json")) == 0


def test_verdicts_of_several_bisects_are_kept_in_one_file(tmp_path: Path) -> None:
    first = VerdictCache(tmp_path / "bisect.json")
    first.put("a", outcome("promote"))
    first.write(EMPTY)
    second = VerdictCache(tmp_path / "bisect.json")
    second.put("b", outcome("promote"))
    second.write(EMPTY)
    assert len(VerdictCache(tmp_path / "bisect.json")) == 2


@pytest.mark.parametrize("text", ["", "[1]", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "decided": [1]}'])
def test_a_file_with_other_content_is_refused_with_its_name_and_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "bisect.json").write_text(text)
    with pytest.raises(
        BisectStateError, match=r"bisect\.json (is not the state of a bisect|has schema 2).*; move it away$"
    ):
        VerdictCache(tmp_path / "bisect.json")


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = VerdictCache(None)
    cache.put("a", outcome("promote"))
    cache.write(EMPTY)
    assert set(cache.get("a") or {}) == set(KEPT)
    assert list(tmp_path.iterdir()) == []


FULL: dict[str, Any] = {"batch_size": 16, "learning_rate": 5e-4, "max_steps": 50_000}


def case(mode: Mode = "constant", smoke: dict[str, Any] | None = None, **changes: Any) -> Case:
    sections = {key: changes.pop(key) for key in ("args", "checks", "task") if key in changes}
    data = {"task": "a_task:Task", "full": {**FULL, **changes}, "smoke": {"max_steps": 2500, **(smoke or {})}}
    return Case(path="a", recipe=Recipe.model_validate({**data, **sections}), mode=mode)


def test_a_fingerprint_changes_with_all_that_decides_a_verdict_and_with_nothing_else(tmp_path: Path) -> None:
    """Settings, checks, mode, device and the task's file count; settings without an effect on a smoke run do not."""
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
    (tmp_path / "a_task.py").write_text("class Task: ... # edited\n")
    others.append(fingerprint(case(), root=tmp_path, device="cpu"))
    assert len({plain, *others}) == 1 + len(others)
