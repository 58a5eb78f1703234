"""GitHub's annotations: workflow commands that show a sentence at a line of a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.plain import plain_name, plain_text
from pytest_smoke.report.markdown import shortened
from pytest_smoke.report.order import worst_first
from pytest_smoke.report.terminal import label
from pytest_smoke.text import NOT_CHECKED, count

SHOWN = 10
"""Annotations of each level that GitHub shows of a step. What follows them is dropped without a word."""
SKIPPED = ("unmet-requirements", "skipped")
"""Reasons of smoke runs that were not executed here and, without `--smoke-strict`, do not fail a session."""
TITLE_CHARS, TEXT_CHARS = 200, 2000
"""Longest title and text. GitHub cuts a text at 64 KiB and a title at 255 characters."""

_COMMAND = re.compile(r"^[^\S\n]*::|##\[", re.MULTILINE)
_FAULT = re.compile(r"(?P<path>.+?):(?P<line>\d+):(?P<column>\d+): (?P<text>.*)", re.DOTALL)
Level = Literal["error", "warning", "notice"]


@dataclass(frozen=True, slots=True)
class _Annotation:
    level: Level
    places: Sequence[str]
    """`file:line`, the best one first."""
    title: str
    text: str
    column: str = ""


def annotation_commands(
    outcomes: Iterable[Outcome],
    *,
    faults: Iterable[str] = (),
    path_of: Callable[[str], str] = str,
    skips_fail: bool = False,
) -> list[str]:
    """Return the commands: an error for what was not promoted, a warning for each warning of what was.

    `faults` are those of recipes that cannot be read, as `path:line:column: what is wrong`. They come first.

    Only the worst `SHOWN` of each level are there, and a notice that counts the others. `path_of` turns a path relative
    to pytest's rootdir into one that GitHub finds; it is empty for a file outside of the checkout. With `skips_fail`,
    smoke runs that were not executed are errors.
    """
    found = [one for outcome in worst_first(outcomes) for one in _of(outcome, skips_fail=skips_fail)]
    errors = [*map(_of_fault, faults), *(one for one in found if one.level == "error")]
    others = [one for one in found if one.level == "warning"]
    commands = [_command(one, path_of) for one in [*errors[:SHOWN], *others[:SHOWN]]]
    for noun, all_of_level in (("more error", errors), ("more warning", others)):
        if (hidden := len(all_of_level) - SHOWN) > 0:
            text = f"{count(hidden, noun)} not shown here: GitHub shows {SHOWN} of a step, these are the worst"
            commands.append(_command(_Annotation("notice", (), "smoke runs", text), path_of))
    return commands


def without_commands(text: str) -> str:
    """Change what GitHub's runner takes for a command in a line of a log: `::` at its start, and `##[` anywhere."""
    return _COMMAND.sub(lambda match: f"{match[0][:-1]} {match[0][-1]}", text)


def _of(outcome: Outcome, *, skips_fail: bool) -> list[_Annotation]:
    name = plain_name(outcome.id)
    if outcome.completed:
        return []
    if outcome.promoted:
        warned = [finding for finding in outcome.findings if finding.status == "warn"]
        return [_Annotation("warning", outcome.places_of(one), f"{name}: {one.id}", _text(one)) for one in warned]
    level: Level = "warning" if outcome.reason in SKIPPED and not skips_fail else "error"
    text = _text(outcome.deciding) if outcome.deciding else outcome.text
    return [_Annotation(level, outcome.places_of(outcome.deciding), f"{name}: {label(outcome)}", text)]


def _of_fault(fault: str) -> _Annotation:
    match = _FAULT.fullmatch(fault)
    if match is None:
        return _Annotation("error", (), "recipe", fault)
    place = f"{match['path']}:{match['line']}"
    return _Annotation(
        "error", (place,), f"{plain_name(match['path'])}: fault in the recipe", match["text"], match["column"]
    )


def _text(finding: Finding) -> str:
    hint = f"\nhint: {finding.hint}" if finding.hint else ""
    text = finding.text.removeprefix(f"{NOT_CHECKED}: ")
    return f"{shortened(text, TEXT_CHARS)}{shortened(hint, TEXT_CHARS)}"


def _command(one: _Annotation, path_of: Callable[[str], str]) -> str:
    properties = {"title": shortened(plain_name(one.title), TITLE_CHARS)}
    for place in one.places:
        path, line = _split(plain_name(place))
        if file := path_of(path):
            column = {"col": one.column} if one.column else {}
            properties = {"file": file, "line": line, **column, **properties}
            break
    given = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in properties.items())
    return f"::{one.level} {given}::{_escaped(plain_text(one.text))}"


def _split(place: str) -> tuple[str, str]:
    path, _, line = place.rpartition(":")
    return (path, line) if path and line.isdecimal() else (place, "1")


def _escaped(text: str, also: str = "") -> str:
    """Escape as the runner expects it: `%` first, line breaks, and in properties what separates them."""
    for sign in f"%\r\n{also}":
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
