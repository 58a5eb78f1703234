"""JSON documents: Hugging Face's `trainer_state.json`, lists of records or of numbers, columns as lists (Keras)."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from pytest_smoke.errors import LogError
from pytest_smoke.logs import columns
from pytest_smoke.logs.cells import is_number
from pytest_smoke.logs.csv_log import VALUE
from pytest_smoke.logs.line_log import MAX_DEPTH, flatten, is_summary_record, parse_json, phase_cells
from pytest_smoke.logs.table import Table
from pytest_smoke.text import count, listed

_LIST = re.compile(r"""\s*["']?([A-Za-z][\w ./-]{0,60})["']?\s{0,4}[:=]\s{0,4}\[([^\[\]]*+)\],?\s*""")
_SHAPES = "an object with log_history (Hugging Face's trainer_state.json), a list of records, or equally long columns"
_EVENT_FIELDS = 3
"""TensorBoard exports `[wall time, step, value]`."""


def read_json(text: str) -> Table | None:
    """Read a JSON document. Return None if the text is not one, or is a single line of JSON Lines.

    Raises LogError for a document of another shape, and for one that is nested too deeply.
    """
    try:
        document = parse_json(text)
    except ValueError as error:
        documents = _stream(text) if getattr(error, "msg", "") == "Extra data" else None
        if documents is None:
            return None
        document = documents
    except RecursionError:
        raise LogError("unreadable", "the JSON document is nested too deeply") from None
    has_history = isinstance(document, dict) and isinstance(document.get("log_history"), list)
    if isinstance(document, dict) and not has_history and "\n" not in text.strip():
        scalars = [name for name, value in document.items() if _is_number(value)]
        if any(map(columns.is_counter, scalars)) or any(map(columns.is_component, scalars)):
            return None
    table = Table(unit="record", noun="record")
    if has_history:
        return _add_records(table, document["log_history"])
    if isinstance(document, list):
        return _add_records(table, document)
    if isinstance(document, dict):
        if (lists := _lists(document)) and any(columns.mentions_loss(name) for name in lists):
            return _add_columns(table, lists)
        if (records := _records(document)) is not None:
            return _add_records(table, records)
        if lists:
            return _add_columns(table, lists)
    raise LogError("unreadable", f"the JSON document is not a log; allowed: {_SHAPES}")


def _stream(text: str) -> list[Any] | None:
    """Return the objects of a text with one after another, each over several lines; None if it holds anything else."""
    decoder, found, at = json.JSONDecoder(), list[Any](), 0
    try:
        while at < len(text):
            document, at = decoder.raw_decode(text, at)
            found.append(document)
            at += len(text[at:]) - len(text[at:].lstrip()) if at < len(text) and text[at].isspace() else 0
    except (ValueError, RecursionError):
        return None
    return found if all(isinstance(document, dict) for document in found) else None


def _add_records(table: Table, entries: list[Any]) -> Table:
    if not entries:
        raise LogError("empty", "the log has no records")
    if all(map(_is_number, entries)):
        table.notes.append("the numbers have no name: they are read as the training loss")
        return _add_columns(table, {"loss": entries})
    if all(isinstance(entry, list) and all(map(_is_number, entry)) for entry in entries):
        lengths = {len(entry) for entry in entries}
        if lengths <= {2, _EVENT_FIELDS} and len(lengths) == 1:
            table.notes.append("the numbers have no name: the last of each record is read as the training loss")
            names = ("wall time", "step", VALUE)[-lengths.pop() :]
            entries = [dict(zip((*names[:-1], "loss"), entry, strict=True)) for entry in entries]
    skipped = 0
    for at, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            skipped += 1
            continue
        cells = flatten(entry)
        if is_summary_record(cells):
            table.starts.append(len(table))
        else:
            table.add(at, phase_cells(cells))
    if skipped:
        what = "it is not a JSON object" if skipped == 1 else "they are not JSON objects"
        table.notes.append(f"skipped {skipped:,} of {count(len(entries), 'record')}: {what}")
    if not len(table):
        raise LogError("empty", "the log has no records")
    return table


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float)


