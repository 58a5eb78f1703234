"""A log that a command appends to, replaces or overwrites: only what this run wrote is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_smoke.logs.log import ColumnNames
from pytest_smoke.monitor.command import growing_log
from pytest_smoke.monitor.command.growing_log import GrowingLog

NAMES = ColumnNames()


def lines(first: int, end: int) -> str:
    return "".join(f"step {step}: loss {step}.5, lr 0.1\n" for step in range(first, end))


def steps(log: GrowingLog, *, is_complete: bool = False) -> list[int] | None:
    found = log.read(is_complete=is_complete)
    return [point.step for point in found.points] if found is not None else None


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = GrowingLog(str(path), NAMES)
    assert steps(log) is None
    path.write_text(lines(0, 3) + "step 3: loss 3.")
    assert steps(log) == [0, 1, 2]
    assert steps(log) is None  # nothing new
    path.write_text(lines(0, 4) + "step 4: loss 4.5")
    assert steps(log) == [0, 1, 2, 3]
    assert steps(log, is_complete=True) == [0, 1, 2, 3, 4]


def test_what_was_there_before_is_left_out_of_an_appended_log(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text(lines(0, 50))
    log = GrowingLog(str(path), NAMES)
    assert log.is_old
    assert steps(log) is None
    with path.open("a") as file:
        file.write(lines(0, 3))
    assert not log.is_old
    assert steps(log) == [0, 1, 2]


def test_what_was_there_before_does_not_make_a_log_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.log"
    path.write_text(lines(0, 50))
    monkeypatch.setattr(growing_log, "MAX_BYTES", len(lines(0, 10)))
    log = GrowingLog(str(path), NAMES)
    with path.open("a") as file:
        file.write(lines(0, 3))
    assert steps(log) == [0, 1, 2]
    assert log.grown_bytes == len(lines(0, 3))


@pytest.mark.parametrize("before", [lines(0, 50), lines(0, 2), lines(5, 8)], ids=["longer", "shorter", "other"])
def test_a_log_that_is_written_anew_is_read_from_its_beginning(tmp_path: Path, before: str) -> None:
    path = tmp_path / "a.log"
    path.write_text(before)
    log = GrowingLog(str(path), NAMES)
    path.write_text("")
    steps(log)
    path.write_text(lines(0, 4))
    assert steps(log) == [0, 1, 2, 3]


def test_rows_appended_to_a_csv_have_the_header_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,train_loss,lr\n0,9.0,0.1\n1,8.0,0.1\n")
    log = GrowingLog(str(path), NAMES)
    with path.open("a") as file:
        file.write("0,2.0,0.2\n1,1.0,0.2\n")
    found = log.read(is_complete=False)
    assert found is not None
    assert [(point.step, point.loss, point.lr) for point in found.points] == [(0, 2.0, 0.2), (1, 1.0, 0.2)]


def test_a_progress_bar_ends_its_lines_with_a_carriage_return(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = GrowingLog(str(path), NAMES)
    path.write_bytes(b"\r".join(f"step {step} loss={step}.5".encode() for step in range(5)))
    assert steps(log) == [0, 1, 2, 3]


def test_a_folder_and_a_log_that_is_too_large_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = GrowingLog(str(tmp_path), NAMES)
    assert steps(folder) is None
    assert "this is a folder" in str(folder.problem)
    path = tmp_path / "a.log"
    large = GrowingLog(str(path), NAMES)
    path.write_text(lines(0, 3))
    monkeypatch.setattr(growing_log, "MAX_BYTES", 10)
    assert steps(large) is None
    assert "has more than 0 MiB" in str(large.problem)
