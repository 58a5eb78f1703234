"""Check the stages of a valid recipe: lengths that are missing or do not add up, and names used twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_smoke.recipe.explain import Keys, Problem, dotted
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.recipe.stages import StageSpec, full_steps, phase_lengths, smoke_steps
from pytest_smoke.text import count


def stage_problems(recipe: Recipe) -> list[Problem]:
    """Return the problems of the recipe's stages."""
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
    if not found:  # the sum of wrong lengths would be a fault of its own
        found += _sum(("full", "max_steps"), recipe.full.max_steps, "full_steps", list(map(full_steps, stages)))
        lengths = [smoke_steps(stage, per_epoch) for stage in stages]
        found += _sum(("smoke", "max_steps"), recipe.smoke.max_steps, "steps", lengths)
    if recipe.smoke.run_steps is not None:
        text = "smoke.run_steps cannot be used with stages; set the steps of each stage instead"
        found.append(Problem(keys=("smoke", "run_steps"), at_key=True, text=text))
    for name, cell in recipe.ablate.items():
        if "full.max_steps" in cell:
            text = f"cell {name} changes full.max_steps, but the stages set the length of the full run; remove the cell"
            found.append(Problem(keys=("ablate", name, "full.max_steps"), at_key=True, text=text))
        for key in ("learning_rate", "warmup_steps"):
            if f"full.{key}" in cell and all(getattr(stage, key) is not None for stage in stages):
                text = (
                    f"cell {name} changes full.{key}, but every stage sets its own {key}, so it has no effect; "
                    f"remove {key} from a stage"
                )
                found.append(Problem(keys=("ablate", name, f"full.{key}"), at_key=True, text=text))
    return found


def _length(keys: Keys, full: str, steps: int | None, epochs: int | None, per_epoch: int | None) -> Iterator[Problem]:
    name, run = dotted(keys), "full run" if full else "smoke run"
    if (steps is None) == (epochs is None):
        problem = "has no length" if steps is None else f"has both {full}steps and {full}epochs"
        text = f"{name} {problem} for the {run}; write {full}steps, or {full}epochs and {full}steps_per_epoch"
        yield Problem(keys=keys, at_key=False, text=text)
    elif steps is None and per_epoch is None:
        text = f"{name}.{full}epochs needs the number of steps in an epoch; add {full}steps_per_epoch"
        yield Problem(keys=(*keys, f"{full}epochs"), at_key=True, text=text)


def _phase_problems(keys: Keys, stage: StageSpec, per_epoch: int | None) -> Iterator[Problem]:
    lengths = phase_lengths(stage, per_epoch)
    last = len(stage.phases) - 1
    for number, phase in enumerate(stage.phases):
        at = (*keys, "phases", number)
        if phase.steps is not None and phase.epochs is not None:
            yield Problem(keys=at, at_key=False, text=f"{dotted(at)} has both steps and epochs; remove steps or epochs")
        elif number < last and lengths[number] < 1:
            text = f"{dotted(at)} has no length; only the last phase may leave it out"
            yield Problem(keys=at, at_key=False, text=text)
        elif number == last and smoke_steps(stage, per_epoch):
            own = phase.steps or (phase.epochs or 0) * (stage.steps_per_epoch or per_epoch or 0)
            before = sum(lengths[:-1])
            if lengths[-1] < 1 or (own and own != lengths[-1]):
                phases, length = dotted((*keys, "phases")), count(smoke_steps(stage, per_epoch), "step")
                if own:
                    text = (
                        f"{phases} add up to {before} + {own} steps, but stage {stage.name} has {length}; "
                        "leave out the length of the last phase, which has the rest"
                    )
                else:
                    text = (
                        f"{phases} before the last have {count(before, 'step')}, but stage {stage.name} has {length}; "
                        "leave at least 1 for the last phase"
                    )
                yield Problem(keys=at, at_key=False, text=text)


def _sum(keys: Keys, declared: int, key: str, lengths: Sequence[int]) -> Iterator[Problem]:
    if declared != sum(lengths):
        terms = " + ".join(map(str, lengths))
        sum_text = f"{terms} = {sum(lengths)}" if len(lengths) > 1 else terms
        text = (
            f"{dotted(keys)} is {declared}, but the {key} of the stages add up to {sum_text}; "
            f"remove {keys[-1]}, or correct it"
        )
        yield Problem(keys=keys, at_key=False, text=text)


def _repeated(names: Sequence[str], keys: Keys) -> Iterator[Problem]:
    for number, name in enumerate(names):
        if name in names[:number]:
            first = dotted((*keys, names.index(name)))
            text = f"{dotted((*keys, number))} has the same name as {first}, {name}; rename one of them"
            yield Problem(keys=(*keys, number, "name"), at_key=False, text=text)
