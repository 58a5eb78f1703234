"""Writes one folder with a TensorBoard event file for each smoke run of a session."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pytest_smoke.files import file_name, file_sha256, read_regular, write_atomic
from pytest_smoke.outcome import Outcome
from pytest_smoke.plain import exception_text

FOLDER = "tensorboard"
"""Folder of a report that has one folder per smoke run."""
SUFFIX = ".smoke"
"""Ending of the event files that this module writes. It removes no others."""


def check_installed() -> None:
    """Raise UsageError if event files cannot be written, because the package is missing or broken."""
    try:
        from tensorboard.plugins.hparams import summary_v2  # noqa: F401  # imports most of what report/event_file needs
    except ImportError as error:
        raise pytest.UsageError(
            f"--smoke-tensorboard needs the package tensorboard (pip install tensorboard): {error}"
        ) from None
    except Exception as error:  # protobuf raises TypeError if another version wrote the package's messages
        raise pytest.UsageError(
            f"--smoke-tensorboard: the package tensorboard cannot be imported: {exception_text(error)}"
        ) from None


def remove_event_files(report: Path) -> None:
    """Remove the event files of an earlier session: TensorBoard would show them next to those of this one.

    Raises OSError.
    """
    for path in (report / FOLDER).glob(f"*/*tfevents*{SUFFIX}"):
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


def write_event_file(outcome: Outcome, report: Path) -> str:
    """Write the event file of a smoke run; return a sentence if it could not be written, otherwise nothing."""
    from pytest_smoke.report.event_file import event_file

    now = time.time()
    # Named as TensorBoard names them: it finds event files by `tfevents` and reads those of a folder by name.
    path = report / FOLDER / file_name(outcome.id) / f"events.out.tfevents.{now:.0f}{SUFFIX}"
    try:
        write_atomic(path, event_file(outcome, _trace_of(outcome, report), written_at=now))
    except OSError as error:
        return f"{path} could not be written: {error.strerror or error}"
    except Exception as error:  # a report must not cost the session its exit status and its other reports
        return f"{path} could not be rendered: {exception_text(error)}"
    return ""


def _trace_of(outcome: Outcome, report: Path) -> str | None:
    """Return the text of the run's trace; None if there is none, or the file is not the one that the run wrote."""
    facts = outcome.facts
    if facts.trace is None:
        return None
    try:
        path = report / facts.trace
        return read_regular(path).decode() if file_sha256(path) == facts.trace_sha256 else None
    except OSError:
        return None
