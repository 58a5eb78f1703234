"""The fixture `smoke`: smoke runs executed from tests written in Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_smoke.collect.item import device_for, failure_text, run_for_item
from pytest_smoke.keys import OUTCOMES
from pytest_smoke.options import MODES
from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.recipe.model import Mode
from pytest_smoke.text import count


class Smokes:
    """Executes recipes inside a test: `assert smoke("lm.smoke.yaml").verdict == "promote"`."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def __call__(self, recipe: str | Path, *, mode: Mode | None = None, cell: str | None = None) -> Outcome:
        """Execute one smoke run of `recipe` (a path relative to the test's folder, or absolute); return its outcome.

        `mode` and `cell` choose the case if the recipe has several; `--smoke-mode` overrides `mode`. The outcome is in
        the session's reports; the test decides what to assert. Raises RecipeError if the recipe has faults, and
        ValueError if `mode` and `cell` match no case, or more than one.
        """
        config = self._item.config
        if mode not in (None, *MODES):
            raise ValueError(f"mode={mode!r}: must be one of {', '.join(MODES)}")
        cases = load_cases(
            self._item.path.parent / recipe, root=config.rootpath, mode=config.getoption("smoke_mode") or mode
        )
        matching = [case for case in cases if case.cell == cell]
        if len(matching) != 1:
            names = ", ".join(case.name for case in cases)
            matched = count(len(matching), "case")
            raise ValueError(
                f"{recipe}: mode={mode!r} and cell={cell!r} match {matched}, must match exactly one of: {names}"
            )
        (case,) = matching
        item_id = f"{self._item.nodeid}#{len(self._item.stash.get(OUTCOMES, []))}"
        device = device_for(self._item, case, item_id=item_id)
        outcome = run_for_item(self._item, case, device=device, item_id=item_id).outcome
        if not outcome.promoted:
            self._item.add_report_section("call", f"smoke {recipe}", failure_text(outcome, case, self._item))
        return outcome
