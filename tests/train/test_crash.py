"""How an exception is described to the user."""

from __future__ import annotations

import pytest

from pytest_smoke.errors import TaskError
from pytest_smoke.train.crash import crash_of


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
