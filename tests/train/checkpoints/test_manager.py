"""Rolling checkpoints: a run that broke off is told, and trained, as one that did not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.events import Ended, Event, Restarted, Resumed, Saved, Started, Updates
from pytest_smoke.train.checkpoints import manager as keeper
from pytest_smoke.train.checkpoints.layout import NOTHING, Saving
from tests.train.checkpoints.test_resume import StatefulPair, go
from tests.train.conftest import Pair, make_plan
from tests.train.test_loop import Line

STEPS = {"run_steps": 80, "max_steps": 80, "evaluate_every_steps": 20}


class Breaks(StatefulPair):
    """Raises at a chosen call of `losses`."""

    def __init__(self, at_call: int | None = None) -> None:
        super().__init__()
        self.left = at_call

    def evaluate(self, model: Any) -> dict[str, float]:
        return {"norm": sum(p.square().sum().item() for p in model.parameters())}

    def losses(self, model: Any, batch: Any) -> Any:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise RuntimeError("cut")
        return super().losses(model, batch)


@pytest.fixture(autouse=True)
def _at_every_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of milliseconds may else spend no time on a second checkpoint."""
    monkeypatch.setattr(keeper, "ROLLING_SHARE", 1e9)


def broken(plan: Any, at_call: int) -> None:
    with pytest.raises(RuntimeError, match="cut"):
        go(plan, Breaks(at_call))


def rolling(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def lasting(line: Line) -> list[Event]:
    return [r for r in line.records if not isinstance(r, Started | Ended | Saved | Resumed | Updates)]


@pytest.mark.parametrize("calls", [[380], [150, 120], [200, 90, 60]])
def test_however_often_it_is_cut_all_records_are_told_once_in_order(tmp_path: Path, calls: list[int]) -> None:
    """Steps, probes, metrics and gradients are those of the whole run; what moved is, too; and no leftovers."""
    whole = go(make_plan(**STEPS), Breaks())
    plan = make_plan(**STEPS, saving=Saving(folder=str(tmp_path), rolling=True))
    cuts = []
    for at_call in calls:
        broken(plan, at_call)
        (path,) = rolling(tmp_path)
        cuts.append(int(path.name.removeprefix("step-")))
    line = go(plan, Breaks())
    assert lasting(line) == lasting(whole)
    assert line.of(Updates) == whole.of(Updates)
    assert {record.step for record in line.of(Resumed)} == set(cuts)
    assert [path.name for path in tmp_path.iterdir()] == ["trained"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder, plan: (folder / "model.safetensors").write_bytes(b"x"), "damaged: model.safetensors"),
        (lambda folder, plan: (folder / "checkpoint.json").write_text("{}"), "is not what a smoke writes"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_not_used(tmp_path: Path, spoil: Any, words: str) -> None:
    """The run begins anew and says why; nothing of the old records is told."""
    plan = make_plan(**STEPS, saving=Saving(folder=str(tmp_path), rolling=True))
    broken(plan, 400)
    spoil(rolling(tmp_path)[0], plan)
    line = go(plan, Breaks())
    (anew,) = line.of(Restarted)
    assert words in anew.why
    assert lasting(line)[1:] == lasting(go(make_plan(**STEPS), Breaks()))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("learning_rate", 0.2, "learning_rate was 0.1, is 0.2"),
        ("seed", 1, "seed was 0, is 1"),
        ("loss_weights", {"first": 2.0}, "loss_weights.first was not set, is 2.0"),
    ],
)
def test_other_settings_are_named(tmp_path: Path, key: str, value: Any, said: str) -> None:
    """With both values, one by one."""
    plan = make_plan(**STEPS, saving=Saving(folder=str(tmp_path), rolling=True))
    broken(plan, 400)
    line = go(replace(plan, **{key: value}), Breaks())
    assert said in line.of(Restarted)[0].why
    assert line.of(Resumed) == []


@pytest.mark.parametrize(("key", "value"), [("predictions", "elsewhere.jsonl"), ("root", "elsewhere")])
def test_where_files_lie_is_no_setting(tmp_path: Path, key: str, value: Any) -> None:
    """A report folder that is spelt in another way is the same one."""
    plan = make_plan(**STEPS, saving=Saving(folder=str(tmp_path), rolling=True))
    broken(plan, 400)
    line = go(replace(plan, **{key: value}), Breaks())
    assert line.of(Restarted) == []
    assert len(line.of(Resumed)) == 1


def test_nothing_goes_to_disk_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder no file is written anywhere near."""
    monkeypatch.chdir(tmp_path)
    go(make_plan(saving=NOTHING), Pair())
    assert list(tmp_path.iterdir()) == []
