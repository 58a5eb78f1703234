"""In which settings two smokes differ, and the smokes that lie between them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.explain import problems
from pytest_smoke.recipe.model import Recipe, Settings, Smoke

JUDGED = ("checks", "metrics", "mix", "ablate", "requires")
"""Sections that say what must hold, not what is trained."""
UNSEEN = ("max_steps", "lr_schedule")
"""Settings of the full run that no smoke of it sees: a smoke has its own length, and its mode's schedule."""
ATTENDING = ("cpu_threads", "evaluate_every_steps", "steps_per_epoch")
"""What a smoke has of its own that is meant to change no curve."""
OWN = (
    frozenset(Smoke.model_fields) - (frozenset(Settings.model_fields) - {"max_steps"}) - {"args", "change", *ATTENDING}
)
"""What a smoke has of its own that can change its verdict: mode, length, seed, edges and what is added to them."""
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
"""Beginnings of keys in the order in which they make recipes unstable."""

Path = tuple[Any, ...]


class _Absent:
    def __repr__(self) -> str:
        return "not set"


ABSENT: Final = _Absent()
"""Stands for a key that one of the two has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One value that differs."""

    path: Path
    good: Any
    bad: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One setting that differs, in the full run and in its smoke alike."""

    key: str
    """`full.learning_rate`, `args.encoder.depth`, `task`, `smoke.seed`, ..."""
    changes: tuple[Change, ...]
    """The full run's value first; a second one where a smoke folds its batch in another way."""

    @property
    def good(self) -> Any:
        """The value in the stable recipe; `ABSENT` where it has none."""
        return self.changes[0].good

    @property
    def bad(self) -> Any:
        """The value in the unstable one."""
        return self.changes[0].bad

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.good)} -> {_shown(self.bad)}"


def differences(good: Case, bad: Case) -> list[Difference]:
    """Settings that a smoke can see and in which the two differ, the likeliest to matter first.

    Mappings are compared leaf by leaf; a list is one leaf. Settings that a smoke folds in its own way (16 x 8 as
    8 x 16) are one with the full run's.
    """
    by_key: dict[str, list[Change]] = {}
    for change in _changes(_tree(good), _tree(bad)):
        section, *rest = change.path
        folded = section == "smoke" and rest[0] not in OWN
        by_key.setdefault(".".join(map(str, ("full", *rest) if folded else change.path)), []).append(change)
    found = [Difference(key=key, changes=tuple(changes)) for key, changes in by_key.items()]
    return sorted(found, key=_rank)


def unseen(good: Case, bad: Case) -> list[str]:
    """Settings that differ and that no smoke sees."""
    return [f"full.{key}" for key in UNSEEN if getattr(good.full, key) != getattr(bad.full, key)]


def between(good: Case, bad: Case, chosen: Collection[Difference]) -> Case:
    """The smoke of `good` with the `chosen` differences to `bad` applied, in the full run and the smoke alike.

    What is no setting is `bad`'s throughout: checks, mix, requirements, threads, how often it is evaluated, and what
    no smoke sees. Raises ValueError, with what is wrong, where such a recipe cannot be.
    """
    tree = _tree(good)
    for difference in chosen:
        for change in difference.changes:
            tree = _with(tree, change.path, change.bad)
    dumped = bad.recipe.model_dump()
    kept = {key: dumped[key] for key in JUDGED if key != "ablate"}
    full = {**tree["full"], **{key: dumped["full"][key] for key in UNSEEN}}
    smoke = {**{key: dumped["smoke"][key] for key in ATTENDING}, **tree["smoke"]}
    try:
        recipe = Recipe.model_validate({**tree, **kept, "full": full, "smoke": smoke})
    except ValidationError as error:
        raise ValueError("; ".join(problem.text for problem in problems(error))) from None
    return Case(path=bad.path, recipe=recipe, mode=smoke["mode"], places=bad.places)


def _tree(case: Case) -> dict[str, Any]:
    """Every setting of the smoke that can change its verdict, resolved: what a smoke repeats is not in it twice."""
    dumped = case.recipe.model_dump()
    full = {key: value for key, value in dumped["full"].items() if key not in UNSEEN}
    own = {key: dumped["smoke"][key] for key in sorted(OWN)}
    folded = {
        key: value
        for key, value in case.declared.items()
        if key not in (*OWN, "loss_weights", "lr_schedule") and value != dumped["full"][key]
    }
    rest = {key: value for key, value in dumped.items() if key not in (*JUDGED, "full", "smoke")}
    return {**rest, "full": full, "smoke": {**own, **folded, "mode": case.mode}}


def _changes(good: Mapping[str, Any], bad: Mapping[str, Any], above: Path = ()) -> Iterator[Change]:
    for key in dict.fromkeys((*good, *bad)):
        ours, theirs = good.get(key, ABSENT), bad.get(key, ABSENT)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            yield from _changes(ours, theirs, (*above, key))
        elif not _same(ours, theirs):
            yield Change(path=(*above, key), good=ours, bad=theirs)


def _with(tree: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """A copy with the value at the path, or without the key. What is above it is a mapping in both trees."""
    key, *rest = path
    if rest:
        return {**tree, key: _with(tree[key], tuple(rest), value)}
    if value is ABSENT:
        return {other: kept for other, kept in tree.items() if other != key}
    return {**tree, key: value}


def _same(ours: Any, theirs: Any) -> bool:
    """Equal to a task as well: 1, 1.0 and true are three things."""
    return type(ours) is type(theirs) and _json(ours) == _json(theirs)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def _rank(difference: Difference) -> int:
    return next((place for place, start in enumerate(LIKELIEST) if difference.key.startswith(start)), len(LIKELIEST))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return repr(value) if value is ABSENT or isinstance(value, str) else _json(value)
