"""The fixture `smoke`: smokes conducted from tests written in Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_smoke.collect.item import device_for, failure_text, run_for_item
from pytest_smoke.criteria import parse
from pytest_smoke.keys import OUTCOMES
from pytest_smoke.options import MODES
from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.recipe.model import Mode


class Smokes:
    """Conducts recipes inside a test: `smoke("lm.smoke.yaml").verdict == "promote"`."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def __call__(self, recipe: str | Path, *, mode: Mode | None = None, cell: str | None = None) -> Outcome:
        """Conduct one smoke of `recipe` (a path from the test's own folder, or absolute) and return its outcome.

        `mode` and `cell` name the case where the recipe has several; `--smoke-mode` overrides `mode`. The outcome is
        in the session's reports, and the test decides what to make of it. Raises RecipeError for a recipe with
        faults, ValueError where no case, or more than one, is meant.
        """
        config = self._item.config
        if mode not in (None, *MODES):
            raise ValueError(f"mode={mode!r}: must be one of {', '.join(MODES)}")
        cases = load_cases(
            self._item.path.parent / recipe,
            root=config.rootpath,
            mode=config.getoption("smoke_mode") or mode,
            parse_criterion=parse,
        )
        meant = [case for case in cases if case.cell == cell]
        if len(meant) != 1:
            names = ", ".join(case.name for case in cases)
            raise ValueError(f"{recipe}: mode={mode!r}, cell={cell!r} names {len(meant)} of its cases: {names}")
        id = f"{self._item.nodeid}#{len(self._item.stash.get(OUTCOMES, []))}"
        outcome = run_for_item(self._item, meant[0], device=device_for(self._item, meant[0], id=id), id=id).outcome
        if not outcome.promoted:
            self._item.add_report_section("call", f"smoke {recipe}", failure_text(outcome, meant[0], self._item))
        return outcome
