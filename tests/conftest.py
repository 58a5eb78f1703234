"""What several folders of tests use to run pytest sessions of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from tests import shared_fork_server

UNUSED_PLUGINS = ("hypothesispytest", "faker", "anyio")
"""Plugins of libraries that the suite needs and a user's project does not; importing them takes 0.5 s."""
TIMEOUT_SECONDS = 600


@pytest.fixture(scope="session")
def fork_server() -> dict[str, str]:
    """Environment variables that let other processes use this process's fork server."""
    return shared_fork_server.environment()


@pytest.fixture
def run_pytest(
    pytester: pytest.Pytester, fork_server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., pytest.RunResult]:
    """Run pytest on one CPU in a process of its own, whose training processes come from the suite's fork server.

    Raises `pytester.TimeoutExpired` after `TIMEOUT_SECONDS`.
    """
    for name, value in fork_server.items():
        monkeypatch.setenv(name, value)
    plugins = ["-p", "shared_fork_server", *(f"-pno:{name}" for name in UNUSED_PLUGINS)]

    def run(*args: str) -> pytest.RunResult:
        shutil.copy(shared_fork_server.__file__, pytester.path)
        return pytester.runpytest_subprocess("--smoke-device", "cpu", *plugins, *args, timeout=TIMEOUT_SECONDS)

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file whose one session takes longest, or a worker is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_controls.py")
