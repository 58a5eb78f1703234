"""Exceptions as plain data: what was raised, where in the user's code, and the traceback from there on."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import torch

from pytest_smoke.errors import DeviceError, TaskError
from pytest_smoke.events import Crashed
from pytest_smoke.plain import exception_text

TRACEBACK_LINES = 30
"""Newest lines of a traceback that are kept."""


def crash_of(error: BaseException, root: str) -> Crashed:
    """Return the event of an exception. Paths of files below `root` are relative to it."""
    user_frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not _is_library(frame.f_code.co_filename)
    ]
    place = ""
    if user_frames:
        place = place_of_frame(*user_frames[-1], root)
    return Crashed(
        reason=_reason(error),
        text=str(error) if isinstance(error, TaskError) else exception_text(error),
        place=place,
        traceback="" if isinstance(error, TaskError) else _traceback(error),
        key=error.key if isinstance(error, TaskError) else "",
    )


def place_of_frame(filename: str, line: int, root: str) -> str:
    """Return `file:line` of a frame, relative to `root` if it is below; empty in a library."""
    if _is_library(filename):
        return ""
    path = Path(filename)
    return f"{path.relative_to(root) if path.is_relative_to(root) else path}:{line}"


def _traceback(error: BaseException) -> str:
    """Return the newest lines of the traceback, without the frames above the user's outermost one."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None and _is_library(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    lines = "".join(traceback.format_exception(type(error), error, tb)).splitlines()
    return "\n".join(lines[-TRACEBACK_LINES:])


def _reason(error: BaseException) -> str:
    if isinstance(error, TaskError):
        return "missing-device" if isinstance(error, DeviceError) else "invalid-task"
    # torch's CPU allocator raises a plain RuntimeError with this text.
    lacks_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    out_of_memory = lacks_memory or "can't allocate memory" in exception_text(error)
    return "out-of-memory" if out_of_memory else "exception"


def _is_library(filename: str) -> bool:
    package = str(Path(__file__).resolve().parents[1])
    return "site-packages" in filename or filename.startswith((package, sys.base_prefix, "<"))
