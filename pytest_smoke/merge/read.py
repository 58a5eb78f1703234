"""Reads the report folders to merge. They come from other machines: what is in them is checked before it is used."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_smoke.errors import MergeError
from pytest_smoke.files import BISECT, LOCK, VERDICTS, VERDICTS_SCHEMA, invalid_json, read_failure, read_json
from pytest_smoke.outcome import Outcome
from pytest_smoke.page.session_reports import RENDERERS
from pytest_smoke.page.sources import outcome_of_tree
from pytest_smoke.plain import exception_text, plain_name
from pytest_smoke.recipe_texts import restored_outcomes
from pytest_smoke.report.verdicts_json import tree_json

NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
"""What the texts of `json_value` stand for."""
NUMERIC = ("facts", "curve", "metrics", "gradients")
"""Keys of an outcome below which these texts are numbers."""
NUMERIC_OF_FINDING = ("observed", "bound", "data")
"""The same of a finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An outcome of a report folder."""

    folder: Path
    tree: Mapping[str, Any]
    """The outcome with the text of its recipe: keys that this version does not know are kept."""
    outcome: Outcome
    """The same for the renderers."""

    @property
    def id(self) -> str:
        """Node id of the item."""
        return self.outcome.id

    @property
    def started(self) -> datetime | None:
        """When the smoke run started; None if it is not known, or the time has no zone."""
        try:
            started = datetime.fromisoformat(str(self.outcome.facts.started_at))
        except ValueError:
            return None
        return started if started.tzinfo else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A report folder that was read."""

    folder: Path
    entries: tuple[Entry, ...]
    ended: bool
    """Whether the session wrote its reports, which it does at its end."""


def read_session(folder: Path, locks: ExitStack) -> Session:
    """Read a report folder, and keep sessions from writing to it until `locks` is closed. Raises MergeError."""
    name = plain_name(str(folder))
    if not folder.is_dir():
        raise MergeError(f"{name} is not a folder" if os.path.lexists(folder) else f"there is no folder {name}")
    _lock(folder, name, locks)
    path = folder / VERDICTS
    try:
        tree = read_json(path)
    except FileNotFoundError:
        what = "is the report of a bisect, which has no smoke runs to merge" if (folder / BISECT).exists() else ""
        raise MergeError(f"{name} {what or f'is not a report folder: it has no {VERDICTS}'}") from None
    except OSError as error:
        raise MergeError(f"{name}/{VERDICTS} {read_failure(error)}") from None
    except ValueError as error:
        raise MergeError(invalid_json(f"{name}/{VERDICTS}", error)) from None
    if not isinstance(tree, dict) or not isinstance(tree.get("outcomes"), list):
        raise MergeError(f"{name}/{VERDICTS} is not a report of smoke runs: it has no list of outcomes")
    if tree.get("schema") != VERDICTS_SCHEMA:
        raise MergeError(
            f"{name}/{VERDICTS} has schema {tree.get('schema')!r:.40}, and this version reads {VERDICTS_SCHEMA}: use "
            "the version that wrote it"
        )
    entries: dict[str, Entry] = {}
    for number, one in enumerate(restored_outcomes(tree), start=1):
        try:
            entry = Entry(folder=folder, tree=one, outcome=_outcome(one))
        except Exception as error:  # anything may be in a file that was changed by hand
            raise MergeError(f"{name}/{VERDICTS}: outcome {number} cannot be read: {exception_text(error)}") from None
        if entry.id in entries:
            raise MergeError(f"{name}/{VERDICTS} has two outcomes of {entry.id}")
        entries[entry.id] = entry
    ended = any((folder / report).is_file() for report in RENDERERS)
    return Session(folder=folder, entries=tuple(entries.values()), ended=ended)


def _lock(folder: Path, name: str, locks: ExitStack) -> None:
    """Lock the folder as its session did. Raises MergeError if that still has it."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return  # copied without its lock, or a merged report
    locks.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MergeError(f"a pytest session is still writing to {name}: wait until it has ended") from None
    except OSError:
        return  # a file system without locks


def _outcome(tree: Any) -> Outcome:
    """Return an outcome with its numbers. Raises for what is none."""
    if tree["id"] != plain_name(tree["id"]):
        raise ValueError("its id has characters that no id has")
    tree_json(tree)  # raises for what could not be written again
    numbers = {**tree, **{key: _with_numbers(tree[key]) for key in NUMERIC if key in tree}}
    numbers["findings"] = [
        {key: _with_numbers(value) if key in NUMERIC_OF_FINDING else value for key, value in finding.items()}
        for finding in tree["findings"]
    ]
    return outcome_of_tree(numbers)


def _with_numbers(value: Any) -> Any:
    """Return a tree with the numbers that JSON has not; the inverse of `json_value`."""
    if isinstance(value, str):
        return NUMBERS.get(value, value)
    if isinstance(value, dict):
        return {key: _with_numbers(part) for key, part in value.items()}
    return [_with_numbers(part) for part in value] if isinstance(value, list) else value
