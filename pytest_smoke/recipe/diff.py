"""Find the settings in which two smoke runs differ, and make the smoke runs between them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.explain import problems
from pytest_smoke.recipe.model import Mode, Recipe, Settings, Smoke
from pytest_smoke.text import number

JUDGED = ("checks", "metrics", "mix", "ablate", "requires", "data_files")
"""Sections that do not affect training."""
UNSEEN = ("max_steps", "lr_schedule")
"""Settings of the full run that do not affect its smoke run, which has its own length and its mode's schedule."""
NO_EFFECT = ("cpu_threads", "evaluate_every_steps", "steps_per_epoch")
"""Keys of `smoke` that do not change the loss."""
OWN = (
    frozenset(Smoke.model_fields) - (frozenset(Settings.model_fields) - {"max_steps"}) - {"args", "change", *NO_EFFECT}
)
"""Keys that only `smoke` has and that can change the verdict: mode, length, seed, expected jumps, ..."""
LIKELIEST = (
    "full.learning_rate",
    "full.grad_clip_norm",
    "full.precision",
    "full.warmup_steps",
    "full.loss_weights",
    "full.",
    "args.",
    "task",
)
"""Prefixes of keys, those that most often make a recipe unstable first."""

Path = tuple[Any, ...]


class _Absent:
    def __repr__(self) -> str:
        return "not set"


ABSENT: Final = _Absent()
"""The value of a key that a recipe does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One value that differs between the recipes."""

    path: Path
    good: Any
    bad: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One setting that differs, in the full run and its smoke run together."""

    key: str
    """`full.learning_rate`, `args.encoder.depth`, `task`, `smoke.seed`, ..."""
    changes: tuple[Change, ...]
    """The full run's value first; a second one if the smoke run splits its batch differently."""

    @property
    def good(self) -> Any:
        """The value in the stable recipe; `ABSENT` if it has none."""
        return self.changes[0].good

    @property
    def bad(self) -> Any:
        """The value in the unstable recipe."""
        return self.changes[0].bad

    def __str__(self) -> str:
        return f"{self.key}: {_formatted(self.good)} -> {_formatted(self.bad)}"


def differences(good: Case, bad: Case) -> list[Difference]:
    """Return the settings that affect a smoke run and differ between the two, the most suspicious first.

    Mappings are compared key by key, lists as a whole. A batch that the smoke run splits differently (16 x 8 as 8 x 16)
    is one setting with the full run's.
    """
    by_key: dict[str, list[Change]] = {}
    for change in _changes(_tree(good), _tree(bad)):
        section, *rest = change.path
        is_full_setting = section == "smoke" and rest[0] not in OWN
        key = ".".join(map(str, ("full", *rest) if is_full_setting else change.path))
        by_key.setdefault(key, []).append(change)
    return sorted((Difference(key=key, changes=tuple(changes)) for key, changes in by_key.items()), key=_rank)


def unseen(good: Case, bad: Case) -> list[str]:
    """Return the settings that differ but do not affect the smoke run."""
    return [f"full.{key}" for key in UNSEEN if getattr(good.full, key) != getattr(bad.full, key)]


def between(good: Case, bad: Case, chosen: Collection[Difference]) -> Case:
    """Return the smoke run of `good` with the `chosen` differences to `bad` applied, in both its full and smoke run.

    Everything that does not affect training is always `bad`'s: checks, mix, requirements, threads, evaluation steps.
    Raises ValueError, with the reason, if such a recipe is not valid.
    """
    tree = _tree(good)
    for difference in chosen:
        for change in difference.changes:
            tree = _with(tree, change.path, change.bad)
    dumped = bad.recipe.model_dump()
    judged = {key: dumped[key] for key in JUDGED if key != "ablate"}
    full = {**tree["full"], **{key: dumped["full"][key] for key in UNSEEN}}
    smoke = {**{key: dumped["smoke"][key] for key in NO_EFFECT}, **tree["smoke"]}
    try:
        recipe = Recipe.model_validate({**tree, **judged, "full": full, "smoke": smoke})
    except ValidationError as error:
        raise ValueError("; ".join(problem.text for problem in problems(error))) from None
    return Case(path=bad.path, recipe=recipe, mode=smoke["mode"], places=bad.places)


def of_settings(full: Mapping[str, Any], smoke: Mapping[str, Any], *, mode: Mode, path: str) -> Case:
    """Return the settings of two runs as the case of a recipe, for checks that need nothing else of it.

    Raises ValueError, with the reason, if no recipe may have such settings.
    """
    try:
        recipe = Recipe.model_validate({"task": "settings:Run", "full": dict(full), "smoke": dict(smoke)})
    except ValidationError as error:
        raise ValueError("; ".join(problem.text for problem in problems(error))) from None
    return Case(path=path, recipe=recipe, mode=mode)


def _tree(case: Case) -> dict[str, Any]:
    """Return every setting that can change the verdict, as a tree without the values that `smoke` merely repeats."""
    dumped = case.recipe.model_dump()
    full = {key: value for key, value in dumped["full"].items() if key not in UNSEEN}
    own = {key: dumped["smoke"][key] for key in sorted(OWN)}
    own_batch = {
        key: value
        for key, value in case.declared.items()
        if key not in (*OWN, "loss_weights", "lr_schedule") and value != dumped["full"][key]
    }
    rest = {key: value for key, value in dumped.items() if key not in (*JUDGED, "full", "smoke")}
    return {**rest, "full": full, "smoke": {**own, **own_batch, "mode": case.mode}}


def _changes(good: Mapping[str, Any], bad: Mapping[str, Any], parent: Path = ()) -> Iterator[Change]:
    for key in dict.fromkeys((*good, *bad)):
        good_value, bad_value = good.get(key, ABSENT), bad.get(key, ABSENT)
        if isinstance(good_value, Mapping) and isinstance(bad_value, Mapping):
            yield from _changes(good_value, bad_value, (*parent, key))
        elif not _same(good_value, bad_value):
            yield Change(path=(*parent, key), good=good_value, bad=bad_value)


def _with(tree: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """Copy the tree with the value at the path, or without the key if the value is `ABSENT`."""
    key, *rest = path
    if rest:
        return {**tree, key: _with(tree[key], tuple(rest), value)}
    if value is ABSENT:
        return {name: part for name, part in tree.items() if name != key}
    return {**tree, key: value}


def _same(first: Any, second: Any) -> bool:
    """Compare values as a task would see them: 1, 1.0 and true are different."""
    return type(first) is type(second) and _json(first) == _json(second)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def _rank(difference: Difference) -> int:
    return next((place for place, start in enumerate(LIKELIEST) if difference.key.startswith(start)), len(LIKELIEST))


def _formatted(value: Any) -> str:
    if isinstance(value, float):
        return number(value, 6)
    return repr(value) if value is ABSENT or isinstance(value, str) else _json(value)
