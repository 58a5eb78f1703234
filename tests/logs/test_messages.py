"""Every note and error of the log readers once, in a file that can be read as one text: tests/logs/snapshots/."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_smoke.errors import LogError
from pytest_smoke.logs import find
from pytest_smoke.logs import read as logs
from pytest_smoke.logs.log import ColumnNames
from pytest_smoke.logs.read import read_text
from tests.snapshots import assert_snapshot

SNAPSHOTS = Path(__file__).parent / "snapshots"


def rows(*losses: float | None) -> str:
    return "".join(json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in enumerate(losses))


def csv(head: str, *lines: str) -> str:
    return "\n".join([head, *lines]) + "\n"


NOTES: dict[str, str] = {
    "two losses": csv("step,loss,train_loss_epoch", "1,2,2", "2,1,1"),
    "one loss term": csv("step,crf_nll,val_loss", "1,2,2", "2,1,1"),
    "loss terms without a total": csv("step,loss_ce,loss_crf", "1,2,2", "2,1,1"),
    "two learning rates": csv("step,loss,lr-AdamW/pg1,lr-AdamW/pg2", "1,2,1,1", "2,1,1,1"),
    "no step": csv("loss,acc", "2,1", "1,1"),
    "epochs as steps": csv("epoch,loss", "1,2", "2,1"),
    "steps restart in each epoch": "\n".join(
        f"Epoch [{e}/2], Step [{s}/2], Loss: {e + s}" for e in (1, 2) for s in (1, 2)
    ),
    "a loss without a step": csv("step,loss", "1,3", ",2", "2,1"),
    "a duplicated step": csv("step,loss", "1,3", "1,2", "2,1"),
    "two duplicated steps": csv("step,loss", "1,3", "1,2", "1,1", "2,1"),
    "a resumed run": csv("step,loss", "1,4", "2,3", "3,2", "2,3", "3,2"),
    "a run resumed four times": csv("step,loss", *(f"{step},1" for at in range(5) for step in range(at, at + 30))),
    "a gap": csv("step,loss", *(f"{n},1" for n in (0, 10, 20, 30, 90, 100, 110))),
    "two gaps": csv("step,loss", *(f"{n},1" for n in (0, 10, 20, 30, 90, 100, 110, 180))),
    "a line that is too long": csv("step,loss", "1,3", "1,2,3", "2,1"),
    "lines that are too short": csv("step,loss,lr", "1,3,1", "2,1,1", "3", "4,1,1", "5", "6,1,1"),
    "an incomplete last line": "step,loss,lr\n1,3,1\n2,2,1\n3,1",
    "an incomplete last JSON line": rows(3, 2) + '{"step": 2, "lo',
    "lines without JSON": rows(3, 2) + "WARNING: x\n" + rows(3, 2),
    "entries that are not objects": '[{"step": 1, "loss": 2}, 3, {"step": 2, "loss": 1}]',
    "a repeated header": csv("step,loss", "1,3", "2,2", "step,loss", "3,1"),
    "text in another column": csv("step,loss,lr", "1,3,0.1", "2,2,fast", "3,1,0.1"),
    "a null loss": rows(*[2.0] * 12, None, *[2.0] * 9),
    "blank losses at the end": csv("step,loss", "1,2", "2,2", "3,", "4,"),
    "one blank loss at the end": csv("step,loss", "1,2", "2,2", "3,"),
    "JSON columns of different lengths": '{"loss": [3, 2, 1],\n "val_loss": [3, 2, 1],\n "test_acc": [1]}',
    "NaN in a metric": csv("step,loss,val_loss", "1,2,3", "2,1,nan"),
}

ERRORS: dict[str, str] = {
    "an empty log": "",
    "no text line with a number": "Traceback (most recent call last):\nOSError\n",
    "only a header": "step,loss\n",
    "only malformed lines": csv("step,loss", "1,2,3", "2,3,4"),
    "numbers instead of a header": "0,2.5\n1,2.4\n",
    "only a validation loss": csv("step,val_loss", "1,2"),
    "several loss terms": csv("step,loss_d,loss_g", "1,2,2"),
    "no loss": csv("step,acc", "1,2"),
    "no numbers": csv("name,city", "a,b"),
    "a loss with text": csv("step,loss", "1,2.0", "2,oops", "3,1", "4,also"),
    "a loss with one text": csv("step,loss", "1,2.0", "2,oops"),
    "a step with a fraction": csv("step,loss", "0.5,3", "1.5,2"),
    "no loss with a step": csv("step,loss", "1,", ",3"),
    "several ranks": csv("step,loss", *(f"{step},1" for n in range(0, 60, 2) for step in (n + 1, n))),
    "a broken JSON document": '{\n  "log_history": [\n    {"loss": 2.0, "step": 1},\n    {"lo',
    "another JSON document": '{"a": 1,\n "b": 2}',
    "no entries": '{"log_history": []}',
}


def path_of(title: str) -> str:
    """Only a file called .csv is read as a table without a known column in its header."""
    return "log.csv" if title in ("numbers instead of a header", "no numbers") else "log"


def test_notes() -> None:
    parts = []
    for title, text in NOTES.items():
        notes = read_text("log", text, ColumnNames()).notes
        assert notes, title
        parts.append("\n".join([f"[{title}]", *notes]))
    assert_snapshot(SNAPSHOTS / "notes.txt", "\n\n".join(parts) + "\n")


def test_errors(tmp_path: Path) -> None:
    parts = []
    for title, text in ERRORS.items():
        step = "step" if " step" in title else None
        with pytest.raises(LogError) as caught:
            read_text(path_of(title), text, ColumnNames(step=step))
        parts.append(f"[{title}]\n{caught.value.reason}: {caught.value}")
    (tmp_path / "binary.log").write_bytes(b"\x7fELF\0\0")
    for title, path in {
        "a missing file": tmp_path / "absent.log",
        "a binary file": tmp_path / "binary.log",
        "a missing event file": tmp_path / "tfevents.1",
        "a folder without logs": tmp_path / "folder",
    }.items():
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(LogError) as caught:
            [logs.read(log) for log in find.find(str(path))]
        parts.append(f"[{title}]\n{caught.value.reason}: {caught.value}")
    with pytest.raises(LogError) as caught:
        read_text("log", csv("step,loss", "1,2"), ColumnNames(loss="nll"))
    parts.append(f"[an unknown column]\n{caught.value.reason}: {caught.value}")
    assert_snapshot(SNAPSHOTS / "errors.txt", "\n\n".join(parts) + "\n")
