"""Devices and names without end: every command refuses them at once, with a short message."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.__main__ import main
from pytest_smoke.plain import MESSAGE_CHARS

LONG = "x" * 100_000


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer."""

    def interrupt(*_: Any) -> None:
        raise AssertionError(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a named pipe that nobody writes to."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ["judge"],
        ["report"],
        ["report", "data", "--output"],
        ["compare", "pipe"],
        ["diagnose"],
        ["diagnose", "pipe", "--before"],
        ["probe"],
    ],
)
def test_a_device_is_refused_at_once(folder: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with within(20):
        assert main([*command, "/dev/zero"]) == 2
    printed = "".join(capsys.readouterr())
    assert any(words in printed for words in ("not a file", "not a regular file"))


@pytest.mark.parametrize(
    ("command", "row"),
    [
        (["diagnose", "rows.jsonl"], f'{{"{LONG}": 1}}'),
        (["compare", f"rows.jsonl::{LONG}", "rows.jsonl"], ""),
        (["compare", "verdicts.json", "verdicts.json"], f'{{"schema": "{LONG}", "outcomes": []}}'),
        (["package", LONG], ""),
    ],
)
def test_messages_about_long_names_are_bounded(
    folder: Path, command: list[str], row: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("rows.jsonl", "verdicts.json"):
        (folder / name).write_text(row + "\n")
    assert main(command) == 2
    printed = "".join(capsys.readouterr())
    assert 0 < len(printed) < 2 * MESSAGE_CHARS
