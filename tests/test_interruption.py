"""Signals interrupt a session once, and not while it keeps results. Real signals, to this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from pytest_smoke.interruption import FORCING, FORCING_SECONDS, SIGNALS, Interruption


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    """Return handlers that are installed, whatever this process does with signals."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    handlers = Interruption()
    restore = handlers.install()
    yield handlers
    restore()
    assert all(signal.getsignal(number) == signal.SIG_DFL for number in SIGNALS)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_keyboard_interrupt_and_all_but_ctrl_c_are_named(
    interruption: Interruption, number: signal.Signals
) -> None:
    with pytest.raises(KeyboardInterrupt) as raised:
        signal.raise_signal(number)
    assert str(raised.value) == ("" if number == signal.SIGINT else number.name)


def test_a_signal_waits_until_results_are_kept(interruption: Interruption) -> None:
    kept = []

    def keep() -> None:
        with interruption.held():
            with interruption.held():
                signal.raise_signal(signal.SIGTERM)
                kept.append("inner")
            kept.append("outer")

    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        keep()
    assert kept == ["inner", "outer"]


def test_a_run_is_interrupted_within_a_block_that_waits_and_further_signals_are_ignored(
    interruption: Interruption,
) -> None:
    kept = []

    def run() -> None:
        with interruption.released():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)
                kept.append("training process ended")

    with interruption.held():
        with pytest.raises(KeyboardInterrupt):
            run()
        signal.raise_signal(signal.SIGTERM)
        kept.append("outcome")
    signal.raise_signal(signal.SIGINT)
    assert kept == ["training process ended", "outcome"]


def test_a_run_that_catches_the_interrupt_counts_as_interrupted(interruption: Interruption) -> None:
    with interruption.released() as was_interrupted, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert was_interrupted()


def test_a_signal_between_two_runs_interrupts_the_second_before_it_starts(interruption: Interruption) -> None:
    def second() -> None:
        with interruption.released():
            raise AssertionError("started")

    with interruption.held():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            second()


def test_ctrl_c_of_a_test_that_catches_it_does_not_deafen_the_session(interruption: Interruption) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_again_and_again_ends_a_session_that_does_not_end(
    interruption: Interruption, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("pytest_smoke.interruption.time.monotonic", lambda: now)
    interruption.keep_results()
    for _ in range(2 * FORCING):
        signal.raise_signal(signal.SIGINT)
    now += FORCING_SECONDS
    signal.raise_signal(signal.SIGTERM)  # a CI that is about to kill the job
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_forked_copy_dies_of_a_signal_as_without_the_handlers(interruption: Interruption) -> None:
    pid = os.fork()
    if pid == 0:
        signal.raise_signal(signal.SIGTERM)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM


def test_signals_that_somebody_handles_or_ignores_are_left_alone() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        restore = Interruption().install()
        signal.raise_signal(signal.SIGHUP)
        restore()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
