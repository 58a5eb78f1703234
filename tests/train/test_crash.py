"""How an exception is described to the user."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pytest_smoke.errors import TaskError
from pytest_smoke.train.crash import crash_of


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
