"""What a process has left is found, whatever it does meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from pytest_smoke.train import descendants
from pytest_smoke.train.descendants import end_orphans

BUSY = """
import os, sys
pipe = os.dup2(int(sys.argv[1]), 400)
os.close(int(sys.argv[1]))
os.write(pipe, b"x")
while True:
    for copy in [os.dup(0) for _ in range(200)]:
        os.close(copy)
"""


def test_a_process_that_closes_files_meanwhile_is_found_by_a_pipe_that_it_holds_open() -> None:
    """As a copy of a process does right after its fork."""
    for _ in range(5):
        reader, writer = os.pipe()
        with subprocess.Popen([sys.executable, "-c", BUSY, str(writer)], pass_fds=[writer], env={}) as left:
            os.close(writer)
            assert os.read(reader, 1)
            end_orphans("nobody has this mark", os.fstat(reader).st_ino)
            try:
                assert left.wait(10) == -signal.SIGKILL
            finally:
                left.kill()
        os.close(reader)


def test_a_process_that_one_look_has_missed_is_killed_after_the_next() -> None:
    """A daemon's parent is listed, starts the daemon, and has ended when its files are read."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as daemon:
        looks = iter([[], [daemon.pid], [], []])
        descendants._kill_all(lambda: next(looks))
        try:
            assert daemon.wait(10) == -signal.SIGKILL
        finally:
            daemon.kill()
    assert not list(looks)
