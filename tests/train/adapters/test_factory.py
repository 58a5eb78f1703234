"""What is said where the extra of a trainer is not installed."""

from __future__ import annotations

import pytest

from pytest_smoke.errors import TaskError
from pytest_smoke.train.adapters.factory import require


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(TaskError) as caught:
        require(("not_installed_anywhere", "nor_this"), "hf")
    assert str(caught.value) == (
        "the recipe key hf needs not_installed_anywhere, which is not installed: pip install 'pytest-verdict-smoke[hf]'"
    )
    assert caught.value.key == "hf"


def test_one_of_several_packages_is_enough() -> None:
    require(("not_installed_anywhere", "torch"), "lightning")
