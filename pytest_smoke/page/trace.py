"""The trace of a smoke run, read from a report folder that may be damaged, or made to mislead."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from operator import lt
from pathlib import Path
from typing import Any

from pytest_smoke.files import file_in, open_regular, read_failure
from pytest_smoke.outcome import Facts
from pytest_smoke.page.series import NOTHING, Series

MAX_BYTES = 2**28
"""Largest trace that is read. One of a million steps with two terms has about 100 MB."""
MAX_STEP = 2**53
"""Steps from here on are not exact in a browser."""
BLOCKS = "The plot shows means of blocks of steps instead"
"""End of a sentence on a trace that is not drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The values of every step, by series."""

    loss: Series
    lr: Series = NOTHING
    grad_norm: Series = NOTHING
    probe_loss: Series = NOTHING
    terms: Mapping[str, Series] = field(default_factory=dict)
    """Loss terms by name."""
    phases: tuple[tuple[str, int], ...] = ()
    """Each stage and phase, as `stage A` or `stage A, text`, with its first step."""


class TraceError(Exception):
    """A trace cannot be drawn; the message is a sentence for the page."""


def read_trace(folder: Path, facts: Facts) -> Trace | None:
    """Read the trace that an outcome names; None if it names none.

    Raises TraceError if it cannot be read, or belongs to another run.
    """
    if not facts.trace:
        return None
    name = str(facts.trace)
    data = _read(folder, name)
    if sha256(data).hexdigest() != facts.trace_sha256:
        raise TraceError(
            f"{name} is not the trace that this smoke run wrote: another run has replaced it, or it was changed. "
            f"{BLOCKS}"
        )
    try:
        return parse(data.decode("utf-8"))
    except (ValueError, csv.Error) as error:
        raise TraceError(f"{name} is damaged: {error}. {BLOCKS}") from None


def parse(text: str) -> Trace:
    """Parse a trace. Raises ValueError and csv.Error for what is none."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(rows, [])
    if header[:1] != ["step"] or "loss" not in header:
        raise ValueError("its first line has no columns step and loss")
    columns = list(zip(*rows, strict=True))
    if len(columns) != len(header):
        raise ValueError(f"its lines do not have {len(header)} values")
    steps = list(map(int, columns[0]))
    if steps[0] < 0 or steps[-1] >= MAX_STEP or not all(map(lt, steps, steps[1:])):
        raise ValueError("its steps do not rise")
    named = dict(zip(header, columns, strict=True))
    return Trace(
        loss=_series(steps, named["loss"]),
        **{name: _series(steps, named[name]) for name in ("lr", "grad_norm", "probe_loss") if name in named},
        terms={name[5:]: _series(steps, column) for name, column in named.items() if name.startswith("loss/")},
        phases=_phases(steps, named),
    )


def curve_series(curve: Mapping[str, Sequence[Any]]) -> Series:
    """Return the means of blocks of steps that an outcome has. Raises ValueError and TypeError."""
    return Series.of((int(step), float(loss)) for step, loss in zip(curve["step"], curve["loss"], strict=True))


def _series(steps: Sequence[int], column: Sequence[str]) -> Series:
    """Return the values of a column; a value that was not recorded is empty."""
    if "" in column:
        return Series.of((step, float(value)) for step, value in zip(steps, column, strict=True) if value)
    return Series(steps, list(map(float, column)))


def _phases(steps: Sequence[int], named: Mapping[str, Sequence[str]]) -> tuple[tuple[str, int], ...]:
    found, last = [], ("", "")
    for step, *place in zip(steps, named.get("stage", ()), named.get("phase", ()), strict=False):
        if (now := (str(place[0]), str(place[1]))) != last:
            stage, phase = last = now
            found.append((f"stage {stage}, {phase}" if phase else f"stage {stage}", step))
    return tuple(found)


def _read(folder: Path, name: str) -> bytes:
    """Read a file of a report folder. Raises TraceError, also for a path that leaves the folder."""
    path = file_in(folder, name)
    if path is None:
        raise TraceError(f"the trace {name} is outside of the report folder and was not read. {BLOCKS}")
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TraceError(f"{name}: {read_failure(error)}. {BLOCKS}") from None
    if len(data) > MAX_BYTES:
        raise TraceError(f"{name} has more than {MAX_BYTES // 2**20} MiB. {BLOCKS}")
    return data
