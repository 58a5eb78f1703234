"""Rows of the table of faults: what a test shows, and what `docs/reference/faults.md` says.

Each module `test_SUBJECT.py` of this folder has three names that `docs/generate.py` reads: its docstring, which is the
text above its rows; `SUBJECT`, the heading; and `FAULTS`, the rows. Every row is the parameter of a test, which makes
the fault happen in real processes and compares what it saw with `assert_seen`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ANYTHING = "..."
"""Stands in a sentence for what differs from one time to the next: a path, a number of bytes, a line of code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, and what a user sees of it."""

    name: str
    """Id of the row's test; unique in the table."""
    happens: str
    """What goes wrong."""
    verdict: str
    """Verdict and reason of the smoke run, or the exit status: `error (exception)`, `promote`, `exit status 4`."""
    sentence: str
    """What the user reads: a whole text of an outcome or a whole line, with `...` for what varies."""


def rows(faults: Sequence[Fault]) -> pytest.MarkDecorator:
    """Parametrize a test over rows, which it gets as `fault`."""
    return pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in faults])


def assert_seen(fault: Fault, verdict: str, *texts: str) -> None:
    """Assert that a fault led to its verdict, and that one of `texts` is its sentence."""
    pattern = re.compile(".*?".join(map(re.escape, fault.sentence.split(ANYTHING))), re.DOTALL)
    seen = "\n".join(texts)[-5000:]
    assert verdict == fault.verdict, f"{fault.name}: {verdict}, not {fault.verdict}\n{seen}"
    assert any(pattern.fullmatch(text.strip()) for text in texts), f"{fault.name}: not {fault.sentence!r}\n{seen}"


def assert_outcome(fault: Fault, outcome: Mapping[str, Any]) -> None:
    """Assert that an outcome is that of a fault: its text, or the text of one of its findings that did not pass."""
    findings = [finding["text"] for finding in outcome["findings"] if finding["status"] != "pass"]
    reason = f" ({outcome['reason']})" if outcome["reason"] else ""
    assert_seen(fault, f"{outcome['verdict']}{reason}", outcome["text"], *findings)


def modules() -> list[ModuleType]:
    """Return the modules of the table, in the order of their file names."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
    found = [import_module(f"tests.faults.{name}") for name in names]
    return [module for module in found if hasattr(module, "FAULTS")]
