"""What every command of `python -m pytest_smoke` has in common."""

import subprocess
import sys


def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    """`schema | head -1`: the command itself never flushes, so its answer breaks only at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "pytest_smoke", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 2
