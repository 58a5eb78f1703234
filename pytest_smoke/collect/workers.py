"""What workers of pytest-xdist tell their controller beyond their reports: what they execute, and what they keep.

A worker that is interrupted sends no more reports, and its controller reads none. So both use files in a temporary
folder of the controller: `WORKER.run` while a worker executes a smoke run, and `RUN.outcomes` from the end of a run
until the controller has read the report with its outcome. They are JSON: nothing is unpickled. A worker on another
machine has no such folder and writes none.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.files import file_name
from pytest_smoke.outcome import Outcome
from pytest_smoke.train.temporary import remove_without_owner, temporary_folder

FOLDER = "smoke_folder"
"""Key of the folder's path in a worker's input."""
RUN, OUTCOMES = ".run", ".outcomes"
"""Suffixes of the files."""
ENDING_SECONDS = 15.0
"""Time in which an interrupted worker must write its outcomes: to end a training process takes up to 10 s."""
EXIT_SECONDS = 1.0
"""Time in which a worker must have exited whose pipe is closed."""
LOOK_SECONDS = 0.02
"""Time between two looks at whether it has."""


class WorkerFolder:
    """The controller's side. Registered as a plugin, because pytest-xdist asks for each worker's input."""

    def __init__(self, config: pytest.Config) -> None:
        self._stack = ExitStack()
        self._path: Path | None = None
        self._has_crashed = False
        """Whether a worker ended without the chance to remove its temporary folders."""
        self._lost_steps: dict[str, int] = {}
        """Steps that a run had reported when its worker died, by the item's id."""
        config.add_cleanup(self._close)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker which folder it shall write to; a worker without one writes nothing."""
        if self._path is None:
            with contextlib.suppress(OSError):  # no temporary folder: no progress, as with remote workers
                self._path = self._stack.enter_context(temporary_folder("workers-"))
        if self._path is not None:
            node.workerinput[FOLDER] = str(self._path)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Forget what a worker executed that has ended, but for a run that it did not finish."""
        self._has_crashed = self._has_crashed or bool(error)
        if self._path is None:
            return
        path = self._path / f"{node.gateway.id}{RUN}"
        if error:
            for tree in self._read(path.name):
                with contextlib.suppress(KeyError, TypeError):
                    self._lost_steps[str(tree["id"])] = int(tree["steps"])
        path.unlink(missing_ok=True)

    def lost_steps(self, item_id: str) -> int | None:
        """Return how many steps a run had reported when its worker died; None if it is not known."""
        return self._lost_steps.get(item_id)

    @property
    def has_workers(self) -> bool:
        """Whether there are workers."""
        return self._path is not None

    def running(self) -> list[dict[str, Any]]:
        """Return what each worker executes, as it has written it."""
        return [tree for tree in self._read(RUN) if isinstance(tree, dict)]

    def end_runs(self) -> None:
        """Interrupt the workers that execute a smoke run, and wait until their outcomes are written.

        A Ctrl-C has reached them already; SIGINT to the controller alone, or the end of its session, has not.
        """
        waiting = {}
        for tree in self.running():
            with contextlib.suppress(KeyError, TypeError, OSError):  # it has ended
                os.kill(tree["pid"], signal.SIGINT)
                waiting[tree["pid"]] = tree["worker"]
        deadline = time.monotonic() + ENDING_SECONDS
        while waiting and time.monotonic() < deadline:
            executing = {tree.get("pid") for tree in self.running()}
            waiting = {pid: worker for pid, worker in waiting.items() if pid in executing and not _has_exited(pid)}
            time.sleep(LOOK_SECONDS if waiting else 0)

    def forget(self, outcomes: Sequence[Outcome]) -> None:
        """Remove what was kept of outcomes that have arrived on a report."""
        if self._path is None:
            return
        for outcome in outcomes:
            with contextlib.suppress(OSError):
                (self._path / kept_name(outcome)).unlink(missing_ok=True)

    def outcomes(self) -> Iterator[tuple[str, list[Outcome]]]:
        """Iterate over the items with outcomes that have not arrived; an item may come several times."""
        for tree in self._read(OUTCOMES):
            with contextlib.suppress(KeyError, TypeError, ValueError):  # not written by this version
                yield str(tree["item"]), [Outcome.from_dict(one) for one in tree["outcomes"]]

    def _close(self) -> None:
        self._stack.close()
        if self._has_crashed:
            with contextlib.suppress(OSError):
                remove_without_owner(Path(tempfile.gettempdir()))

    def _read(self, suffix: str) -> list[Any]:
        trees = []
        for path in sorted(self._path.glob(f"*{suffix}")) if self._path is not None else []:
            with contextlib.suppress(OSError, ValueError, RecursionError):  # replaced meanwhile
                trees.append(json.loads(path.read_bytes()))
        return trees


class Worker:
    """The worker's side."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name

    def show(self, status: Mapping[str, Any]) -> None:
        """Tell what is executed."""
        self._write(f"{self._name}{RUN}", {**status, "pid": os.getpid(), "worker": self._name})

    def hide(self) -> None:
        """Tell that nothing is executed, and that all outcomes are kept."""
        with contextlib.suppress(OSError):
            (self._folder / f"{self._name}{RUN}").unlink(missing_ok=True)

    def keep(self, item: str, outcomes: Sequence[Outcome]) -> None:
        """Keep the outcomes of an item that are not on a report yet."""
        tree = {"item": item, "outcomes": [outcome.to_dict() for outcome in outcomes]}
        self._write(kept_name(outcomes[-1]), tree)

    def _write(self, name: str, tree: Any) -> None:
        path = self._folder / name
        temporary = path.with_suffix(".new")
        with contextlib.suppress(OSError):  # the controller has removed the folder; the disk is full
            temporary.write_text(json.dumps(tree))
            temporary.replace(path)


def kept_name(outcome: Outcome) -> str:
    """Return the file that keeps an outcome, and those of the same item before it, until they arrive."""
    return f"{file_name(outcome.id)}{OUTCOMES}"


def exit_status(node: Any) -> int | None:
    """Return the exit status of a worker that has ended, negative for a signal; None if it is not known.

    execnet has no public name for the process, and a worker on another machine has none here.
    """
    process = getattr(getattr(getattr(node, "gateway", None), "_io", None), "popen", None)
    if not isinstance(process, subprocess.Popen):
        return None
    with contextlib.suppress(subprocess.TimeoutExpired):  # it has closed its pipe, and cleans up
        return process.wait(EXIT_SECONDS)
    return None


def worker_of(config: pytest.Config) -> Worker | None:
    """Return what this process tells its controller with; None if it has none, or one on another machine."""
    given: Mapping[str, Any] = getattr(config, "workerinput", {})
    folder = Path(given.get(FOLDER, "")) if FOLDER in given else None
    return Worker(folder, given["workerid"]) if folder is not None and folder.is_dir() else None


def _has_exited(pid: int) -> bool:
    """Tell whether a process has ended; one that is a child of this process is not waited for."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists()
