"""Names of devices, checked without torch."""

from __future__ import annotations

from pytest_smoke.errors import SmokeError

DEVICE_HELP = "auto (default), cpu, mps, cuda or cuda:N"
"""The allowed names, for help texts."""


def parse_device(text: str) -> str:
    """Return `text` if it names a device. Raises SmokeError; whether the device is there is not checked."""
    kind, _, index = text.partition(":")
    if text in ("auto", "cpu", "mps", "cuda") or (kind == "cuda" and index.isascii() and index.isdigit()):
        return text
    raise SmokeError(f"{text!r}: must be auto, cpu, mps, cuda or cuda:N")
