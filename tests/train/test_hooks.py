"""An error inside a part of a task is not taken for a task without that part."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from pytest_smoke.train.hooks import has_hook, hook_of


class Broken:
    @property
    def loss_weights(self) -> Any:
        return self.wieghts  # type: ignore[attr-defined]


class BrokenModule(nn.Module):
    """torch asks its own `__getattr__` for a property that raised, which then blames the property's name."""

    @property
    def loss_weights(self) -> Any:
        return self.wieghts


class Delegates:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Dynamic:
    """Has any public attribute that its own `__getattr__` knows."""

    def __getattr__(self, name: str) -> Any:
        if name == "loss_weights":
            return {"ce": 2.0}
        if name == "counts":
            return object().missing_table  # type: ignore[attr-defined]
        raise AttributeError(name)


class Slots:
    __slots__ = ("loss_weights",)


@pytest.mark.parametrize("owner", [Broken(), BrokenModule(), Delegates(Broken()), Delegates(BrokenModule()), Slots()])
def test_an_attribute_error_inside_a_property_is_raised(owner: Any) -> None:
    with pytest.raises(AttributeError):
        hook_of(owner, "loss_weights")


@pytest.mark.parametrize("owner", [object(), nn.Linear(1, 1), Delegates(nn.Linear(1, 1)), Dynamic(), Slots()])
def test_an_attribute_that_does_not_exist_is_absent(owner: Any) -> None:
    assert hook_of(owner, "evaluate") is None
    assert not has_hook(owner, "evaluate")


def test_an_attribute_made_by_getattr_is_present_and_an_error_inside_it_is_raised() -> None:
    assert hook_of(Dynamic(), "loss_weights") == {"ce": 2.0}
    assert has_hook(Delegates(Dynamic()), "loss_weights")
    with pytest.raises(AttributeError, match="missing_table"):
        hook_of(Dynamic(), "counts")


def test_asking_whether_a_property_exists_does_not_evaluate_it() -> None:
    assert has_hook(Broken(), "loss_weights")
