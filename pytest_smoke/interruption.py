"""What Ctrl-C, SIGTERM and SIGHUP do in a pytest process: one KeyboardInterrupt, at a place where no result is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What interrupts a session: Ctrl-C; the end of a CI job or of a Slurm job; a terminal that was closed."""
DEFAULT_HANDLERS = (signal.SIG_DFL, signal.default_int_handler)
"""Handlers that are replaced. A shell script's background job ignores SIGINT, `nohup` ignores SIGHUP: that stays."""
FORCING = 3
"""So many further Ctrl-C end the session at once, without the results of the run in progress ..."""
FORCING_SECONDS = 3.0
"""... but not in the first seconds, in which impatient users press it several times."""
ARRIVAL_SECONDS = 0.5
"""Time between the signals that the processes of one job get when it is cancelled. Slurm sends them in one loop."""


class Interruption:
    """Handles the signals of this process.

    A signal raises KeyboardInterrupt in the main thread, as Python does on Ctrl-C. Within `held` it waits for the end
    of the block. Once it has interrupted a smoke run, further ones are ignored: the results are being kept.
    """

    def __init__(self) -> None:
        self._previous: dict[int, Any] = {}
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._held = 0
        self._pending: int | None = None
        self._in_run = False
        self._interrupted_at: float | None = None
        """When the smoke run in progress, or the session, was interrupted; None before that."""
        self._repeated = 0
        """Further Ctrl-C since then."""

    def install(self) -> Callable[[], None]:
        """Handle the signals that nobody else handles; return a function that restores the handlers.

        Only the main thread can do that: in another one, nothing changes.
        """
        if threading.current_thread() is threading.main_thread():
            self._reset()  # a process may run several sessions
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if handler in DEFAULT_HANDLERS:
                    self._previous[number] = handler
                    signal.signal(number, self._on_signal)
        return self._restore

    def keep_results(self) -> None:
        """Ignore further signals from now on: the session has been interrupted and writes its results."""
        self._interrupted_at = self._interrupted_at or time.monotonic()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a signal wait until the end of the block."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._raise_pending()

    @contextmanager
    def released(self) -> Iterator[Callable[[], bool]]:
        """Let one signal interrupt the block, also within `held`; yield a function that tells whether one has.

        Code in the block may have caught the KeyboardInterrupt.
        """
        held, self._held = self._held, 0
        self._in_run, self._interrupted_at, self._repeated = True, None, 0
        try:
            self._raise_pending()
            yield lambda: self._interrupted_at is not None
        finally:
            self._in_run, self._held = False, held

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, handler)
        self._previous.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a copy that a test or a task forked: as if there were no handler
            signal.signal(number, self._previous.get(number, signal.SIG_DFL))
            os.kill(os.getpid(), number)
        elif self._interrupted_at is not None:
            self._on_further_signal(number)
        elif self._held:
            self._pending = number
        else:
            self._interrupt(number)

    def _on_further_signal(self, number: int) -> None:
        assert self._interrupted_at is not None
        if number != signal.SIGINT:  # of a CI that is about to kill the job
            return
        self._repeated += 1
        if self._repeated >= FORCING and time.monotonic() - self._interrupted_at >= FORCING_SECONDS:
            self._repeated = 0
            raise KeyboardInterrupt

    def _raise_pending(self) -> None:
        if self._pending is not None and not self._held:
            number, self._pending = self._pending, None
            self._interrupt(number)

    def _interrupt(self, number: int) -> None:
        if self._in_run:
            self._interrupted_at = time.monotonic()
        raise KeyboardInterrupt(*([] if number == signal.SIGINT else [signal.Signals(number).name]))


INTERRUPTION = Interruption()
"""Signals belong to the process, so there is one."""
