"""Where a smoke's predictions lie, and what their errors say."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_smoke.errors import ExamplesError
from pytest_smoke.files import file_name
from pytest_smoke.judge.checks.prediction_errors import errors, unreadable
from pytest_smoke.ner.examples import read_lines
from pytest_smoke.ner.tally import report_of
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case


@contextmanager
def predictions_of(case: Case, report_folder: Path | None, id: str) -> Iterator[Path | None]:
    """The file that the task's predictions are written to, not there yet; None for a wiring run, which has learnt none.

    It stays in `report_folder`, as `predictions/*.jsonl`, or is gone at the end. Raises OSError.
    """
    if case.mode == "wiring":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="smoke-predictions-") as temporary:
        path = (report_folder or Path(temporary)) / "predictions" / f"{file_name(id)}.jsonl"
        path.unlink(missing_ok=True)  # an older run's must not be taken for this one's
        yield path


def errors_in(path: Path | None) -> list[Finding]:
    """The finding `errors`; none where the task has no predictions or the run did not come to them."""
    if path is None or not path.exists():
        return []
    try:
        with path.open("rb") as lines:
            return [errors(report_of(read_lines(lines, path.name)))]
    except ExamplesError as error:
        return [unreadable(f"predictions(model): {str(error).splitlines()[0]}")]
