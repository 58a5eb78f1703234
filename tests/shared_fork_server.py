"""Lets the pytest sessions that the suite starts share one fork server.

A session's fork server imports torch, which takes 2.5 s of CPU time, and the suite starts about 150 sessions. They take
their training processes from the fork server of the suite's own process instead. This file is a module of the suite
(`environment`) and, copied into a test's folder, a plugin of the inner session (`pytest_configure`).

Python has no public way to join another process's fork server, so the plugin sets private attributes of
`multiprocessing.forkserver`: the address and the descriptor exist since Python 3.4, the key since 3.13.
"""

from __future__ import annotations

import os
from multiprocessing import forkserver, resource_tracker
from typing import Any

ADDRESS = "SMOKE_SUITE_FORK_SERVER"
KEY = "SMOKE_SUITE_FORK_SERVER_KEY"
PYTHON = "SMOKE_SUITE_PYTHON"
"""Environment variable with the program that the workers of pytest-xdist start as (session_server.py)."""


def environment() -> dict[str, str]:
    """Start this process's fork server if it is not running; return the variables that let another process use it."""
    from pytest_smoke.train.launch import accelerators

    accelerators()
    server: Any = forkserver._forkserver
    key: bytes | None = getattr(server, "_forkserver_authkey", None)
    return {ADDRESS: server._forkserver_address} | ({KEY: key.hex()} if key else {})


def pytest_configure(config: Any) -> None:
    """Use the fork server that the environment names, and its program for workers of pytest-xdist."""
    if PYTHON in os.environ and getattr(config.option, "tx", None):
        config.option.tx = [f"{spec}//python={os.environ[PYTHON]}" for spec in config.option.tx]
    server: Any = forkserver._forkserver
    server._forkserver_address = os.environ[ADDRESS]
    if KEY in os.environ:
        server._forkserver_authkey = bytes.fromhex(os.environ[KEY])
    # Sent along with each request. A server stops when its owner closes this descriptor; here the owner is the suite.
    server._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)
    server.ensure_running = resource_tracker.ensure_running  # would start a server, or wait for one it did not start
