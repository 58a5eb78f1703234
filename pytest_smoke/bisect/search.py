"""Searches for the settings that make a stable recipe unstable, with as few smoke runs as possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_smoke.bisect.cache import VerdictCache, fingerprint
from pytest_smoke.bisect.ddmin import Answer, ddmin
from pytest_smoke.bisect.result import BisectResult, BisectTrial
from pytest_smoke.judge.checks.registry import DEFAULT
from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.diff import Difference, between, differences, unseen
from pytest_smoke.text import listed, verdict_label

BISECTABLE = ("unstable", "hold")
"""Verdicts that a run leads to and that settings can explain."""

RunSmoke = Callable[[Case, str], Outcome]
"""Executes a case under the given name."""


class _NothingToFindError(Exception):
    """Why a bisect cannot find anything, in a sentence."""


class Bisection:
    """One search; call `run` once."""

    def __init__(
        self,
        good: Case,
        bad: Case,
        *,
        names: tuple[str, str],
        root: Path,
        device: str,
        run_smoke: RunSmoke,
        cache: VerdictCache,
        on_trial: Callable[[BisectTrial, int, int], None],
    ) -> None:
        """Prepare a search between `good` and `bad`.

        `names`: of the two recipes, as the user wrote them. `on_trial` is called after each verdict with the trial, its
        number, and the number of settings that differ.
        """
        self._good, self._bad = good, bad
        self._run_smoke, self._cache, self._on_trial = run_smoke, cache, on_trial
        self._root, self._device = root, device
        self._differences = differences(good, bad)
        self._wanted = "unstable"
        self._state = BisectResult(
            good=names[0],
            bad=names[1],
            differences=tuple(map(str, self._differences)),
            unseen=tuple(unseen(good, bad)),
            tried=(),
            minimal=(),
            text="not finished: rerun the same command to continue",
        )

    def run(self) -> BisectResult:
        """Search. The state is written after each smoke run, so an interrupt loses only the current one."""
        try:
            self._check_both_ends()
            minimal = ddmin(self._differences, lambda part: self._try(part).answer)
        except _NothingToFindError as why:
            self._state = replace(self._state, text=str(why))
        else:
            keys = tuple(difference.key for difference in minimal)
            self._state = replace(self._state, minimal=keys, text=self._answer_text(minimal))
        self._cache.write(self._state)
        return self._state

    def _check_both_ends(self) -> None:
        """Raise _NothingToFindError unless the stable recipe passes and the unstable one fails."""
        good, bad = self._state.good, self._state.bad
        for name, case in ((good, self._good), (bad, self._bad)):
            for finding in DEFAULT.before_run(case):
                if finding.status == "fail":
                    raise _NothingToFindError(f"{name} fails preflight, so there is nothing to bisect: {finding.text}")
        if not self._differences:
            raise _NothingToFindError(
                f"{good} and {bad} differ in no setting that a smoke run uses{self._unseen_clause()}"
            )
        last = self._try(self._differences)  # the unstable one first: it is stopped early
        if last.verdict not in BISECTABLE:
            raise _NothingToFindError(
                f"the verdict on {bad} is {_label(last)}; a bisect needs {' or '.join(BISECTABLE)}: {last.text}"
            )
        self._wanted = last.verdict
        first = self._try([])
        if first.answer != "pass":
            raise _NothingToFindError(
                f"the verdict on {good} is {_label(first)}; a bisect needs a stable recipe: {first.text}"
            )

    def _unseen_clause(self) -> str:
        """Name the settings that differ without an effect on a smoke run; empty if there are none."""
        unseen = self._state.unseen
        return f"; only {', '.join(unseen)} {'differs' if len(unseen) == 1 else 'differ'}" if unseen else ""

    def _try(self, part: Sequence[Difference]) -> BisectTrial:
        """Return the verdict with these differences applied, from the cache if it is known."""
        settings = tuple(difference.key for difference in part)
        try:
            case = between(self._good, self._bad, part)
        except ValueError as error:
            trial = BisectTrial(
                settings=settings,
                verdict="invalid",
                reason="recipe",
                step=None,
                text=str(error),
                answer="unresolved",
                smoke="",
                kept=False,
            )
        else:
            trial = self._trial(settings, case)
        self._state = replace(self._state, tried=(*self._state.tried, trial))
        self._cache.write(self._state)
        self._on_trial(trial, len(self._state.tried), len(self._differences))
        return trial

    def _trial(self, settings: tuple[str, ...], case: Case) -> BisectTrial:
        smoke = fingerprint(case, root=self._root, device=self._device)
        known = self._cache.get(smoke)
        kept = known is not None
        if known is None:
            known = self._cache.put(smoke, self._run_smoke(case, "+".join(settings) or "none"))
        # The run with all differences defines the verdict to explain; until it is known, that is `unstable`.
        all_applied = len(settings) == len(self._differences) and known["verdict"] in BISECTABLE
        wanted = known["verdict"] if all_applied else self._wanted
        return BisectTrial(**known, settings=settings, answer=_answer(known["verdict"], wanted), smoke=smoke, kept=kept)

    def _answer_text(self, minimal: Sequence[Difference]) -> str:
        good, (first, *rest) = self._state.good, minimal
        if not rest:
            return f"found: {first} alone makes {good} {self._wanted}"
        text = f"found: {' and '.join(map(str, minimal))} together make {good} {self._wanted}"
        undecided = dict(self._undecided(minimal))
        if not undecided:
            return f"{text}; {'both' if len(minimal) == 2 else f'all {len(minimal)}'} are needed"
        needed = [one.key for one in minimal if one.key not in undecided]
        if needed:
            text += f"; {listed(needed, limit=len(needed))} {'is' if len(needed) == 1 else 'are'} needed"
        return text + "".join(
            f"; without {key} the verdict is {label}, so whether {key} is needed is not known"
            for key, label in undecided.items()
        )

    def _undecided(self, minimal: Sequence[Difference]) -> list[tuple[str, str]]:
        """Return the settings whose removal led to no decision, with the verdict there."""
        answers = {trial.settings: trial for trial in self._state.tried}
        undecided = []
        for one in minimal:
            without = answers.get(tuple(other.key for other in minimal if other is not one))
            if without is not None and without.answer == "unresolved":
                undecided.append((one.key, _label(without)))
        return undecided


def _answer(verdict: str, wanted: str) -> Answer:
    """Translate a verdict where `wanted` is the one to explain: `hold` is stable, so it does not explain `unstable`."""
    if verdict == wanted:
        return "fail"
    return "pass" if verdict == "promote" or (verdict == "hold" and wanted == "unstable") else "unresolved"


def _label(trial: BisectTrial) -> str:
    return verdict_label(trial.verdict, trial.reason)
