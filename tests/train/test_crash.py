"""How an exception is described to the user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pytest_smoke.errors import TaskError
from pytest_smoke.train.crash import crash_of, has_lost_device


class Unlabelled(Dataset[Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        raise ValueError(f"sample {index} has no label,\n  and no image")


def test_an_exception_in_a_data_loader_worker_is_named_without_the_traceback_in_its_message() -> None:
    with pytest.raises(ValueError, match="Original Traceback") as caught:
        next(iter(DataLoader(Unlabelled(), num_workers=1)))
    crash = crash_of(caught.value, str(Path(__file__).parents[2]))
    assert crash.text == "ValueError: sample 0 has no label,\n  and no image (in DataLoader worker process 0)"
    assert crash.place.startswith("tests/train/test_crash.py:")
    assert "Original Traceback" in crash.traceback


class Odd(Dataset[Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        try:
            raise KeyError("label")
        except KeyError:
            raise ValueError('no label in\n  File "/data/a.csv", line 3, in header\n    a,b') from None


class Rereads(Odd):
    def __getitem__(self, index: int) -> Tensor:
        try:
            return super().__getitem__(index)
        except ValueError as error:
            raise OSError("cannot read the sample again") from error


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (Odd(), 'ValueError: no label in\n  File "/data/a.csv", line 3, in header\n    a,b'),
        (Rereads(), "OSError: cannot read the sample again"),
    ],
)
def test_only_the_traceback_tells_where_an_exception_of_a_worker_was_raised(data: Odd, text: str) -> None:
    with pytest.raises((ValueError, OSError), match="Original Traceback") as caught:
        next(iter(DataLoader(data, num_workers=1)))
    crash = crash_of(caught.value, str(Path(__file__).parents[2]))
    assert crash.text == f"{text} (in DataLoader worker process 0)"
    assert crash.place.startswith("tests/train/test_crash.py:")


def test_the_place_is_that_of_the_cause_if_the_exception_itself_was_raised_by_a_library() -> None:
    def stops() -> Iterator[int]:
        raise StopIteration
        yield

    with pytest.raises(RuntimeError) as caught:
        next(stops())
    caught.value.__traceback__ = None
    crash = crash_of(caught.value, str(Path(__file__).parents[2]))
    assert crash.text == "RuntimeError: generator raised StopIteration"
    assert crash.place.startswith("tests/train/test_crash.py:")


def test_a_group_of_exceptions_is_named_with_its_members() -> None:
    members = [ValueError("a"), KeyError("b"), OSError("c"), OSError("d")]
    text = crash_of(ExceptionGroup("two tasks failed", members), ".").text
    assert (
        text
        == "ExceptionGroup: two tasks failed (4 sub-exceptions): ValueError: a; KeyError: 'b'; OSError: c; and 1 more"
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no labels"), "ValueError: no labels"),
        (MemoryError(), "MemoryError"),
        (KeyError("city"), "KeyError: 'city'"),
        (SystemExit(3), "SystemExit: 3"),
        (TaskError("losses returned nothing"), "losses returned nothing"),
    ],
)
def test_an_exception_is_named_with_its_message_if_it_has_one(error: BaseException, text: str) -> None:
    assert crash_of(error, ".").text == text


FULL = """\
CUDA out of memory. Tried to allocate 400.00 GiB. GPU 0 has a total capacity of 139.80 GiB of which 130.45 GiB is \
free. Process 583 has 520.00 MiB memory in use. Including non-PyTorch memory, this process has 806.00 MiB memory in \
use. If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True. See
documentation"""
ASSERTED = """CUDA error: device-side assert triggered
Search for `cudaErrorAssert' in the documentation.
CUDA kernel errors might be asynchronously reported at some other API call, so the trace may be wrong."""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            torch.OutOfMemoryError(FULL),
            "OutOfMemoryError: CUDA out of memory. Tried to allocate 400.00 GiB. GPU 0 has a total capacity of "
            "139.80 GiB of which 130.45 GiB is free.",
        ),
        (torch.OutOfMemoryError("MPS backend out of memory"), "OutOfMemoryError: MPS backend out of memory"),
        (torch.AcceleratorError(ASSERTED), "AcceleratorError: CUDA error: device-side assert triggered"),
    ],
)
def test_an_error_of_the_device_is_named_without_general_advice(error: BaseException, text: str) -> None:
    assert crash_of(error, ".").text == text


def test_a_device_is_lost_also_if_the_task_raised_an_error_of_its_own_for_it() -> None:
    def wrapped(error: BaseException) -> BaseException:
        try:
            raise error
        except RuntimeError:
            try:
                raise KeyError("batch") from None
            except KeyError as raised:
                return raised

    assert has_lost_device(torch.AcceleratorError(ASSERTED))
    assert has_lost_device(wrapped(torch.AcceleratorError(ASSERTED)))
    assert not has_lost_device(wrapped(torch.OutOfMemoryError(FULL)))
