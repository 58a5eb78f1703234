"""The fixture `smoke`: smoke runs executed from tests written in Python."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.collect.item import device_for, failure_text, run_for_item
from pytest_smoke.collect.python_tasks import send_task
from pytest_smoke.errors import SmokeError
from pytest_smoke.keys import RUNS
from pytest_smoke.options import MODES, allowed_code
from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import load_cases, settings_cases
from pytest_smoke.recipe.model import Mode
from pytest_smoke.text import count
from pytest_smoke.train.temporary import temporary_folder


class Smokes:
    """Executes smoke runs inside a test: `assert smoke("lm.smoke.yaml").verdict == "promote"`.

    Or without a recipe: `assert smoke(MyTask, full={...}, steps=300).verdict == "promote"`.
    """

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def __call__(
        self,
        recipe: Any,
        *,
        mode: Mode | None = None,
        cell: str | None = None,
        full: Mapping[str, Any] | None = None,
        steps: int | None = None,
        args: Mapping[str, Any] | None = None,
        **sections: Mapping[str, Any],
    ) -> Outcome:
        """Execute one smoke run and return its outcome, which is in the session's reports; the test asserts something.

        `recipe` is the path of a recipe (relative to the test's folder, or absolute). `mode` and `cell` choose the case
        if it has several; `--smoke-mode` overrides `mode`.

        Or `recipe` is a task, or a class or function that returns one for the keyword arguments `args`. `full` has the
        settings of the full run, and `steps` is the length of the smoke run. `smoke`, `checks`, `metrics`, `mix`,
        `launch` and `requires` are the other sections of a recipe. Classes and functions at the top level of a module
        are imported by the training process; a task object is pickled.

        Raises RecipeError if the recipe or a setting has faults, TaskError if the task cannot be sent to the training
        process, and ValueError if `mode` and `cell` match no case, or more than one.
        """
        __tracebackhide__ = True  # of an error in the call, a failure shows the call alone
        try:
            return self._outcome_of(recipe, mode, cell, full, steps, args, sections)
        except SmokeError as error:
            raise error.with_traceback(None) from None

    def _outcome_of(
        self,
        recipe: Any,
        mode: Mode | None,
        cell: str | None,
        full: Mapping[str, Any] | None,
        steps: int | None,
        args: Mapping[str, Any] | None,
        sections: dict[str, Mapping[str, Any]],
    ) -> Outcome:
        __tracebackhide__ = True
        if mode not in (None, *MODES):
            raise ValueError(f"mode={mode!r}: must be one of {', '.join(MODES)}")
        given = {"full": full, "steps": steps, "args": args, **sections}
        if isinstance(recipe, str | Path):
            own = [name for name, value in given.items() if value is not None]
            if own:
                raise ValueError(f"{recipe} has its own settings: remove {', '.join(f'{name}=' for name in own)}")
            return self._execute(self._case_of_recipe(recipe, mode, cell), name=str(recipe))
        if cell is not None:
            raise ValueError(f"cell={cell!r} chooses a cell of a recipe, and this smoke run has none")
        with temporary_folder("task-") as folder:
            root = self._item.config.rootpath
            task = send_task(recipe, args or {}, folder=folder, root=root)
            smoke = {"max_steps": steps, "mode": mode, **sections.pop("smoke", {})}
            data = {
                "task": task.reference,
                "args": task.args,
                "full": full,
                **sections,
                "smoke": {key: value for key, value in smoke.items() if value is not None},
            }
            return self._execute(self._case_of_settings(data), name=task.name)

    def _case_of_recipe(self, recipe: str | Path, mode: Mode | None, cell: str | None) -> Case:
        __tracebackhide__ = True
        config = self._item.config
        cases = load_cases(
            self._item.path.parent / recipe,
            root=config.rootpath,
            mode=config.getoption("smoke_mode") or mode,
            allowed=allowed_code(config),
        )
        matching = [case for case in cases if case.cell == cell]
        if len(matching) != 1:
            wanted = f"{'' if mode is None else f'mode={mode!r} and '}cell={cell!r}"
            found = f"has {count(len(matching), 'smoke run') if matching else 'no smoke run'} with {wanted}"
            names = ", ".join(case.name for case in cases)
            raise ValueError(f"{recipe} {found}; mode= and cell= must choose one of: {names}")
        return matching[0]

    def _case_of_settings(self, data: Mapping[str, Any]) -> Case:
        __tracebackhide__ = True
        config = self._item.config
        cases = settings_cases(
            {key: value for key, value in data.items() if value is not None},
            path=self._item.path,
            line=self._line(),
            root=config.rootpath,
            mode=config.getoption("smoke_mode"),
        )
        if len(cases) != 1:
            raise ValueError(f"smoke() executes one smoke run, not {len(cases)}: give one mode, and no cells in ablate")
        return cases[0]

    def _line(self) -> int:
        """Return the line of the test's file that called the fixture."""
        frame = sys._getframe(2)
        while frame is not None and frame.f_code.co_filename != str(self._item.path):
            if frame.f_back is None:
                return (self._item.reportinfo()[1] or 0) + 1
            frame = frame.f_back
        return frame.f_lineno

    def _execute(self, case: Case, *, name: str) -> Outcome:
        item_id = f"{self._item.nodeid}#{self._item.stash.get(RUNS, 0)}"
        device = device_for(self._item, case, item_id=item_id)
        outcome = run_for_item(self._item, case, device=device, item_id=item_id).outcome
        if not outcome.promoted:
            item = self._item
            text = failure_text(outcome, item.config, path=item.path, node_id=item.nodeid)
            item.add_report_section("call", f"smoke {name}", text)
        return outcome
