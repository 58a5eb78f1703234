"""Files of a report folder that are rendered once, when the session ends, from all of its outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pytest_smoke.files import write_atomic
from pytest_smoke.outcome import Outcome
from pytest_smoke.page.report import INDEX, report_page
from pytest_smoke.plain import exception_text
from pytest_smoke.report.sarif import sarif
from pytest_smoke.report.summary_markdown import summary_markdown

Renderer = Callable[[Sequence[Outcome], Path], str]
"""Returns the text of a file from the outcomes, sorted by id, and the report folder, which has their traces."""

RENDERERS: Mapping[str, Renderer] = {
    INDEX: report_page,
    "smoke.sarif": lambda outcomes, _: sarif(outcomes),
    "summary.md": lambda outcomes, folder: summary_markdown(outcomes, folder=folder.name),
}
"""Renderer of each file, by its name in the report folder."""


def remove_reports(folder: Path) -> None:
    """Remove the files of an earlier session, so that they cannot be taken for those of this one. Raises OSError."""
    for name in RENDERERS:
        (folder / name).unlink(missing_ok=True)


def write_reports(outcomes: Sequence[Outcome], folder: Path) -> list[str]:
    """Write every file; return a sentence for each that could not be rendered or written."""
    written = (write_report(folder / name, partial(render, outcomes, folder)) for name, render in RENDERERS.items())
    return [problem for problem in written if problem]


def write_report(path: Path, render: Callable[[], str]) -> str:
    """Write one file; return why it could not be rendered or written, empty if it was."""
    try:
        write_atomic(path, render())
    except OSError as error:
        return f"{path} could not be written: {error.strerror or error}"
    except Exception as error:  # a report must not cost the session its exit status and its other reports
        return f"{path} could not be rendered: {exception_text(error)}"
    return ""
