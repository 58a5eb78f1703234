"""Every criterion of a recipe is read when the recipe is, so that a misspelt one costs no run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, Protocol

from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.explain import Keys, Problem, dotted, nearest
from pytest_smoke.recipe.fields import criterion_text
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.recipe.stages import epoch_steps


class Criterion(Protocol):
    """What a parser makes of a criterion."""

    @property
    def name(self) -> str:
        """What it is called in tables; may be empty."""

    @property
    def stages(self) -> Set[str]:
        """Names of the stages it speaks of."""

    @property
    def reads_baseline(self) -> bool:
        """Whether it compares with an earlier run."""

    @property
    def last_step(self) -> int | None:
        """The last of the steps that it asks for by number; None where it does not."""

    @property
    def counts_epochs(self) -> bool:
        """Whether it asks for an epoch."""


ParseCriterion = Callable[[str], Criterion]
"""Raises ValueError, its first line the reason, for a text that is no criterion."""


def reach_problems(recipe: Recipe, parse: ParseCriterion | None) -> Iterator[Problem]:
    """Criteria that ask for steps no smoke of the recipe makes, or for epochs of unknown length."""
    if parse is None:
        return
    case, per_epoch = Case(path="", recipe=recipe, mode="constant"), recipe.smoke.steps_per_epoch
    lists: list[tuple[Keys, Sequence[str], str, int, int | None]] = [
        (("checks", "accept"), recipe.checks.accept, "the smoke", case.run_steps, per_epoch)
    ]
    for number, span in enumerate(case.spans):
        stage = span.stage
        of_stage = (stage.accept, f"stage {stage.name}", span.steps, epoch_steps(stage, per_epoch))
        lists.append((("stages", number, "accept"), *of_stage))
    for keys, texts, whose, steps, steps_per_epoch in lists:
        for number, text in enumerate(texts):
            wrong = _beyond(text, parse, whose, steps, steps_per_epoch)
            if wrong:
                yield Problem(keys=(*keys, number), at_key=False, text=f"criterion {text!r}: {wrong}")


def _beyond(text: str, parse: ParseCriterion, whose: str, steps: int, steps_per_epoch: int | None) -> str | None:
    try:
        criterion = parse(text)
    except ValueError:
        return None  # told by criterion_problems
    if criterion.last_step is not None and criterion.last_step > steps:
        return f"it asks for step {criterion.last_step}, and {whose} ends at step {steps}"
    if criterion.counts_epochs and steps_per_epoch is None:
        return f"it asks for an epoch, and {whose} declares no steps_per_epoch"
    return None


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
        called: dict[str, int] = {}
        for number, text in enumerate(map(criterion_text, texts) if isinstance(texts, list) else []):
            if not isinstance(text, str):
                continue
            try:
                criterion = parse(text)
            except ValueError as error:
                wrong = str(error).partition("\n")[0]
            else:
                wrong = _wrong(criterion, names, baseline, own=keys[0] == "stages")
                first = called.setdefault(criterion.name, number) if criterion.name and not wrong else number
                if first != number:
                    wrong = f"{dotted((*keys, first))} is called {criterion.name!r} too; rename one"
            if wrong:
                yield Problem(keys=(*keys, number), at_key=False, text=f"criterion {text!r}: {wrong}")


def _wrong(criterion: Criterion, names: list[str], baseline: bool, *, own: bool) -> str:
    foreign = sorted(criterion.stages - set(names))
    if foreign and own:
        return f"a stage's own criteria speak of that stage alone; put one about stage {foreign[0]} under checks.accept"
    if foreign:
        return f"there is no stage {foreign[0]}; {nearest(foreign[0], names)}"
    if criterion.reads_baseline and not baseline:
        return "it compares with a baseline; name its verdicts.json under checks.baseline"
    return ""
