"""Every criterion of a recipe is read when the recipe is, so that a misspelt one costs no run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, Protocol

from pytest_smoke.recipe.explain import Keys, Problem, nearest
from pytest_smoke.recipe.fields import criterion_text


class Criterion(Protocol):
    """What a parser makes of a criterion."""

    @property
    def stages(self) -> Set[str]:
        """Names of the stages it speaks of."""

    @property
    def reads_baseline(self) -> bool:
        """Whether it compares with an earlier run."""


ParseCriterion = Callable[[str], Criterion]
"""Raises ValueError, its first line the reason, for a text that is no criterion."""


def criterion_problems(data: Mapping[str, Any], parse: ParseCriterion) -> Iterator[Problem]:
    """What is wrong with the criteria of a recipe's raw data; shapes that are faults already are passed over."""
    checks = data.get("checks")
    checks = checks if isinstance(checks, Mapping) else {}
    stages = data.get("stages")
    stages = [stage for stage in stages if isinstance(stage, Mapping)] if isinstance(stages, list) else []
    known = [stage["name"] for stage in stages if isinstance(stage.get("name"), str)]
    lists: list[tuple[Keys, Any, list[str], bool]] = [
        (("checks", "accept"), checks.get("accept"), known, "baseline" in checks),
        (("checks", "full_accept"), checks.get("full_accept"), known, True),
    ]
    lists += [
        (("stages", number, "accept"), stage.get("accept"), [str(stage.get("name"))], "baseline" in checks)
        for number, stage in enumerate(stages)
    ]
    for keys, texts, names, baseline in lists:
        for number, text in enumerate(map(criterion_text, texts) if isinstance(texts, list) else []):
            wrong = _wrong(text, parse, names, baseline, own=keys[0] == "stages") if isinstance(text, str) else None
            if wrong:
                yield Problem(keys=(*keys, number), at_key=False, text=f"criterion {text!r}: {wrong}")


def _wrong(text: str, parse: ParseCriterion, names: list[str], baseline: bool, *, own: bool) -> str | None:
    try:
        criterion = parse(text)
    except ValueError as error:
        return str(error).partition("\n")[0]
    foreign = sorted(criterion.stages - set(names))
    if foreign and own:
        return f"a stage's own criteria speak of that stage alone; put one about stage {foreign[0]} under checks.accept"
    if foreign:
        return f"there is no stage {foreign[0]}; {nearest(foreign[0], names)}"
    if criterion.reads_baseline and not baseline:
        return "it compares with a baseline; name its verdicts.json under checks.baseline"
    return None
