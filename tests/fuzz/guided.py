"""Fuzz one target with atheris: `python -m tests.fuzz.guided TARGET [libFuzzer options] [folders]`."""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pytest_smoke"]):
    from pytest_smoke.errors import SmokeError
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until a limit of libFuzzer ends the process."""
    target = TARGETS[sys.argv.pop(1)]
    folder = Path(tempfile.mkdtemp(prefix="smoke-fuzz-"))

    def one(data: bytes) -> None:
        with suppress(SmokeError):
            target(data, folder)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
