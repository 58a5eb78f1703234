"""Where Ctrl-C, or a signal, interrupted the session: a sentence in the place of pytest's `FILE:LINE`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.interruption import INTERRUPTION
from pytest_smoke.outcome import Outcome
from pytest_smoke.report.layout import short_ids

PACKAGE = Path(__file__).parents[1]
SHOWN = 10
"""Runs that are named, at most: pytest-xdist may have interrupted one per worker."""


class InterruptedAt:
    """A plugin that replaces the line of this package's code at which pytest was interrupted."""

    def __init__(
        self,
        config: pytest.Config,
        interrupted: Callable[[], Sequence[Outcome]],
        *,
        otherwise: str = "interrupted while a smoke run was prepared",
    ) -> None:
        """`interrupted` returns the outcomes of the runs that were interrupted, once the session has ended.

        `otherwise` is what to say if there are none, and this package's code was interrupted after the collection.
        """
        self._config, self._interrupted, self._otherwise = config, interrupted, otherwise
        self._collected = False

    def pytest_collection_finish(self) -> None:
        """Remember that recipes were collected."""
        self._collected = True

    @pytest.hookimpl(wrapper=True)  # around the terminal reporter, which takes a moment to make the text
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Generator[None]:
        """Keep the results from now on, and replace the place that the terminal reporter will print.

        pytest has no hook for its text. If its private attribute is gone, the line stays as it is.
        """
        INTERRUPTION.keep_results()
        yield
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        memo: Any = getattr(reporter, "_keyboardinterrupt_memo", None)
        crash = getattr(memo, "reprcrash", None)
        if crash is not None and isinstance(excinfo.value, KeyboardInterrupt):
            is_ours = any(Path(str(entry.path)).is_relative_to(PACKAGE) for entry in excinfo.traceback)
            memo.reprcrash = _Place(crash, lambda: self._sentences(is_ours=is_ours))

    def _sentences(self, *, is_ours: bool) -> list[str]:
        outcomes = sorted(self._interrupted(), key=lambda outcome: outcome.id)
        if not outcomes:
            sentence = self._otherwise if self._collected else "interrupted while recipes were collected"
            return [sentence] if is_ours else []
        names = short_ids([outcome.id for outcome in outcomes])
        lines = [f"{names[outcome.id]}: {outcome.text}" for outcome in outcomes[:SHOWN]]
        return [*lines, f"and {len(outcomes) - SHOWN} more"] if len(outcomes) > SHOWN else lines


class _Place:
    """Stands for pytest's `ReprFileLocation`."""

    def __init__(self, original: Any, sentences: Callable[[], list[str]]) -> None:
        self._original, self._sentences = original, sentences
        self.message: str = original.message

    def toterminal(self, writer: Any) -> None:
        """Print the sentences, or the original place if there are none."""
        lines = self._sentences()
        for line in lines:
            writer.line(line, bold=True)
        if not lines:
            self._original.toterminal(writer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)
