"""Files: written whole or not at all, named after ids, summed; and JSON that every parser accepts."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterable, Mapping
from hashlib import file_digest, sha256
from io import BufferedReader
from pathlib import Path
from typing import Any

VERDICTS = "verdicts.json"
"""The file of a report folder that holds the outcomes."""
BISECT = "bisect.json"
"""The file of a report folder that holds the state of a bisect."""
LOCK = ".lock"
"""File in a report folder that its session has locked."""
STALE = "stale"
"""Folder of a report for what sessions before the newest one left there."""
NOT_REGULAR = "not a regular file"
"""What reading a folder, a named pipe or a device is refused with."""
READABLE_CHARACTERS = 120
"""Longest readable part of an item's file name; file systems allow 255 bytes, of which suffixes and temporary names
need some."""
VERDICTS_SCHEMA = 1
"""Version of that file; raised when a key changes its meaning or goes away."""


BUFFER_BYTES = 2**16
"""Files below this size, as nearly all sources and recipes, are read at once. To ask for more costs time, even if the
file is shorter: Python sets the memory aside first."""


def write_atomic(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Write to a temporary file in the same folder, then rename, so that a reader sees the old file or the new one.

    A text, or the parts of one, is encoded as UTF-8. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with open(temporary, "xb") as file:  # with the umask: mkstemp makes files that only their owner may read
            if isinstance(content, bytes):
                file.write(content)
            else:
                file.writelines(part.encode("utf-8") for part in ([content] if isinstance(content, str) else content))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # it is in place already, or the folder is gone
            os.unlink(temporary)
        raise


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link. Raises OSError, but not if there is nothing to remove.

    That is also so if what should be a folder above it is a file.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def written_path(error: OSError) -> str:
    """Return the file that an error of `write_atomic` is about, not the temporary one next to it; empty if unknown."""
    return str(error.filename2 or error.filename or "")


def os_error_text(error: OSError) -> str:
    """Format an error of the system: `/tmp/a: No space left on device`, without a path if it has none."""
    path = written_path(error)
    return f"{path}: {error.strerror or error}" if path else error.strerror or str(error)


def sync_to_disk(path: Path) -> None:
    """Flush a file or folder to the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_name(node_id: str) -> str:
    """Return the base name for an item's files: readable, at most 129 characters, and different for every id."""
    readable = "".join(char if char.isascii() and (char.isalnum() or char in "-._") else "_" for char in node_id)
    return f"{readable[-READABLE_CHARACTERS:]}-{sha256(node_id.encode(errors='surrogatepass')).hexdigest()[:8]}"


def is_file_name(name: str) -> bool:
    """Tell whether `name`, without a suffix, can be from `file_name`; a user's own file in the folder is not."""
    readable, _, digest = name.rpartition("-")
    is_of_node_id = "__" in readable or len(readable) == READABLE_CHARACTERS  # `::` is `__`, unless it was cut off
    return is_of_node_id and re.fullmatch("[0-9a-f]{8}", digest) is not None


def file_sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal. Raises OSError as `open_regular`."""
    with open_regular(path) as file:
        start = file.read(BUFFER_BYTES)
        if len(start) < BUFFER_BYTES:  # all of it; `file_digest` fills a buffer of zeros first
            return sha256(start).hexdigest()
        file.seek(0)
        return file_digest(file, "sha256").hexdigest()


def file_in(folder: Path, name: str) -> Path | None:
    """Return the file that a text names in a folder; None if it is outside, also by a link, or is no name of a file.

    Texts in reports may come from anyone: `../../etc/passwd`, an absolute path, a NUL.
    """
    try:
        root = folder.resolve()
        path = (root / name).resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a loop of links
        return None
    return path if path.is_relative_to(root) and not os.path.isabs(name) else None


def is_plain_name(name: str) -> bool:
    """Tell whether a text from a manifest names a file in the manifest's own folder."""
    return name not in ("", ".", "..") and not any(char in name for char in "/\\\0")


def open_without_waiting(path: str, flags: int) -> int:
    """Open a file for `open(..., opener=...)` without waiting for a writer: a named pipe would block for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def open_regular(path: Path | str) -> BufferedReader:
    """Open a file to read its bytes. Raises OSError, also for a folder, a named pipe and a device."""
    file = open(path, "rb", opener=open_without_waiting)  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return file


def read_regular(path: Path) -> bytes:
    """Read a file. Raises OSError as `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises OSError, and ValueError for what is not UTF-8 or JSON, or is nested too deeply."""
    try:
        return json.loads(read_regular(path).decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_failure(error: OSError) -> str:
    """Say why a file cannot be read: `file not found`, or `cannot be read: Permission denied`."""
    return "file not found" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror or error}"


def invalid_json(path: Path | str, error: ValueError | RecursionError) -> str:
    """Locate invalid JSON in a file: `PATH:LINE:COLUMN: not valid JSON (Expecting value)`."""
    if isinstance(error, json.JSONDecodeError):
        return f"{path}:{error.lineno}:{error.colno}: not valid JSON ({error.msg})"
    return f"{path}: not valid JSON ({'nested too deeply' if isinstance(error, RecursionError) else error})"


def strict_json(tree: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """Serialize a tree of builtins. JSON has no number for NaN and infinities: they are the texts of `json_value`."""
    return json.dumps(json_value(tree), indent=indent, sort_keys=sort_keys, allow_nan=False)


def json_value(value: Any) -> Any:
    """Replace non-finite floats by the texts `NaN`, `Infinity` and `-Infinity`, which Python's `float` reads back."""
    if value is None or type(value) is str:  # most values
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): json_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(part) for part in value]
    return value
