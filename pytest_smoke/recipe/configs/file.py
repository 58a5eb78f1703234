"""Read a config file in the format it has, with the place of every value: JSON, YAML, TOML or Python text."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from pytest_smoke.errors import Fault, RecipeError
from pytest_smoke.files import open_without_waiting, read_failure
from pytest_smoke.recipe.configs.python_text import (
    PythonText,
    has_arguments_dump,
    is_source,
    read_arguments_dump,
    read_source,
)
from pytest_smoke.recipe.yaml_document import CONFIG, Place, parse_document

MAX_BYTES = 2**22
"""Largest config file. One has some KiB; a log that a config was printed to may be larger."""
BINARY = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".safetensors")
"""Suffixes of files that hold code or tensors, such as Hugging Face's `training_args.bin`."""

Keys = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One value of a config."""

    key: str
    """Dotted key, `optimizer.lr` or `datasets[0].path`."""
    value: Any
    """A scalar, or a list of scalars, or an empty mapping."""
    line: int
    """Line in the file, from 1."""
    column: int = 1
    """Column in the line, from 1."""

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """A config file that was read."""

    path: str
    """The file, as messages name it."""
    form: str
    """`JSON`, `YAML`, `TOML` or `Python`."""
    entries: Mapping[str, Entry]
    """Every value by its dotted key, in the order of the file."""
    data: Mapping[str, Any]
    """The same as nested plain data."""
    checksum: str
    """SHA-256 of the file."""

    def place(self, entry: Entry) -> str:
        """Name the place of a value: `configs/full.yaml:12 (optimizer.lr)`."""
        return f"{self.path}:{entry.line} ({entry.key})"


def read_config(file: Path, path: str) -> ConfigFile:
    """Read a config file; `path` is its name in messages.

    Raises RecipeError if it cannot be read, or is in none of the formats.
    """
    try:
        state = file.stat()
    except OSError as error:
        raise RecipeError([Fault(path, 1, 1, read_failure(error))]) from None
    return _read_cached(str(file), path, (state.st_mtime_ns, state.st_size))


MAX_BITS = 10_000
"""Largest whole number: Python cannot write one of 14,285 bits as decimal digits."""


@lru_cache(maxsize=64)
def _read_cached(file: str, path: str, stamp: tuple[int, int]) -> ConfigFile:
    """Read a file that many recipes may name. `stamp` changes with the file."""
    raw = _raw(Path(file), path)
    if b"\0" in raw or file.endswith(BINARY):
        raise _error(
            path,
            "this is not text; write the settings as JSON or YAML, or save what print(training_args) prints "
            "(a pickle such as training_args.bin would have to be executed)",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise _error(path, f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8", line) from None
    form, data, places = _parse(text, Path(file).suffix.lower(), path)
    if not data:
        raise _error(path, "the file has no settings")
    if "_wandb" in data:
        data, places = _without_wandb(data, places)
    try:
        leaves = list(_leaves(data))
    except RecursionError:
        raise _error(path, "the settings are nested too deeply") from None
    for keys, value in leaves:
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(one, int) and one.bit_length() > MAX_BITS for one in numbers):
            raise _error(path, f"{_dotted(keys)} is a number that is too large", *_nearest(places, keys))
    entries = {
        _dotted(keys): Entry(key=_dotted(keys), value=value, line=line, column=column)
        for keys, value in leaves
        for line, column in [_nearest(places, keys)]
    }
    return ConfigFile(path=path, form=form, entries=entries, data=data, checksum=sha256(raw).hexdigest())


def _without_wandb(
    data: Mapping[str, Any], places: Mapping[Keys, Place]
) -> tuple[Mapping[str, Any], Mapping[Keys, Place]]:
    """Return the config that Weights & Biases recorded without its wrapper, `lr: {desc: null, value: 0.1}`."""
    values = {key: one["value"] for key, one in data.items() if isinstance(one, Mapping) and "value" in one}
    moved = {(keys[0], *keys[2:]): place for keys, place in places.items() if keys[1:2] == ("value",)}
    return {key: value for key, value in values.items() if key != "_wandb"}, moved


def _raw(file: Path, path: str) -> bytes:
    try:
        with open(file, "rb", opener=open_without_waiting) as stream:
            state = os.fstat(stream.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise _error(path, "this is not a regular file")
            if state.st_size > MAX_BYTES:
                raise _error(path, f"the file has {state.st_size:,} bytes; a config has at most {MAX_BYTES:,}")
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _error(path, read_failure(error)) from None


def _parse(text: str, suffix: str, path: str) -> tuple[str, Mapping[str, Any], Mapping[Keys, Place]]:
    """Return the format, the data and the places of its keys. The suffix decides, otherwise the text."""
    if suffix in (".json", ".jsonc", ".json5"):
        return _json(text, path)
    if suffix == ".toml":
        return _toml(text, path)
    if suffix in (".yaml", ".yml") and not has_arguments_dump(text):
        return _yaml(text, path)
    if has_arguments_dump(text) and not (suffix == ".py" and is_source(text)):
        return _python(read_arguments_dump, text, path)
    if suffix == ".py" or (_PYTHON.match(text) and is_source(text)):
        return _python(read_source, text, path)
    if text.lstrip().startswith("{"):
        try:
            return _json(text, path)
        except RecipeError:
            return _python(read_source, text, path)
    return _yaml(text, path)


_PYTHON = re.compile(r"\s*(?:#[^\n]*\n\s*)*(?:\w+\s*=\s*)?[A-Za-z_][\w.]*\(")
"""A call, as in the text of `argparse.Namespace` or of a dataclass."""


def _error(path: str, text: str, line: int = 1, column: int = 1) -> RecipeError:
    return RecipeError([Fault(path, line, column, text)])


def _python(read: Any, text: str, path: str) -> tuple[str, Mapping[str, Any], Mapping[Keys, Place]]:
    try:
        found: PythonText = read(text)
    except SyntaxError as error:
        raise _error(path, f"not valid Python: {error.msg}", error.lineno or 1, error.offset or 1) from None
    except (RecursionError, MemoryError):  # of Python's parser
        raise _error(path, "the Python is nested too deeply") from None
    except ValueError as error:
        raise _error(path, str(error)) from None
    return "Python", found.data, found.places


def _yaml(text: str, path: str) -> tuple[str, Mapping[str, Any], Mapping[Keys, Place]]:
    document, faults = parse_document(text, path, CONFIG)
    if faults or document is None:
        raise RecipeError(faults)
    places = {}
    for keys, _ in _leaves(document.data):
        for length in range(1, len(keys) + 1):
            place = document.key_place(keys[:length])
            if place:
                places[keys[:length]] = place
    return "YAML", document.data, places


def _toml(text: str, path: str) -> tuple[str, Mapping[str, Any], Mapping[Keys, Place]]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        message = str(error).partition(" (at ")[0]
        line, column = (int(at[1]), int(at[2])) if at else (1, 1)
        raise _error(path, f"not valid TOML: {message[0].lower()}{message[1:]}", line, column) from None
    except (RecursionError, ValueError):
        raise _error(path, "the TOML is nested too deeply, or has a number that is too large") from None
    return "TOML", data, dict(_toml_places(text))


_TOML_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*"""
_TOML_HEADER = re.compile(rf"\s*\[\[?\s*({_TOML_KEY})\s*\]\]?\s*(?:#.*)?$")
_TOML_LINE = re.compile(rf"(\s*)({_TOML_KEY})\s*=")


