"""Where a smoke's package lies, and that nothing half-written or old stays there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_smoke.recipe.case import Case
from pytest_smoke.train.plan import PipelinePlan


@contextmanager
def pipeline_plan(case: Case, folder: Path | None) -> Iterator[PipelinePlan | None]:
    """The plan of the pipeline that `case` asks for, with room for its package in `folder`; None if it asks for none.

    An older package there is removed first: should this one break off, it must not be taken for it. With no `folder`
    the package lies in a temporary one. What a killed child left half-written is removed at the end. Raises OSError.
    """
    if case.pipeline is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="smoke-package-") as temporary:
        plan = PipelinePlan.of(case, str(folder or Path(temporary) / "package"))
        assert plan is not None
        _remove(Path(plan.folder), plan.partial)
        Path(plan.folder).parent.mkdir(parents=True, exist_ok=True)
        try:
            yield plan
        finally:
            _remove(plan.partial)


def _remove(*folders: Path) -> None:
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)
