"""Load what a test gave as an object, in the training process. Imports no torch."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

REFERENCE = f"{__name__}:load"
"""The import path that a plan names."""


def load(path: str, **args: Any) -> Any:
    """Return the pickled task in a file, or what the pickled factory in it returns for `args`."""
    is_factory, pickled = pickle.loads(Path(path).read_bytes())
    return pickled(**args) if is_factory else pickled
