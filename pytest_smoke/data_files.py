"""Digests of training data, of any size in bounded time."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pytest_smoke.files import open_regular

WHOLE_BYTES = 2**26
"""Bytes of one file or folder that are read: 64 MiB take 0.05 s. Larger data are sampled."""
BLOCK_BYTES = 2**12
"""Smallest part of a file that is sampled: a page of the file system."""
BLOCKS = 64
"""Parts of a file that are sampled at most, evenly spaced; the first and the last bytes are always among them."""
MAX_FILES = 100_000
"""Most files of one folder: opening them takes some seconds."""
CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDigest:
    """A data file, or a folder with all files below it."""

    files: int
    """Number of files."""
    bytes: int
    """Size of all files."""
    sha256: str
    """SHA-256 of names, sizes and content."""
    whole: bool
    """Whether all of the content was read; of larger data it was sampled."""

    def to_dict(self) -> dict[str, Any]:
        """Return builtins."""
        return asdict(self)


def data_digest(path: Path, *, max_files: int = MAX_FILES) -> DataDigest:
    """Return the digest of a file or folder. Raises OSError, also for a folder with more than `max_files` files.

    Data of up to `WHOLE_BYTES` are read whole. Of larger data, all names and sizes count, and evenly spaced parts of
    each file, in proportion to its size: an edit that changes neither a size nor one of these parts is not noticed.
    """
    named = list(_files(path, max_files))
    sizes = [os.stat(file).st_size for _, file in named]
    total = sum(sizes)
    whole = total <= WHOLE_BYTES
    digest = sha256()
    for (name, file), size in zip(named, sizes, strict=True):
        encoded = name.encode(errors="surrogateescape")
        digest.update(b"%d:%s:%d:" % (len(encoded), encoded, size))
        for part in _parts(file, size, WHOLE_BYTES if whole else WHOLE_BYTES * size // total):
            digest.update(part)
    return DataDigest(files=len(named), bytes=total, sha256=digest.hexdigest(), whole=whole)


def _files(path: Path, max_files: int) -> Iterator[tuple[str, str]]:
    """Yield the files with their names below `path`, in the order of these; the name of a file itself is empty."""
    if not path.is_dir():
        yield "", str(path)
        return
    found: list[tuple[str, str]] = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in names:
            file = os.path.join(folder, name)
            if os.path.isfile(file):
                found.append((os.path.relpath(file, path).replace(os.sep, "/"), file))
        if len(found) > max_files:
            raise OSError(errno.EMFILE, f"it has more than {max_files:,} files", str(path))
    yield from sorted(found)


def _parts(file: str, size: int, budget: int) -> Iterator[bytes]:
    """Yield the content of a file, or evenly spaced parts of it with about `budget` bytes in all."""
    with open_regular(file) as stream:
        if size <= max(budget, 2 * BLOCK_BYTES):
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
            return
        blocks = min(BLOCKS, max(2, budget // BLOCK_BYTES))
        length = max(BLOCK_BYTES, budget // blocks)
        for at in range(blocks):
            stream.seek((size - length) * at // (blocks - 1))
            yield stream.read(length)
