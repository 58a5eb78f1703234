"""Inputs that are almost valid: mutations of real files, without a look at the coverage."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

LIMIT_SECONDS = 5
"""Longest time that one input may take."""
MAX_BYTES = 100_000
"""Largest input: one of this size is read in a fraction of a second if reading is linear."""
TOKENS = (
    *(b"null", b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"true", b"9" * 400, b"9" * 5000, b"0x1F", b"1_0", b"1:2"),
    *(b"{", b"}", b"[", b"]", b'"', b"'", b":", b",", b"\n", b"\r", b"\t", b" ", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf"),
    *(b"0x" + b"F" * 5000, b'{"a":' * 700, b".inf", "\u2028".encode(), "\u202e".encode(), "é".encode(), "²".encode()),
    *(b"\xed\xa0\x80", b"\x1b[31m", b"\\ud800", b"[" * 2000, b"(" * 2000, b"- " * 500, b"&a [*a]", b"<<: *a"),
    *(b"../../../etc/passwd", b"/dev/zero", b"a" * 300, b"!!python/object/apply:os.system [id]", b"__class__", b"`"),
    *(b"by step ", b"over stage A", b"max(", b"**", b"<script>", b"%s%n", b"{0.__class__}", b"${x}", b"\n---\n"),
    *(b"step", b"loss", b"schema", b'"sha256"', b"lr"),
)
"""Text that readers have trouble with."""


def mutated(data: bytes, others: Sequence[bytes], choose: random.Random) -> bytes:
    """Return `data` with one to eight changes."""
    for _ in range(choose.choice((1, 1, 2, 3, 8))):
        at, to = sorted((choose.randrange(len(data) + 1), choose.randrange(len(data) + 1)))
        match choose.randrange(9):
            case 0:
                data = data[:at] + choose.choice(TOKENS) + data[at:]
            case 1:
                data = data[:at] + choose.choice(TOKENS) + data[to:]
            case 2:
                data = data[:at] + data[to:]
            case 3:
                data = data[:to] + data[at:to] * choose.choice((1, 2, 50)) + data[to:]
            case 4:
                data = data[:at] + bytes([choose.randrange(256)]) + data[at + 1 :]
            case 5:
                data = data[:at]
            case 6:
                other = choose.choice(others)
                start = choose.randrange(len(other) + 1)
                data = data[:at] + other[start : start + choose.randrange(200)] + data[to:]
            case 7:
                lines = data.splitlines(keepends=True)
                choose.shuffle(lines)
                data = b"".join(lines)
            case _:
                numbers = [index for index, byte in enumerate(data) if 48 <= byte <= 57]
                if numbers:
                    index = choose.choice(numbers)
                    data = data[:index] + choose.choice(TOKENS[:12]) + data[index + 1 :]
    return data[:MAX_BYTES]


def inputs(seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Yield the seeds, then mutations of them without end."""
    yield from seeds
    choose = random.Random(seed)
    while True:
        yield mutated(choose.choice(seeds), seeds, choose)


@contextmanager
def limited_time(seconds: float = LIMIT_SECONDS) -> Iterator[None]:
    """Raise TimeoutError in the main thread after so many seconds."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"an input took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def seeds_of(target: str, corpus: Path) -> list[bytes]:
    """Return the kept inputs of a target, and an empty one."""
    return [b"", *(path.read_bytes() for path in sorted((corpus / target).glob("*")))]
