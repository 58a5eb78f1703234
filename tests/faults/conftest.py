"""Sessions in folders of their own, for one test or for a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.session import FaultSession
from tests.session_server import SessionServer


@pytest.fixture(scope="session")
def fault_session(
    tmp_path_factory: pytest.TempPathFactory, session_server: SessionServer, fork_server: dict[str, str]
) -> Callable[[str], FaultSession]:
    """Return a function that makes a folder for sessions; leaving its `with` block asserts that they left nothing."""

    def made(name: str) -> FaultSession:
        return FaultSession(tmp_path_factory.mktemp(name), session_server, fork_server)

    return made


@pytest.fixture
def session(fault_session: Callable[[str], FaultSession]) -> Iterator[FaultSession]:
    """Yield a folder for the sessions of one test, which asserts at its end that they left nothing."""
    with fault_session("session") as session:
        yield session
