"""How a process ended, in words, and where in the user's code it was. Imports no torch."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

SAME_PASSES = "do all of them make the same forward and backward passes, through the same modules?"
"""The question to ask if ranks wait for different things, or send each other different data."""
SAME_PASSES_HINT = "make every rank call the same modules, in the same order and as often, in losses() and evaluate()"


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


def place_in_stack(stack: str, root: str) -> str:
    """Return `file:line` of the innermost frame outside the libraries in a stack of faulthandler; empty without one."""
    frames = re.findall(r'^  File "(.+)", line (\d+)', stack, re.MULTILINE)
    return next((place for file, line in frames if (place := place_of_frame(file, int(line), root))), "")


def place_of_frame(filename: str, line: int, root: str) -> str:
    """Return `file:line` of a frame, relative to `root` if it is below; empty in a library."""
    if is_library(filename):
        return ""
    path = Path(filename)
    return f"{path.relative_to(root) if path.is_relative_to(root) else path}:{line}"


def is_library(filename: str) -> bool:
    """Tell whether a file of code is Python's, of an installed package, or of this one."""
    package = str(Path(__file__).resolve().parents[1])
    scripts = str(Path(sys.prefix) / "bin")  # such as `pytest` itself
    return "site-packages" in filename or filename.startswith((package, sys.base_prefix, scripts, "<"))