def _toml_places(text: str) -> Iterator[tuple[Keys, Place]]:
    """Yield the place of each key that starts a line. Array tables are counted."""
    section: Keys = ()
    tables: dict[Keys, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = _TOML_HEADER.match(line)
        if header:
            section = _toml_path(header[1])
            if line.lstrip().startswith("[["):
                tables[section] = tables.get(section, -1) + 1
                section = (*section, tables[section])
            else:
                base = next((keys for keys in tables if section[: len(keys)] == keys), None)
                section = section if base is None else (*base, tables[base], *section[len(base) :])
            continue
        found = _TOML_LINE.match(line)
        if found:
            yield (*section, *_toml_path(found[2])), (number, len(found[1]) + 1)


def _toml_path(text: str) -> Keys:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _json(text: str, path: str) -> tuple[str, Mapping[str, Any], Mapping[Keys, Place]]:
    try:
        data = json.loads(text)
        places, repeated = _json_places(text)
    except json.JSONDecodeError as error:
        what = f"not valid JSON: {error.msg[0].lower()}{error.msg[1:]}"
        raise _error(path, what, error.lineno, error.colno) from None
    except (RecursionError, ValueError):
        raise _error(path, "the JSON is nested too deeply, or has a number that is too large") from None
    if not isinstance(data, dict):
        raise _error(path, "the file does not contain a mapping of settings")
    if repeated:
        keys, place, first = repeated
        raise _error(path, f"key {keys[-1]!r} is already on line {first[0]}; delete one of them", *place)
    return "JSON", data, places


_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]')


def _json_places(text: str) -> tuple[dict[Keys, Place], tuple[Keys, Place, Place] | None]:
    """Return the place of every key of valid JSON, and the first key that a mapping has twice."""
    places: dict[Keys, Place] = {}
    repeated = None
    path: list[str | int] = []
    kinds: list[str] = []
    awaits_key = False
    line, line_start, start = 1, 0, 0
    for token in _JSON_TOKEN.finditer(text):
        if newlines := text.count("\n", start, token.start()):
            line, line_start = line + newlines, text.rfind("\n", start, token.start()) + 1
        start = token.start()
        mark = token[0]
        if mark in "{[":
            kinds.append(mark)
            path.append("" if mark == "{" else 0)
            awaits_key = mark == "{"
        elif mark in "}]":
            kinds.pop()
            path.pop()
            awaits_key = False
        elif mark == ",":
            awaits_key = kinds[-1] == "{"
            if kinds[-1] == "[" and isinstance(path[-1], int):
                path[-1] += 1
        elif mark != ":" and awaits_key:
            path[-1] = json.loads(mark)
            keys, place = tuple(path), (line, start - line_start + 1)
            if keys in places and repeated is None:
                repeated = keys, place, places[keys]
            places.setdefault(keys, place)
            awaits_key = False
    return places, repeated


def _leaves(data: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Yield every value that holds no other ones; a list of scalars is one value."""
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            yield from _leaves(value, (*keys, str(key)))
    elif isinstance(data, list) and any(isinstance(one, Mapping | list) for one in data):
        for number, value in enumerate(data):
            yield from _leaves(value, (*keys, number))
    else:
        yield keys, data


def _nearest(places: Mapping[Keys, Place], keys: Keys) -> Place:
    """Return the place of the keys, or of the closest mapping or list around them."""
    return next((places[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in places), (1, 1))


def _dotted(keys: Keys) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")
