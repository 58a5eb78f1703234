"""A recipe file as cases to run, or every fault in it at once."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from pytest_smoke.errors import Fault, RecipeError
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.cells import cell_problems, with_cell
from pytest_smoke.recipe.criteria_faults import ParseCriterion, criterion_problems, reach_problems
from pytest_smoke.recipe.explain import Problem, problems
from pytest_smoke.recipe.extend import Sources, path_from, read_sources
from pytest_smoke.recipe.mix import row_problems
from pytest_smoke.recipe.model import Mode, Recipe, Smoke
from pytest_smoke.recipe.modes import modes_of
from pytest_smoke.recipe.resume import resume_fault
from pytest_smoke.recipe.stage_faults import stage_problems
from pytest_smoke.recipe.task_ref import task_fault


def load_recipe(path: Path, *, root: Path) -> Recipe:
    """The recipe in a file; `root` is where its task is imported from. Imports nothing of the user's.

    Raises RecipeError with every fault of the file, and of those it extends.
    """
    return _validated(read_sources(path, root), root, None)


def load_cases(
    path: Path, *, root: Path, mode: Mode | None = None, parse_criterion: ParseCriterion | None = None
) -> list[Case]:
    """The smokes of a recipe file: for each mode the baseline, then its ablation cells.

    `mode` overrides the recipe's, and with it an `lr_schedule` that the smoke names; the full run's is never touched.

    The grammar of criteria belongs to the judge, so who has one gives its parser. Raises RecipeError as `load_recipe`.
    """
    sources = read_sources(path, root)
    recipe = _validated(sources, root, parse_criterion)
    places = sources.places()
    where = path_from(path, root)
    recipes: dict[str | None, Recipe] = {None: recipe}
    recipes |= {name: with_cell(sources.data, cell) for name, cell in recipe.ablate.items()}
    if mode is not None:
        recipes = {cell: _free_of_schedule(changed) for cell, changed in recipes.items()}
    return [
        Case(path=where, recipe=changed, mode=one, cell=cell, places=places)
        for one in modes_of(recipe.smoke, mode)
        for cell, changed in recipes.items()
    ]


def _free_of_schedule(recipe: Recipe) -> Recipe:
    """The recipe whose smoke leaves its schedule to its mode."""
    kept = recipe.smoke.model_fields_set - {"lr_schedule"}
    smoke = Smoke.model_construct(kept, **recipe.smoke.model_copy(update={"lr_schedule": None}).__dict__)
    return recipe.model_copy(update={"smoke": smoke})


def _validated(sources: Sources, root: Path, parse_criterion: ParseCriterion | None) -> Recipe:
    found: list[Problem] = []
    recipe = None
    try:
        recipe = Recipe.model_validate(sources.data)
    except ValidationError as error:
        found = problems(error)
    found += cell_problems(sources.data)
    found += row_problems(sources.data)
    if recipe is not None:
        found += stage_problems(recipe) or [*_resume_problems(recipe), *reach_problems(recipe, parse_criterion)]
    task = sources.data.get("task")
    if isinstance(task, str) and not any(problem.keys == ("task",) for problem in found):
        wrong = task_fault(task, root)
        if wrong:
            found.append(Problem(keys=("task",), at_key=False, text=wrong))
    if parse_criterion is not None:
        found += criterion_problems(sources.data, parse_criterion)
    faults: list[Fault] = [*sources.faults, *map(sources.fault, found)]
    if faults:
        raise RecipeError(faults)
    assert recipe is not None, "a recipe that does not validate has faults"
    return recipe


def _resume_problems(recipe: Recipe) -> list[Problem]:
    case = Case(path="", recipe=recipe, mode="constant")
    wrong = resume_fault(recipe.checks.resume, case.run_steps, case.spans)
    return [Problem(keys=("checks", "resume"), at_key=False, text=wrong)] if wrong else []
