"""Check the criteria of a recipe when it is loaded, so that a misspelled one does not cost a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_smoke.criteria import Criterion, parse
from pytest_smoke.errors import CriterionError
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.explain import Keys, Problem, dotted
from pytest_smoke.recipe.fields import criterion_text
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.text import did_you_mean


def reach_problems(recipe: Recipe) -> Iterator[Problem]:
    """Yield a problem for each criterion on steps that no smoke run makes, or on epochs of unknown length."""
    case, per_epoch = Case(path="", recipe=recipe, mode="constant"), recipe.smoke.steps_per_epoch
    lists: list[tuple[Keys, Sequence[str], str, str, int, int | None]] = [
        (("checks", "accept"), recipe.checks.accept, "the smoke run", "smoke", case.run_steps, per_epoch)
    ]
    for stage in case.stages if recipe.stages else ():
        owner = f"stage {stage.name}"
        of_stage = (stage.accept, owner, owner, stage.steps, stage.steps_per_epoch)
        lists.append((("stages", stage.number, "accept"), *of_stage))
    for keys, texts, owner, section, steps, steps_per_epoch in lists:
        for number, text in enumerate(texts):
            wrong = _out_of_reach(text, owner, section, steps, steps_per_epoch)
            if wrong:
                yield Problem(keys=(*keys, number), at_key=False, text=f"criterion {text!r}: {wrong}")


def _out_of_reach(text: str, owner: str, section: str, steps: int, steps_per_epoch: int | None) -> str:
    try:
        criterion = parse(text)
    except CriterionError:
        return ""  # criterion_problems reports it
    if criterion.last_step is not None and criterion.last_step > steps:
        return f"it needs step {criterion.last_step}, but {owner} ends at step {steps}"
    if criterion.counts_epochs and steps_per_epoch is None:
        return f"it needs the number of steps in an epoch; add steps_per_epoch to {section}"
    return ""


def criterion_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each invalid criterion in a recipe's raw data; values of the wrong type are skipped."""
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
    for keys, texts, stage_names, has_baseline in lists:
        first_by_name: dict[str, int] = {}
        for number, text in enumerate(map(criterion_text, texts) if isinstance(texts, list) else []):
            if not isinstance(text, str):
                continue
            try:
                criterion = parse(text)
            except CriterionError as error:
                wrong = f"column {error.column}: {error.problem}"
            else:
                wrong = _unknown_reference(criterion, stage_names, has_baseline, in_stage=keys[0] == "stages")
                first = first_by_name.setdefault(criterion.name, number) if criterion.name and not wrong else number
                if first != number:
                    wrong = (
                        f"the name {criterion.name!r} is already used by {dotted((*keys, first))}; rename one of them"
                    )
            if wrong:
                yield Problem(keys=(*keys, number), at_key=False, text=f"criterion {text!r}: {wrong}")


def _unknown_reference(criterion: Criterion, stage_names: list[str], has_baseline: bool, *, in_stage: bool) -> str:
    unknown = sorted(criterion.stages - set(stage_names))
    if unknown and in_stage:
        return f"it is about stage {unknown[0]}, not about the stage it belongs to; move it to checks.accept"
    if unknown:
        return f"there is no stage {unknown[0]}; {did_you_mean(unknown[0], stage_names)}"
    if criterion.reads_baseline and not has_baseline:
        return "it needs a baseline; name a verdicts.json in checks.baseline"
    return ""
