"""Compares every finding that the package makes in these tests with the registry of checks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_smoke.outcome import Finding
from tests.judge.registered import is_registered

NOT_MADE_BY_A_CHECK = ("pytest_smoke.outcome", "pytest_smoke.criteria.criterion")
"""Modules that read findings back, or make those of a criterion that belongs to no check yet."""


@pytest.fixture(scope="package", autouse=True)
def findings_are_registered() -> Iterator[None]:
    """Fail a test in which a check gives a reason, or a status for it, that its registry row does not have."""
    initialize = Finding.__init__

    def checked(self: Finding, **values: Any) -> None:
        initialize(self, **values)
        maker = sys._getframe(1).f_globals["__name__"]
        if maker.startswith("pytest_smoke.") and maker not in NOT_MADE_BY_A_CHECK:
            assert is_registered(self), f"{maker}: no row for {self.id}, {self.status}, {self.reason!r}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Finding, "__init__", checked)
        yield
