"""What several folders of tests use to run pytest sessions of their own."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator

import pytest

from tests import shared_fork_server
from tests.session_server import SessionServer

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a background job of a script, and of all it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)

UNUSED_PLUGINS = ("hypothesispytest", "faker", "anyio")
"""Plugins of libraries that the suite needs and a user's project does not; importing them takes 0.5 s."""
OPTIONS = ("--smoke-device", "cpu", "-p", "shared_fork_server", *(f"-pno:{name}" for name in UNUSED_PLUGINS))
"""Options of the sessions that `run_pytest` runs. A test that starts one itself requests that fixture, too: it provides
the plugin."""

for _name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
    os.environ.pop(_name, None)  # or the suite's own sessions would write to the summary of the step that runs it


@pytest.fixture(scope="session")
def fork_server() -> dict[str, str]:
    """Environment variables that let other processes use this process's fork server."""
    return shared_fork_server.environment()


@pytest.fixture(scope="session")
def session_server() -> Iterator[SessionServer]:
    """Process that runs pytest sessions without importing pytest for each of them."""
    server = SessionServer()
    yield server
    server.close()


@pytest.fixture
def run_pytest(
    pytester: pytest.Pytester,
    fork_server: dict[str, str],
    session_server: SessionServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., pytest.RunResult]:
    """Run pytest on one CPU in a process of its own, whose training processes come from the suite's fork server."""
    for name, value in fork_server.items():
        monkeypatch.setenv(name, value)
    shutil.copy(shared_fork_server.__file__, pytester.path)

    def run(*args: str, fresh: bool = False) -> pytest.RunResult:
        """Run `pytest ARGS`; with `fresh` in a new interpreter, which has imported nothing."""
        if fresh:
            return pytester.runpytest_subprocess(*OPTIONS, *args)
        return session_server.run([f"--basetemp={pytester.path / 'basetemp'}", *OPTIONS, *args], cwd=pytester.path)

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file whose one session takes longest, or a worker is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_controls.py")
