"""How a process ended, in words. Imports no torch."""

from __future__ import annotations

import signal


def how_it_ended(exit_code: int) -> str:
    """Return a clause without its subject for an exit status, which is negative for a signal."""
    if exit_code >= 0:
        return f"ended with exit status {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:  # a real-time signal has a number only
        name = f"signal {-exit_code}"
    cause = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
    return f"was killed by {name}{cause}"
