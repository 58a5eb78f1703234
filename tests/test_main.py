"""Behavior that all commands share."""

import subprocess
import sys


def test_a_closed_pipe_ends_quietly_with_exit_code_2() -> None:
    """As in `schema | head -1`; the command itself does not flush, so its output breaks only at exit."""
    with subprocess.Popen(
        [sys.executable, "-m", "pytest_smoke", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 2
