"""Look up the optional parts of a task without hiding an error that is raised inside them."""

from __future__ import annotations

import inspect
from typing import Any

_ABSENT = object()
_PLAIN_LOOKUPS = (object.__getattribute__, tuple.__getattribute__, list.__getattribute__, dict.__getattribute__)
"""Lookups in the class and in `__dict__` only. The containers that batches are made of have their own, all alike."""


def hook_of(owner: Any, name: str, default: Any = None) -> Any:
    """Return the attribute `name` of a task (or of its loader or batch), `default` if it has none.

    `getattr` with a default also hides an AttributeError that is raised inside a property or a `__getattr__`: a task
    with a broken `loss_weights` would train without weights. Here that error is raised.
    """
    if _is_plainly_absent(owner, name):
        return default
    try:
        return getattr(owner, name)
    except AttributeError as error:
        # A wrapper that delegates to another object fails where that one does.
        if _declares(owner, name) or _declares(error.obj, name) or error.name not in (None, name):
            raise
        return default


def has_hook(owner: Any, name: str) -> bool:
    """Tell whether a task has the attribute `name`; a property is not evaluated."""
    if _is_plainly_absent(owner, name):
        return False
    if any(name in vars(base) for base in type(owner).__mro__) or _declares(owner, name):
        return True
    return hook_of(owner, name, _ABSENT) is not _ABSENT


def _is_plainly_absent(owner: Any, name: str) -> bool:
    """Tell whether nothing can compute the attribute. It is asked at every step: `inspect` takes ten times as long."""
    kind = type(owner)
    lookup: object = kind.__getattribute__
    if not any(lookup is plain for plain in _PLAIN_LOOKUPS) or hasattr(kind, "__getattr__"):
        return False
    return name not in getattr(owner, "__dict__", ()) and all(name not in vars(base) for base in kind.__mro__)


def _declares(owner: Any, name: str) -> bool:
    """Tell whether an object, or its class, has an attribute, without evaluating it."""
    return inspect.getattr_static(owner, name, _ABSENT) is not _ABSENT
