"""Find and read files, folders, standard input and TensorBoard event files."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.errors import LogError
from pytest_smoke.logs import find
from pytest_smoke.logs import read as logs
from pytest_smoke.logs.log import ColumnNames


def test_only_the_newest_trainer_state_of_a_run_is_a_log(tmp_path: Path) -> None:
    for run, steps in (("a", (500, 1000, 900)), ("b", (10,))):
        for step in steps:
            folder = tmp_path / run / f"checkpoint-{step}"
            folder.mkdir(parents=True)
            (folder / "trainer_state.json").write_text("{}")
    (tmp_path / "b" / "trainer_state.json").write_text("{}")
    assert find.find(str(tmp_path)) == [
        str(tmp_path / "a" / "checkpoint-1000" / "trainer_state.json"),
        str(tmp_path / "b" / "trainer_state.json"),
    ]


def test_a_folder_is_searched_for_known_names_at_any_depth(tmp_path: Path) -> None:
    for name in (
        "z/metrics.csv",
        "a/train.log",
        "a/deep/log.jsonl",
        "a/config.json",
        "README.md",
        "tb/events.out.tfevents.1.host",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    found = [Path(path).relative_to(tmp_path).as_posix() for path in find.find(str(tmp_path))]
    assert found == ["a/deep/log.jsonl", "a/train.log", "tb", "z/metrics.csv"]


def test_a_folder_without_logs_lists_the_searched_names(tmp_path: Path) -> None:
    with pytest.raises(
        LogError, match=r"no log in this folder: searched for trainer_state.json, metrics\*.csv"
    ) as refused:
        find.find(str(tmp_path))
    assert refused.value.reason == "no-log"


def test_standard_input_is_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"step": 1, "loss": 2.5}\n')))
    log = logs.read("-")
    assert (log.path, log.points[0].loss) == ("-", 2.5)


@pytest.mark.parametrize(("content", "says"), [(b"\x7fELF\0\0", "not a text file"), (None, "file not found")])
def test_an_unreadable_file_is_an_error_with_the_cause(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "log.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(LogError, match=says) as refused:
        logs.read(str(file))
    assert refused.value.reason == "unreadable"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_other_systems_are_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "log.csv").write_bytes("step,loss\n7,2.5\n".encode(encoding))
    assert logs.read(str(tmp_path / "log.csv")).points[0].step == 7


def test_event_files_need_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events.out.tfevents.1.host").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    with pytest.raises(LogError, match="pip install tensorboard") as refused:
        logs.read(str(tmp_path))
    assert refused.value.reason == "no-tensorboard"


def write_events(folder: Path, rows: list[tuple[int, dict[str, float]]], *, suffix: str = "", start: float = 0) -> None:
    event: Any = pytest.importorskip(
        "tensorboard.compat.proto.event_pb2", reason="the tensorboard package is not installed"
    )
    summary: Any = pytest.importorskip("tensorboard.compat.proto.summary_pb2")
    writer: Any = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    events = writer.EventFileWriter(str(folder), filename_suffix=suffix)
    for n, (step, values) in enumerate(rows):
        tags = [summary.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        events.add_event(event.Event(wall_time=start + n, step=step, summary=summary.Summary(value=tags)))
    events.close()


def test_event_files_of_a_resumed_run_are_one_log(tmp_path: Path) -> None:
    write_events(tmp_path, [(n, {"train/loss": 4 - n, "train/lr": 0.5}) for n in range(4)])
    write_events(tmp_path, [(n, {"train/loss": 8.0, "train/lr": 0.25}) for n in (2, 3)], suffix=".b", start=100)
    log = logs.read(str(tmp_path))
    assert [(p.step, p.loss, p.lr) for p in log.points] == [(0, 4, 0.5), (1, 3, 0.5), (2, 8, 0.25), (3, 8, 0.25)]
    assert "go back from 3 to 2" in log.notes[0]


def test_a_truncated_event_file_is_read_to_its_end_with_a_note(tmp_path: Path) -> None:
    write_events(tmp_path, [(n, {"loss": 4.0}) for n in range(4)])
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    log = logs.read(str(tmp_path))
    assert len(log.points) == 3
    assert "ends inside a record" in log.notes[0]


HEAVY = ("torch", "yaml", "pydantic", "numpy", "pytest", "tensorboard")


def loaded(code: str) -> set[str]:
    """Return the heavy packages that are imported after `code` in a new process."""
    script = f"import json, sys\n{code}\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_readers_import_nothing_heavy() -> None:
    assert loaded("import pytest_smoke.logs.read, pytest_smoke.cli.judge") == set()


def test_the_import_test_can_fail() -> None:
    assert loaded("import yaml") == {"yaml"}


def test_column_names_are_optional(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("step,loss\n1,2\n")
    assert logs.read(str(tmp_path / "x.csv")) == logs.read(str(tmp_path / "x.csv"), ColumnNames())
