"""Look at the labels that a loss function of torch is given."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from pytest_smoke.train.endings import place_of_frame

LABEL_LOSSES = (F.cross_entropy, F.nll_loss)
"""Functions of torch whose integer targets are labels."""


def labels_missing(func: Any, args: Any, kwargs: Any) -> str:
    """Return a clause that says that there are no labels, or that all are ignored; empty if some label counts."""
    given = inspect.signature(func).bind(*args, **kwargs)
    given.apply_defaults()
    labels, ignored = given.arguments["target"], given.arguments["ignore_index"]
    if not isinstance(labels, Tensor) or labels.is_floating_point():
        return ""
    if not labels.numel():
        return "there are no labels"
    if bool((labels != ignored).any()):
        return ""
    labels_are = f"all {labels.numel():,} labels are" if labels.numel() > 1 else "the label is"
    return f"{labels_are} {ignored}, which the loss ignores"


def place_of_caller(root: str) -> str:
    """Return `file:line` of the innermost frame in the user's code; empty if there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        if place := place_of_frame(frame.f_code.co_filename, frame.f_lineno, root):
            return place
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return ""