def _lists(document: dict[str, Any], prefix: str = "", depth: int = 0) -> dict[str, list[Any]]:
    """Return the lists of numbers in a document by their path; pandas writes a list as `{"0": 2.3, "1": 2.1}`."""
    found: dict[str, list[Any]] = {}
    for name, value in document.items():
        path = f"{prefix}{name}"
        if isinstance(value, list) and value and all(_is_number(entry) or isinstance(entry, str) for entry in value):
            found[path] = value
        elif isinstance(value, dict) and value:
            if all(key.isdigit() for key in value) and all(map(_is_number, value.values())):
                found[path] = [value[key] for key in sorted(value, key=_as_number)]
            elif depth < MAX_DEPTH:
                found.update(_lists(value, f"{path}/", depth + 1))
    return found


def read_lists(text: str) -> Table | None:
    """Read lines such as `train_losses = [2.5, 2.4, 2.3]`; None if most lines are something else."""
    lines = [line for line in text.split("\n") if line.strip()]
    found = [match for line in lines if (match := _LIST.fullmatch(line))]
    lists: dict[str, list[Any]] = {}
    for match in found:
        cells = [cell for cell in re.split(r"[,\s]+", match.group(2).strip()) if cell]
        if all(map(is_number, cells)):
            lists[match.group(1).strip()] = list(cells)
    if not any(columns.mentions_loss(name) and len(cells) > 1 for name, cells in lists.items()):
        return None
    return _add_columns(Table(unit="record", noun="record"), lists) if 2 * len(found) > len(lines) else None


def _as_number(key: str) -> tuple[int, str]:
    return len(key.lstrip("0")), key.lstrip("0")


def _records(document: dict[str, Any], depth: int = 0) -> list[Any] | None:
    """Return the longest list of objects in a document, or the objects of a dict by step, as `{"1": {"loss": 2.3}}`."""
    best: list[Any] = []
    for value in document.values():
        found: list[Any] | None = None
        if isinstance(value, list) and sum(isinstance(entry, dict) for entry in value) * 2 > len(value):
            found = value
        elif isinstance(value, dict) and depth < MAX_DEPTH:
            found = _records(value, depth + 1)
        if found is not None and len(found) > len(best):
            best = found
    if best:
        return best
    entries = list(document.values())
    if len(entries) > 1 and all(isinstance(entry, dict) and any(map(_is_number, entry.values())) for entry in entries):
        keys = ["".join(filter(str.isdigit, key)) for key in document]
        if all(keys):
            return [{"step": int(key[:18]), **entry} for key, entry in zip(keys, entries, strict=True)]
    return None


def _add_columns(table: Table, lists: dict[str, list[Any]]) -> Table:
    """Read columns; those of another length than the loss have no common steps and are left out with a note."""
    lengths = Counter(map(len, lists.values()))
    length = max(lengths)
    if len(lengths) > 1:
        candidates = {name: len(values) for name, values in lists.items() if columns.is_component(name)}
        if candidates:
            try:
                length = candidates[columns.loss_column(candidates)[0]]
            except LogError:
                length = max(candidates.values())
        dropped = [name for name, values in lists.items() if len(values) != length]
        table.notes.append(
            f"the columns have different lengths: {listed(map(repr, dropped))} "
            f"{'is' if len(dropped) == 1 else 'are'} left out, not having {count(length, 'value')}"
        )
        lists = {name: values for name, values in lists.items() if len(values) == length}
    for at, values in enumerate(zip(*lists.values(), strict=True), 1):
        table.add(at, flatten(dict(zip(lists, values, strict=True))))
    if not len(table):
        raise LogError("empty", "the log has no records")
    return table


def is_document(head: str, *, is_whole: bool) -> bool:
    """Whether a text that begins with `head` could be a JSON document, judged by where parsing the beginning fails."""
    try:
        json.JSONDecoder().raw_decode(head.lstrip())
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(head.lstrip()) - 100 or error.msg.startswith("Unterminated string")
        return not is_whole and at_end
    except (ValueError, RecursionError):
        return True
    return is_whole or head.lstrip().startswith("{\n")
