"""Behavior that all commands share."""

import subprocess
import sys

import pytest


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


@pytest.mark.parametrize(("argument", "name"), [("judge", "judge"), ("--help", "python -m pytest_smoke")])
def test_a_command_that_cannot_be_imported_is_no_verdict(argument: str, name: str) -> None:
    """Python ends a crash with status 1, which means "not promoted"."""
    code = (
        "import sys; sys.modules['pytest_smoke.logs.read'] = None; "
        f"from pytest_smoke.__main__ import main; sys.exit(main([{argument!r}, 'x']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, "ImportError" in done.stderr or "ModuleNotFoundError" in done.stderr) == (2, True)
    assert done.stderr.endswith(f"\n{name}: stopped by an error of its own: please report it with the lines above\n")
