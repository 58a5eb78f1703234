"""What lines about batch sizes say about the samples in a step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.monitor.command.batch_lines import stated_batch


@pytest.mark.parametrize(
    ("line", "micro_batch"),
    [
        ("iter 3: loss 2.1, batch size 64", 64),
        ("Namespace(lr=0.1, batch_size=64, eval_batch_size=8)", 64),
        ("per_device_train_batch_size=64", 64),
        ('{"data": {"batch_size": 64}}', 64),
        ("data.batch_size: 64", 64),
        ("[titan] Using batch size of 64.", 64),
        ("Batch size: 1,024", 1024),
        ("max batch size 512, batch size 32", 32),
        ("eval_batch_size=8\nbatch_size=64\n", 64),
    ],
)
def test_a_batch_size_of_training_is_found(line: str, micro_batch: int) -> None:
    found = stated_batch([line.encode()], 32, 1, 1)
    assert found is not None
    assert (found.samples, found.micro_batch) == (micro_batch, micro_batch)


@pytest.mark.parametrize(
    "line",
    [
        "eval batch size 8",
        "per_device_eval_batch_size=8",
        "validation: batch size 8",
        "max_batch_size=512",
        "total batch size: 524,288 tokens",
        "total desired batch size: 524288",
        "batch size 16384 (tokens)",
        "batch size 0.5M tokens",
        "auto_find_batch_size=False, seed=3",
        "batch_size_per_gpu: 7",
        "batches: 12",
    ],
)
def test_another_batch_size_tells_nothing(line: str) -> None:
    assert stated_batch([line.encode()], 32, 1, 1) is None


def test_a_size_with_accumulation_only_tells_if_it_fits_no_meaning() -> None:
    for fits in (8, 32, 16, 64):
        assert stated_batch([b"batch size %d" % fits], 8, 4, 2) is None
    found = stated_batch([b"batch size 10"], 8, 4, 2)
    assert found is not None
    assert (found.samples, found.micro_batch, found.line) == (80, 10, "batch size 10")


def test_the_size_of_a_step_counts_before_any_other() -> None:
    found = stated_batch([b"batch_size=16", b"Global batch size: 96"], 8, 4, 2)
    assert found is not None
    assert (found.samples, found.line) == (96, "Global batch size: 96")


@given(st.binary(max_size=200))
def test_any_bytes_are_read(text: bytes) -> None:
    stated_batch([text, b"batch size " + text], 8, 4, 2)
