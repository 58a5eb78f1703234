"""Where a smoke's checkpoints lie, and that those of an earlier session are not read as its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_smoke.files import file_name
from pytest_smoke.recipe.case import Case
from pytest_smoke.train.checkpoints.layout import CHECKED, JOURNAL, Check, Saving, clear


def checkpoints_of(id: str) -> str:
    """The smoke's checkpoint folder, from the report's."""
    return f"checkpoints/{file_name(id)}"


@contextmanager
def saving_of(case: Case, report: Path | None, *, id: str, resume: bool) -> Iterator[Saving]:
    """What the smoke writes: checkpoints where there is a `report` folder, and what the `resume` check needs.

    `resume`: go on from an earlier session's checkpoints, and leave the like. What the check needs then lies beside
    them, for a run that is cut after it; it goes when nothing is left to go on from.
    """
    folder = (report / checkpoints_of(id)).absolute() if report is not None else None
    if folder is not None:
        clear(folder, rolling=not resume)
    with tempfile.TemporaryDirectory(prefix="smoke-") as temporary:
        scratch = str(folder) if folder is not None and resume else temporary
        check = _check_of(case, scratch)
        try:
            yield Saving(
                id=id,
                recipe=case.path,
                folder=str(folder) if folder is not None else None,
                rolling=resume and folder is not None,
                check=check,
            )
        finally:
            if not (Path(scratch) / JOURNAL).exists():
                shutil.rmtree(Path(scratch) / CHECKED, ignore_errors=True)


def _check_of(case: Case, folder: str) -> Check | None:
    """Where the recipe's `checks.resume` cuts this smoke; None where it is not asked for, or has no such step."""
    window = case.resume_window
    return Check(folder=folder, step=window[0], steps=window[1]) if window else None
