"""What is wrong with the stages of a recipe that each model accepts: lengths that are missing or do not add up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_smoke.recipe.explain import Keys, Problem, dotted
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.recipe.stages import StageSpec, full_steps, phase_lengths, smoke_steps


def stage_problems(recipe: Recipe) -> list[Problem]:
    """Every such fault, each at its place."""
    stages = recipe.stages
    if not stages:
        return []
    per_epoch = recipe.smoke.steps_per_epoch
    found = list(_repeated([stage.name for stage in stages], ("stages",)))
    for number, stage in enumerate(stages):
        keys: Keys = ("stages", number)
        found += _length(keys, "", stage.steps, stage.epochs, stage.steps_per_epoch or per_epoch)
        found += _length(keys, "full_", stage.full_steps, stage.full_epochs, stage.full_steps_per_epoch)
        found += _repeated([phase.name for phase in stage.phases], (*keys, "phases"))
        found += _phase_problems(keys, stage, per_epoch)
    if not found:  # a sum of lengths that are wrong says nothing
        found += _sum(("full", "max_steps"), recipe.full.max_steps, "full_steps", list(map(full_steps, stages)))
        lengths = [smoke_steps(stage, per_epoch) for stage in stages]
        found += _sum(("smoke", "max_steps"), recipe.smoke.max_steps, "steps", lengths)
    if recipe.smoke.run_steps is not None:
        text = "smoke.run_steps cuts a smoke short, and this one has stages; give each stage its steps instead"
        found.append(Problem(keys=("smoke", "run_steps"), at_key=True, text=text))
    for name, cell in recipe.ablate.items():
        if "full.max_steps" in cell:
            text = f"cell {name}: the stages say how long the full run is; a cell cannot change full.max_steps"
            found.append(Problem(keys=("ablate", name, "full.max_steps"), at_key=True, text=text))
        for key in ("learning_rate", "warmup_steps"):
            if f"full.{key}" in cell and all(getattr(stage, key) is not None for stage in stages):
                text = (
                    f"cell {name}: every stage has its own {key}, so full.{key} changes nothing; take it from a stage"
                )
                found.append(Problem(keys=("ablate", name, f"full.{key}"), at_key=True, text=text))
    return found


def _length(keys: Keys, full: str, steps: int | None, epochs: int | None, per_epoch: int | None) -> Iterator[Problem]:
    name, which = dotted(keys), "the full run's" if full else "the smoke's"
    if (steps is None) == (epochs is None):
        said = "gives no length for" if steps is None else f"gives both {full}steps and {full}epochs for"
        text = f"{name} {said} {which} stage; write {full}steps, or {full}epochs with {full}steps_per_epoch"
        yield Problem(keys=keys, at_key=False, text=text)
    elif steps is None and per_epoch is None:
        text = f"{name}.{full}epochs needs to know how many steps an epoch has; add {full}steps_per_epoch"
        yield Problem(keys=(*keys, f"{full}epochs"), at_key=True, text=text)


def _phase_problems(keys: Keys, stage: StageSpec, per_epoch: int | None) -> Iterator[Problem]:
    lengths = phase_lengths(stage, per_epoch)
    last = len(stage.phases) - 1
    for number, phase in enumerate(stage.phases):
        at = (*keys, "phases", number)
        if phase.steps is not None and phase.epochs is not None:
            yield Problem(keys=at, at_key=False, text=f"{dotted(at)} gives both steps and epochs; write one of them")
        elif number < last and lengths[number] < 1:
            text = f"{dotted(at)} has no length; every phase but the last needs steps, or epochs with steps_per_epoch"
            yield Problem(keys=at, at_key=False, text=text)
        elif number == last and smoke_steps(stage, per_epoch):
            own = phase.steps or (phase.epochs or 0) * (stage.steps_per_epoch or per_epoch or 0)
            before = sum(lengths[:-1])
            if lengths[-1] < 1 or (own and own != lengths[-1]):
                asked = f"{before} steps" + (f" and {own}" if own else " before this one")
                text = (
                    f"{dotted((*keys, 'phases'))} take {asked}, and stage {stage.name} has "
                    f"{smoke_steps(stage, per_epoch)}; the last phase takes what is left, 1 step or more"
                )
                yield Problem(keys=at, at_key=False, text=text)


def _sum(keys: Keys, declared: int, key: str, lengths: Sequence[int]) -> Iterator[Problem]:
    if declared != sum(lengths):
        sum_text = " + ".join(map(str, lengths))
        text = (
            f"{dotted(keys)} is {declared}, but the stages' {key} add up to {sum_text} = {sum(lengths)}; "
            "leave it out, or make them agree"
        )
        yield Problem(keys=keys, at_key=False, text=text)


def _repeated(names: Sequence[str], keys: Keys) -> Iterator[Problem]:
    for number, name in enumerate(names):
        if name in names[:number]:
            text = f"{dotted((*keys, number))} is called {name}, as is {dotted((*keys, names.index(name)))}; rename one"
            yield Problem(keys=(*keys, number, "name"), at_key=False, text=text)
