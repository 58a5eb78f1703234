"""`python -m pytest_smoke package` on a folder, in a process that has seen nothing of the training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pytest_smoke.errors import ExportError

SILENT = "it said nothing"


def fresh_check(folder: str, root: str, wanted: Sequence[str], on_line: Callable[[], None]) -> list[dict[str, Any]]:
    """What the command says of each part, `wanted` among them; `on_line` is called as each line comes.

    Raises Broken where a part is not sound, or was not got to.
    """
    parts: list[dict[str, Any]] = []
    line = SILENT
    for line in _lines(folder, root):
        on_line()
        try:
            part = json.loads(line)
            parts.append({key: part[key] for key in ("part", "ok", "text", "difference")})
        except (ValueError, KeyError, TypeError):
            continue  # what the task prints as it is imported
    wrong = [f"{part['part']} {part['text']}" for part in parts if not part["ok"]]
    if wrong:
        raise ExportError("differs", "; ".join(wrong), {"parts": parts})
    missing = sorted(set(wanted) - {part["part"] for part in parts})
    if missing:  # Python's own exit status for an exception is 1, as is the command's for a part that is not sound
        raise ExportError("crash", f"the fresh process did not get to {', '.join(missing)}; its last line: {line}")
    return parts


def _lines(folder: str, root: str) -> Iterator[str]:
    """Its output as it comes. Raises Broken where it was killed, or found no package."""
    command = [sys.executable, "-m", "pytest_smoke", "package", folder, "--root", root, "--format", "json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    last = SILENT
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in filter(str.strip, process.stdout):
            last = line.strip()
            yield last
    if process.returncode not in (0, 1):
        raise ExportError("crash", f"the fresh process ended with exit status {process.returncode}: {last}")
