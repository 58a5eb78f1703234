"""Where the files of a smoke run go (checkpoints, package, predictions), without leaving old or partial ones behind."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_smoke.errors import ExamplesError
from pytest_smoke.files import STALE, file_name, is_file_name, open_regular, read_failure, remove
from pytest_smoke.judge.checks.prediction_errors import prediction_errors, unreadable_predictions
from pytest_smoke.ner.examples import read_lines
from pytest_smoke.ner.tally import report_of
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.train.checkpoints.layout import (
    CHECKED,
    JOURNAL,
    LAST_GOOD,
    TRAINED,
    CheckpointPlan,
    ResumeCheck,
    clear,
)
from pytest_smoke.train.plan import PipelinePlan
from pytest_smoke.train.temporary import temporary_folder

ITEM_RESULTS = (
    *("traces/{name}.csv", "logs/{name}.log", "predictions/{name}.jsonl", "packages/{name}"),
    *(f"checkpoints/{{name}}/{kind}" for kind in (TRAINED, LAST_GOOD)),
)
"""Files and folders of an item's results, relative to the report folder; `{name}` is the item's `file_name`."""


def checkpoints_of(item_id: str) -> str:
    """Return the folder of an item's checkpoints, relative to the report folder."""
    return f"checkpoints/{file_name(item_id)}"


def trace_of(item_id: str) -> str:
    """Return the file of an item's trace, relative to the report folder."""
    return f"traces/{file_name(item_id)}.csv"


def output_of(item_id: str) -> str:
    """Return the file with what an item's command printed, relative to the report folder."""
    return f"logs/{file_name(item_id)}.log"


@contextmanager
def command_output(report: Path | None, *, item_id: str) -> Iterator[Path]:
    """Yield the file for what a command prints. It stays in the `report` folder, or is removed. Raises OSError."""
    with temporary_folder("command-") as temporary:
        path = (report or temporary) / output_of(item_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path


def earlier_results(report: Path) -> Iterator[str]:
    """Yield every file and folder of results in a report folder, relative to it, whichever session left them.

    What an interrupted run is resumed from is not among them, and no file that has another name than an item's.
    """
    for pattern in ITEM_RESULTS:
        above, _, final = pattern.partition("{name}")
        for path in sorted((report / above).glob(f"*{final}")):
            relative = path.relative_to(report).as_posix()
            if is_file_name(relative.removeprefix(above).removesuffix(final)):
                yield relative


def remove_files(report: Path, item_id: str) -> None:
    """Remove what there is of an item that runs again, also in `stale`. Raises OSError.

    What an interrupted run is resumed from stays.
    """
    for folder in (report, report / STALE):
        for pattern in ITEM_RESULTS:
            remove(folder / pattern.format(name=file_name(item_id)))
        _remove_if_empty(folder / checkpoints_of(item_id))


@contextmanager
def saving_of(case: Case, report: Path | None, *, item_id: str, resume: bool) -> Iterator[CheckpointPlan]:
    """Yield what the run saves: checkpoints if there is a `report` folder, and what the `resume` check needs.

    `resume`: continue from an earlier session's checkpoints and leave such checkpoints behind. What the check needs is
    then kept next to them, in case the run is interrupted after it, and removed once nothing is left to resume.
    """
    folder = (report / checkpoints_of(item_id)).absolute() if report is not None else None
    if folder is not None:
        clear(folder, rolling=not resume)
    with temporary_folder("checkpoint-") as temporary:
        scratch = str(folder) if folder is not None and resume else str(temporary)
        try:
            yield CheckpointPlan(
                id=item_id,
                recipe=case.path,
                folder=str(folder) if folder is not None else None,
                rolling=resume and folder is not None,
                check=_check_of(case, scratch),
            )
        finally:
            if not (Path(scratch) / JOURNAL).exists():
                shutil.rmtree(Path(scratch) / CHECKED, ignore_errors=True)


@contextmanager
def pipeline_plan(case: Case, folder: Path | None) -> Iterator[PipelinePlan | None]:
    """Yield the plan of the export pipeline that `case` asks for, None if it asks for none. Raises OSError.

    The package goes to `folder`, or to a temporary one. An older package is removed first, so that it cannot be taken
    for that of a run that fails; what a killed process left half-written is removed at the end.
    """
    if case.pipeline is None:
        yield None
        return
    with temporary_folder("package-") as temporary:
        plan = PipelinePlan.of(case, str(folder or temporary / "package"))
        assert plan is not None
        remove(Path(plan.folder))
        remove(plan.partial)
        with contextlib.suppress(OSError):  # the stage that writes to it says so
            Path(plan.folder).parent.mkdir(parents=True, exist_ok=True)
        try:
            yield plan
        finally:
            remove(plan.partial)


@contextmanager
def predictions_of(case: Case, report: Path | None, *, item_id: str) -> Iterator[Path | None]:
    """Yield the file for the task's predictions, which does not exist yet; None for a wiring run. Raises OSError.

    It stays in the `report` folder, as `predictions/*.jsonl`, or is removed at the end.
    """
    if case.mode == "wiring":
        yield None
        return
    with temporary_folder("predictions-") as temporary:
        path = (report or temporary) / "predictions" / f"{file_name(item_id)}.jsonl"
        remove(path)  # those of an older run must not be taken for this one's
        yield path


def judge_predictions(path: Path | None) -> list[Finding]:
    """Return the finding `prediction-errors`; nothing if the task made no predictions or the run did not get there."""
    if path is None or not path.exists():
        return []
    try:
        with open_regular(path) as lines:
            return [prediction_errors(report_of(read_lines(lines, path.name)))]
    except ExamplesError as error:
        return [unreadable_predictions(f"predictions(model): {str(error).splitlines()[0]}")]
    except OSError as error:  # the task has put something else there
        return [unreadable_predictions(f"predictions(model): {path.name} {read_failure(error)}")]


def _check_of(case: Case, folder: str) -> ResumeCheck | None:
    """Return where the recipe's `checks.resume` cuts the run; None if it is off, or the run has no such step."""
    window = case.resume_window
    return ResumeCheck(folder=folder, step=window[0], steps=window[1]) if window else None


def _remove_if_empty(folder: Path) -> None:
    """Remove the folder of an item's checkpoints, unless a run can be resumed from it."""
    with contextlib.suppress(OSError):  # it does not exist, or is not empty
        folder.rmdir()
