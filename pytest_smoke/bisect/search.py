"""Find the settings that make a stable recipe unstable, with as few smokes as it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_smoke.bisect.cache import VerdictCache, fingerprint
from pytest_smoke.bisect.ddmin import Answer, ddmin
from pytest_smoke.judge.checks.preflight import preflight
from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.diff import Difference, between, differences, unseen
from pytest_smoke.report.bisect import BisectResult, BisectTrial

BISECTABLE = ("unstable", "hold")
"""Verdicts that a run leads to and that settings explain."""

Conduct = Callable[[Case, str], Outcome]
"""Conducts a case under a name of its own."""


class _Hopeless(Exception):
    """Why there is nothing to find, in a sentence."""


class Bisection:
    """One search; `run` it once."""

    def __init__(
        self,
        good: Case,
        bad: Case,
        *,
        names: tuple[str, str],
        root: Path,
        device: str,
        run_smoke: Conduct,
        decided: VerdictCache,
        said: Callable[[BisectTrial, int, int], None],
    ) -> None:
        """`names`: of the two recipes, as the user wrote them. `said` hears each verdict, its number, and how many
        settings differ.
        """
        self._good, self._bad = good, bad
        self._conduct, self._decided, self._said = run_smoke, decided, said
        self._root, self._device = root, device
        self._differences = differences(good, bad)
        self._word = "unstable"
        self._state = BisectResult(
            good=names[0],
            bad=names[1],
            differences=tuple(map(str, self._differences)),
            unseen=tuple(unseen(good, bad)),
            tried=(),
            minimal=(),
            text="not finished: the same command goes on from here",
        )

    def run(self) -> BisectResult:
        """Search. What was decided is written after each smoke, so an interrupt loses only the one that ran."""
        try:
            self._both_ends()
            minimal = ddmin(self._differences, lambda part: self._try(part).answer)
        except _Hopeless as why:
            self._state = replace(self._state, text=str(why))
        else:
            keys = tuple(difference.key for difference in minimal)
            self._state = replace(self._state, minimal=keys, text=self._sentence(minimal))
        self._decided.write(self._state)
        return self._state

    def _both_ends(self) -> None:
        """Raises _Hopeless unless the stable recipe passes and the unstable one fails."""
        good, bad = self._state.good, self._state.bad
        for name, case in ((good, self._good), (bad, self._bad)):
            for finding in preflight(case):
                if finding.status == "fail":
                    raise _Hopeless(f"{name} is no fair rehearsal, so there is nothing to bisect: {finding.text}")
        if not self._differences:
            only = f"; only {', '.join(self._state.unseen)} differ" if self._state.unseen else ""
            raise _Hopeless(f"{good} and {bad} do not differ in any setting that a smoke sees{only}")
        last = self._try(self._differences)  # the unstable one first: it is stopped early
        if last.verdict not in BISECTABLE:
            raise _Hopeless(
                f"the verdict on {bad} is {_is(last)}, and a bisect starts from {' or '.join(BISECTABLE)}: {last.text}"
            )
        self._word = last.verdict
        first = self._try([])
        if first.answer != "pass":
            raise _Hopeless(
                f"the verdict on {good} is {_is(first)}, and a bisect starts from a stable recipe: {first.text}"
            )

    def _try(self, part: Sequence[Difference]) -> BisectTrial:
        """The verdict with these differences applied, from memory if it was decided before."""
        settings = tuple(difference.key for difference in part)
        try:
            case = between(self._good, self._bad, part)
        except ValueError as error:
            tried = BisectTrial(
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
            tried = self._tried(settings, case)
        self._state = replace(self._state, tried=(*self._state.tried, tried))
        self._decided.write(self._state)
        self._said(tried, len(self._state.tried), len(self._differences))
        return tried

    def _tried(self, settings: tuple[str, ...], case: Case) -> BisectTrial:
        smoke = fingerprint(case, root=self._root, device=self._device)
        known = self._decided.get(smoke)
        kept = known is not None
        if known is None:
            known = self._decided.put(smoke, self._conduct(case, "+".join(settings) or "none"))
        # The end that is known to fail gives the word to look for; until then it is `unstable`.
        whole = len(settings) == len(self._differences) and known["verdict"] in BISECTABLE
        word = known["verdict"] if whole else self._word
        return BisectTrial(**known, settings=settings, answer=_answer(known["verdict"], word), smoke=smoke, kept=kept)

    def _sentence(self, minimal: Sequence[Difference]) -> str:
        good, (first, *rest) = self._state.good, minimal
        if not rest:
            return f"found: {first} alone makes {good} {self._word}"
        text = f"found: {' and '.join(map(str, minimal))} together make {good} {self._word}"
        return f"{text}; without any one of them it is not" + "".join(
            f"; without {key} the verdict is {word}, which decides nothing" for key, word in self._open(minimal)
        )

    def _open(self, minimal: Sequence[Difference]) -> list[tuple[str, str]]:
        """Members whose removal was not decided: the key left out, and the verdict there."""
        answers = {tried.settings: tried for tried in self._state.tried}
        left = []
        for one in minimal:
            without = answers.get(tuple(other.key for other in minimal if other is not one))
            if without is not None and without.answer == "unresolved":
                left.append((one.key, _is(without)))
        return left


def _answer(verdict: str, word: str) -> Answer:
    """What a verdict means where `word` is the one to explain: `hold` is stable, and so it explains no instability."""
    if verdict == word:
        return "fail"
    return "pass" if verdict == "promote" or (verdict == "hold" and word == "unstable") else "unresolved"


def _is(tried: BisectTrial) -> str:
    return f"{tried.verdict} ({tried.reason})" if tried.reason else tried.verdict
