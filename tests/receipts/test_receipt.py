"""A receipt is read exactly as it was written, or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.errors import GateError
from pytest_smoke.files import strict_json
from pytest_smoke.judge.checks.check import ACCEPTED_UNVERIFIED
from pytest_smoke.outcome import Facts, Finding
from pytest_smoke.receipts.conditions import not_tested
from pytest_smoke.receipts.receipt import MAX_BYTES, Receipt, parse_receipt, read_receipt
from tests.receipts.conftest import Project

TEXT = st.text(max_size=8)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)


@pytest.fixture(scope="module")
def receipt(tmp_path_factory: pytest.TempPathFactory) -> Receipt:
    return Project(tmp_path_factory.mktemp("project")).receipt()


def sealed(tree: Mapping[str, Any]) -> bytes:
    """Return a tree as a file, with the right SHA-256."""
    text = strict_json(tree, indent=1, sort_keys=True)
    return (
        strict_json({**tree, "sha256": sha256(text.encode()).hexdigest()}, indent=1, sort_keys=True) + "\n"
    ).encode()


def test_a_receipt_is_read_as_it_was_written(receipt: Receipt, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(receipt.to_text())
    read, raw = read_receipt(path)
    assert read == Receipt.from_dict(json.loads(json.dumps(receipt.to_dict())))
    assert raw == path.read_bytes() == read.to_text().encode()


@given(data=st.data())
def test_a_receipt_with_any_other_byte_is_refused(receipt: Receipt, data: st.DataObject) -> None:
    raw = receipt.to_text().encode()
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = data.draw(st.sampled_from(["replace", "insert", "delete"]))
    byte = bytes([data.draw(st.integers(0, 255).filter(lambda value: value != raw[at]))])
    edited = raw[:at] + {"replace": byte, "insert": byte, "delete": b""}[changed] + raw[at + (changed != "insert") :]
    with pytest.raises(GateError):
        parse_receipt(edited, "a.json")


@given(raw=st.binary(max_size=200) | TREES.map(lambda tree: strict_json(tree).encode()))
def test_anything_else_is_refused_with_a_gate_error(raw: bytes) -> None:
    with pytest.raises(GateError):
        parse_receipt(raw, "a.json")


@given(data=st.data(), value=TREES)
def test_a_value_of_another_type_is_refused_or_the_receipt_is_whole(
    receipt: Receipt, data: st.DataObject, value: Any
) -> None:
    """Whoever has no key can make a right SHA-256: what is inside must still be safe to use."""
    tree = json.loads(json.dumps(receipt.to_dict()))
    key = data.draw(st.sampled_from(sorted(tree)))
    inner = data.draw(st.sampled_from([None, *sorted(tree["inputs"])])) if key == "inputs" else None
    target, name = (tree["inputs"], inner) if inner else (tree, key)
    target[name] = value
    try:
        read = parse_receipt(sealed(tree), "a.json")
    except GateError:
        return
    assert isinstance(read, Receipt)
    assert read.ended.tzinfo is not None


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "a.json:1:1: not valid JSON (Expecting value)"),
        (b"{", "a.json:1:2: not valid JSON (Expecting property name enclosed in double quotes)"),
        (b"[" * 100_000, "a.json: not valid JSON (nested too deeply)"),
        (b"NaN", "a.json: not valid JSON (NaN is not JSON)"),
        (b'{\n"a": "\xc3\xa9"}', "a.json:2: byte 0xc3 is not ASCII"),
        (b"[]", "a.json is not a receipt: its format is not pytest-smoke-receipt"),
        (b'{"schema": 1}', "a.json is not a receipt: its format is not pytest-smoke-receipt"),
        (
            b'{"format": "pytest-smoke-receipt"}',
            "a.json is not a receipt that this version can read: a key is missing: ",
        ),
        (b" " * (MAX_BYTES + 1), f"a.json has more than {MAX_BYTES:,} bytes: it is not a receipt"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_receipt_is_refused_with_its_place(raw: bytes, sentence: str) -> None:
    with pytest.raises(GateError) as refused:
        parse_receipt(raw, "a.json")
    assert str(refused.value).startswith(sentence)


def test_a_receipt_of_another_version_and_paths_outside_the_rootdir_are_refused(receipt: Receipt) -> None:
    tree = receipt.to_dict()
    outside = {**tree["inputs"], "files": {"../secret.py": ""}}
    for key, value, why in (
        ("schema", 2, "schema is 2, and this version reads 1"),
        ("verdict", "fine", "verdict is not promote, unstable, hold, invalid, inconclusive or error"),
        ("ended_at", "2026-11-26T10:00:00", "ended_at has no time zone"),
        ("inputs", outside, "inputs.files has a path that is not below the rootdir"),
        ("seconds", "12", "seconds has another type"),
        ("extra", 1, "a key is unknown: extra"),
    ):
        with pytest.raises(GateError) as refused:
            parse_receipt(sealed({**tree, key: value}), "a.json")
        assert str(refused.value) == f"a.json is not a receipt that this version can read: {why}"


def test_a_folder_a_pipe_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, sentence in (
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "pipe", "is not a regular file"),
        (tmp_path / "a.json", "file not found"),
    ):
        with pytest.raises(GateError) as refused:
            read_receipt(path)
        assert str(refused.value) == f"{path} {sentence}"


def test_a_receipt_says_what_was_tested_and_what_was_not(receipt: Receipt) -> None:
    assert receipt.tested["device"] == "cuda"
    assert (receipt.tested["world_size"], receipt.tested["full_world_size"]) == (1, 8)
    assert [entry["id"] for entry in receipt.not_tested] == ["world-size", "length", "schedule", "not-checked[ranks]"]
    assert (receipt.git_commit, receipt.git_dirty) == ("0123456789abcdef0123456789abcdef01234567", True)
    assert "host" not in receipt.to_text()


def test_a_corpus_counts_as_data_and_one_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    project = Project(tmp_path)
    mix = "mix: {corpus: data, sources: {train: {}}}\n"
    project.recipe.write_text(f"{project.recipe.read_text()}{mix}")
    assert set(project.receipt().inputs["data"]) == {"data", "data/train.txt"}
    project.recipe.write_text(f"{project.recipe.read_text()}data_files: [model.py, ./data/../data/train.txt]\n")
    assert set(project.receipt().inputs["data"]) == {"data", "data/train.txt", "model.py"}
    project.edit("corpus: data", "corpus: nowhere")
    assert project.receipt().not_tested[-1] == {
        "id": "data[nowhere]",
        "text": "a change of nowhere is not noticed: No such file or directory",
    }


def test_a_run_that_ended_before_training_did_not_name_its_device_and_data(tmp_path: Path) -> None:
    case = Project(tmp_path).case()
    found = not_tested(case, Facts(), [], files={"model.py"}, data={}, unread={}, isolation="process")
    texts = {entry["id"]: entry["text"] for entry in found}
    assert texts["device"] == "nothing was trained: the smoke run ended before it used a device"
    assert texts["data"] == "the task was not asked for its data files, so a change of the data is not noticed"


def test_what_a_command_on_a_cpu_did_not_test_is_said(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.edit("task: model:Model\nargs: {hidden_size: 16}\n", 'command: ["{python}", train.py]\n')
    project.edit("batch_size: 8", "batch_size: 8\n  precision: bf16")
    project.edit("smoke: {max_steps: 400}", "smoke: {max_steps: 400, batch_size: 4, grad_accum_steps: 2}")
    case = project.case()
    unverified = Finding(id="schedule", status="warn", reason=ACCEPTED_UNVERIFIED.id, text="no rate in the log")
    facts = Facts(steps=400, precision="bf16", device="cpu", resumed_at_steps=(200, 300))
    found = not_tested(case, facts, [unverified], files={"train.py"}, data={}, unread={}, isolation="none")
    assert {entry["id"]: entry["text"] for entry in found} == {
        "world-size": "the full run's 8 data-parallel devices were folded onto one: communication and statistics per "
        "device were not tested",
        "batch-size": "micro-batches of 8 samples: the smoke run had 4",
        "length": "the smoke run made 400 steps, the full run makes 5,000",
        "schedule": "the full run's cosine schedule after the warmup was replaced by the smoke run's constant schedule",
        "precision": "bf16 on a CPU rounds in other places than on an accelerator",
        "device": "trained on cpu: kernels, memory and rounding of a CUDA device were not tested",
        "resumed": "the run was resumed at step 200, step 300",
        "isolation": "trained in the pytest process, where other tests may have changed state",
        "unverified[schedule]": "no rate in the log",
        "code": "only the files that the command names, and the modules that these import, are compared",
        "data": "no data files were named, so a change of the data is not noticed",
    }
