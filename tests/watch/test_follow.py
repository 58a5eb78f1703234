"""A log that is late, old, truncated, rotated, in a folder or unreadable is followed as far as possible."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pytest_smoke.watch import follow
from pytest_smoke.watch.follow import LogFollower, WatchedLog
from tests.watch.test_full_run_judge import curve


def lines(start: int, end: int, *, rises_at: int | None = None) -> str:
    return "".join(f"step {p.step}: loss {p.loss:.4f}\n" for p in curve(end, rises_at=rises_at)[start:])


def watched(path: Path, **known: object) -> LogFollower:
    return LogFollower(WatchedLog(path=str(path), shown=path.name, **known))  # type: ignore[arg-type]  # keywords


def append(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


def notices(follower: LogFollower, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is said of a problem that has lasted."""
    monkeypatch.setattr(follow, "WAITED_SECONDS", 0.0)
    return list(follower.notices())


def test_a_late_log_is_judged_as_it_grows(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    follower = watched(log)
    assert follower.update() is None
    text = lines(0, 400, rises_at=300)
    found = []
    for at in range(0, len(text), 997):  # cuts lines and numbers
        append(log, text[at : at + 997])
        found.append(follower.update())
    verdict = next(one for one in found if one is not None)
    assert (verdict.reason, verdict.counts_steps) == ("rise", True)
    assert verdict.last_good_step == pytest.approx(297, abs=4)


def test_what_the_log_held_before_the_run_is_not_judged(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(lines(0, 300, rises_at=200))
    follower = watched(log)
    assert follower.update() is None
    assert follower.watched().problem == "train.log has not changed since the run began"
    append(log, "".join(f"step {300 + p.step}: loss {p.loss:.4f}\n" for p in curve(200)))
    assert follower.update() is None
    assert (follower.watched().points, follower.watched().problem) == (200, "")
    running = watched(log, is_new_run=False)  # of a process that runs already, all of it counts, and this is over
    assert running.update() is None
    assert [text.partition(":")[0] for text in running.notices()] == ["the loss was unstable at step 209 and recovered"]


def test_an_overwritten_log_of_an_earlier_run_is_judged_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(lines(0, 300, rises_at=200))
    follower = watched(log)
    log.write_text(lines(0, 100))
    assert follower.update() is None
    assert follower.watched().points == 100


@pytest.mark.parametrize("way", ["truncated", "replaced"])
def test_a_rotated_log_continues_the_curve(tmp_path: Path, way: str) -> None:
    log = tmp_path / "train.log"
    log.write_text(lines(0, 300))
    follower = watched(log, is_new_run=False)
    assert follower.update() is None
    if way == "replaced":
        log.rename(tmp_path / "train.log.1")
    log.write_text(lines(300, 330, rises_at=300))
    verdict = follower.update()
    assert verdict is not None
    assert verdict.last_good_step == pytest.approx(297, abs=4)


def test_numbered_points_count_on_in_a_rotated_log(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("".join(f"loss {p.loss:.4f}\n" for p in curve(300)))
    follower = watched(log, is_new_run=False)
    follower.update()
    log.unlink()
    log.write_text("".join(f"loss {p.loss:.4f}\n" for p in curve(330, rises_at=300)[300:]))
    verdict = follower.update()
    assert verdict is not None
    assert (verdict.counts_steps, verdict.last_good_step) == (False, pytest.approx(297, abs=4))


def test_in_a_folder_the_log_that_changed_last_is_followed(tmp_path: Path) -> None:
    (tmp_path / "version_0").mkdir()
    (tmp_path / "version_0" / "metrics.csv").write_text("step,loss\n0,1.0\n")
    os.utime(tmp_path / "version_0" / "metrics.csv", (1e9, 1e9))
    follower = watched(tmp_path)
    assert follower.update() is None
    assert "has changed since the run began" in follower.watched().problem
    (tmp_path / "version_1").mkdir()
    rows = "".join(f"{p.step},{p.loss}\n" for p in curve(400, rises_at=300))
    (tmp_path / "version_1" / "metrics.csv").write_text("step,train_loss\n" + rows)
    verdict = follower.update()
    assert verdict is not None
    assert follower.watched().loss_column == "train_loss"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no log at train.log"),
        (b"", "train.log is empty"),
        (b"starting\nready\n", "no line of the log has a name with a number"),
        (b"step,val_loss\n0,1\n1,2\n", "no training loss"),
        (b"\x80\x00\x01\x02" * 99, "not a text file"),
    ],
)
def test_a_log_without_a_loss_is_told_once_and_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, says: str
) -> None:
    log = tmp_path / "train.log"
    follower = watched(log)
    if content is not None:
        log.write_bytes(content)
    assert follower.update() is None
    assert list(follower.notices()) == []  # it may still come
    (notice,) = notices(follower, monkeypatch)
    assert notice.startswith("not watched yet: ")
    assert says in notice
    assert notices(follower, monkeypatch) == []
    assert says in follower.watched().problem


def test_a_log_in_another_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    follower = watched(Path("train.log"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.log").write_text(lines(0, 10))
    follower.update()
    (notice,) = notices(follower, monkeypatch)
    assert notice == "not watched yet: no log at train.log; did you mean --log out/train.log?"


def test_a_log_that_cannot_be_judged_any_more_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "train.log"
    follower = watched(log)
    log.write_text(lines(0, 100))
    assert follower.update() is None
    log.unlink()
    assert follower.update() is None
    assert notices(follower, monkeypatch) == ["not watched any more: no log at train.log"]


def test_nan_outside_the_points_is_unstable(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    follower = watched(log)
    log.write_text(lines(0, 100) + "Loss is nan, stopping training\n")
    verdict = follower.update()
    assert verdict is not None
    assert (verdict.reason, verdict.last_good_step) == ("non-finite", 98)


def test_the_trainer_state_of_the_newest_checkpoint_is_followed(tmp_path: Path) -> None:
    follower, history = watched(tmp_path), []
    found = []
    for point in curve(400, rises_at=300):
        history.append({"step": point.step, "loss": point.loss, "epoch": point.step / 100})
        if point.step % 100 == 99:
            (tmp_path / f"checkpoint-{point.step}").mkdir()
            state = json.dumps({"global_step": point.step, "log_history": history})  # on one line
            (tmp_path / f"checkpoint-{point.step}" / "trainer_state.json").write_text(state)
            found.append(follower.update())
    assert found[:3] == [None] * 3
    assert found[3] is not None
    assert found[3].last_good_step == pytest.approx(297, abs=4)
