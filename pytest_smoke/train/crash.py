"""Exceptions as plain data: what was raised, where in the user's code, and the traceback from there on."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass

import torch

from pytest_smoke.errors import DeviceError, TaskError
from pytest_smoke.events import Crashed
from pytest_smoke.plain import MESSAGE_CHARS, exception_text, plain_text
from pytest_smoke.train.endings import is_library, place_of_frame

OTHER_PROCESSES = re.compile(r"(of which [\d.]+ \w+ is free\.).*", re.DOTALL)
"""In what torch says of a full device, a sentence for each process on it, and advice on its allocator, follow this."""
CHAINED = re.compile(
    r"^\n(?:During handling of the above exception, another exception occurred|"
    r"The above exception was the direct cause of the following exception):\n\n(?=Traceback )",
    re.MULTILINE,
)
"""What Python writes between the tracebacks of an exception and of one that was raised for it."""
TRACEBACK_LINES = 30
"""Newest lines of a traceback that are kept."""
GROUP_SHOWN = 3
"""Exceptions of a group that its message names."""
HINTS = {
    "BdbQuit": "remove breakpoint(): a training process has no terminal; `--smoke-isolation none` trains in pytest's",
}
"""What to do about an exception, by its type."""


@dataclass(frozen=True, slots=True)
class Cause:
    """The value in a batch that torch could not use."""

    text: str
    """The value, its place in the batch, and what is allowed, as a clause."""
    hint: str = ""
    """What to do about it."""
    place: str = ""
    """`file:line` of the call in the user's code."""


class CauseNote(str):
    """A note on an exception that says why it was raised; `crash_of` reads it."""

    cause: Cause

    @classmethod
    def of(cls, cause: Cause) -> CauseNote:
        """Return the note of a cause."""
        note = cls(f"{cause.text} ({cause.place})" if cause.place else cause.text)
        note.cause = cause
        return note


def crash_of(error: BaseException, root: str) -> Crashed:
    """Return the event of an exception. Paths of files below `root` are relative to it."""
    place = next(filter(None, (_place(one, root) for one in _chain(error))), "")
    notes = getattr(error, "__notes__", None)
    notes = notes if isinstance(notes, list) else []
    cause = next((note.cause for note in notes if isinstance(note, CauseNote)), Cause(""))
    text = str(error) if isinstance(error, TaskError) else exception_text(error)
    if isinstance(error, BaseExceptionGroup):
        text = f"{text}: {_members(error)}"
    if isinstance(error, torch.OutOfMemoryError):
        text = OTHER_PROCESSES.sub(r"\1", text)
    if isinstance(error, torch.AcceleratorError):
        text = text.partition("\n")[0]  # advice on debugging follows, the same for every error
    if in_worker := _of_worker(error, root):
        text, place = in_worker[0], in_worker[1] or place
    return Crashed(
        reason=_reason(error),
        text=text,
        place=cause.place or place,
        traceback="" if isinstance(error, TaskError) else _traceback(error),
        key=error.key if isinstance(error, TaskError) else "",
        cause=cause.text,
        hint=cause.hint or HINTS.get(type(error).__name__, ""),
    )


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception and those that led to it, newest first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and all(current is not one for one in chain):
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def _place(error: BaseException, root: str) -> str:
    """Return `file:line` of the innermost frame of an exception in the user's code; empty if there is none."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    return next(filter(None, (place_of_frame(name, line, root) for name, line in reversed(frames))), "")


def _members(group: BaseExceptionGroup[BaseException]) -> str:
    shown = [exception_text(one) for one in group.exceptions[:GROUP_SHOWN]]
    more = len(group.exceptions) - len(shown)
    return plain_text("; ".join(shown) + (f"; and {more} more" if more else ""), limit=MESSAGE_CHARS)


def has_lost_device(error: BaseException) -> bool:
    """Tell whether an exception, or one that led to it, is an error after which a process cannot use its device."""
    return any(isinstance(one, torch.AcceleratorError) for one in _chain(error))


def _of_worker(error: BaseException, root: str) -> tuple[str, str] | None:
    """Return text and place of an exception that torch caught in a worker, whose message has that traceback as text."""
    try:
        message = str(error)
    except BaseException:  # of the exception's own __str__
        return None
    caught = re.match(r"Caught \w+ in (.{1,200}?)\.\nOriginal ", message)
    if caught is None:
        return None
    last = CHAINED.split(message[caught.end() :])[-1]
    written = re.match(r"Traceback \(most recent call last\):\n((?:  .*\n)*)", last)
    if written is None:
        return None
    raised = last[written.end() :].strip()
    frames = [(name, int(line)) for name, line in re.findall(r'^  File "(.+)", line (\d+)', written[1], re.MULTILINE)]
    places = [place for name, line in frames if (place := place_of_frame(name, line, root))]
    return plain_text(f"{raised} (in {caught[1]})", limit=MESSAGE_CHARS), places[-1] if places else ""


def _traceback(error: BaseException) -> str:
    """Return the newest lines of the traceback, without the frames above the user's outermost one."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None and is_library(tb.tb_frame.f_code.co_filename):
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
