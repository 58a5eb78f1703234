"""The canonical form of a recipe: one tree for all ways to write it. And the names of what differs between two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from pytest_smoke.files import json_value, strict_json
from pytest_smoke.plain import plain, plain_name
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.diff import LIKELIEST
from pytest_smoke.recipe.load import path_from
from pytest_smoke.recipe.model import Settings
from pytest_smoke.text import count

NOT_COMPARED = ("ablate", "requires", "full", "smoke")
"""Sections that are left out: other cells and the machine do not change this run. The last two have a form of their
own here."""
VALUE_CHARS = 40
"""Longest value that a change shows whole."""
SCIENTIFIC_BELOW = 0.01
"""Absolute value from which on down a number is shown as `5e-4`, as learning rates are written."""


class _Absent:
    def __repr__(self) -> str:
        return "not set"


ABSENT: Final = _Absent()
"""The value of a key that a recipe does not have."""


def canonical_recipe(case: Case, *, root: Path, defaults: bool = True) -> dict[str, Any]:
    """Return everything in a recipe that the run of `case` depends on, with all defaults filled in, or without them.

    Comments, the order of keys, `extends`, `from`, the spelling of numbers, and values of the full run that `smoke`
    repeats make no difference. Settings that are read from a trainer are not in it: its source and arguments are.
    """
    recipe = case.recipe
    dumped = recipe.model_dump(exclude_defaults=not defaults)
    tree = {key: value for key, value in dumped.items() if key not in NOT_COMPARED and value is not None}
    if recipe.mix is not None and recipe.mix.corpus is not None:
        tree["mix"] = {**dumped["mix"], "corpus": path_from(Path(recipe.mix.corpus), root)}
    full = _full(case, dumped["full"])
    return {**tree, "full": full, "smoke": _smoke(case, full, dumped["smoke"]), "cell": case.cell}


def as_known_to(before: Mapping[str, Any], case: Case, *, root: Path) -> dict[str, Any]:
    """Return the canonical recipe without the defaults of keys that `before` does not have.

    An earlier version, which knew no such key, did what its default says.
    """
    now, set_here = canonical_recipe(case, root=root), canonical_recipe(case, root=root, defaults=False)
    return dict(_known(now, before, set_here))


def stored(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree as a receipt has it: builtins of bounded length that JSON can hold."""
    return dict(plain(json_value(tree)))


def fingerprint(tree: Any) -> str:
    """Return the SHA-256 of a tree of builtins; the order of keys makes no difference, the type of a number does."""
    return sha256(strict_json(_marked(tree), sort_keys=True).encode()).hexdigest()


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name every value that differs between two canonical recipes, those that most often matter first.

    As in `learning_rate 5e-4 -> 1e-3`: settings of the full run have no prefix.
    """
    found = sorted(_changes(before, after, ()), key=lambda change: _rank(change[0]))
    return [f"{plain_name(key.removeprefix('full.'))} {what}" for key, what in found]


def shown(value: Any) -> str:
    """Format a value of a recipe on one short line: `5e-4`, `true`, `none`, `not set`, `[1, 2]`."""
    if value is ABSENT:
        return "not set"
    if value is None:
        return "none"
    if isinstance(value, float):
        return _number(value)
    text = plain_name(value if isinstance(value, str) and value else strict_json(value, sort_keys=True))
    return text if len(text) <= VALUE_CHARS else f"{text[: VALUE_CHARS - 3]}..."


def _known(now: Any, before: Any, set_here: Any) -> Any:
    if isinstance(now, Mapping) and isinstance(before, Mapping) and isinstance(set_here, Mapping):
        return {
            key: _known(value, before.get(key), set_here.get(key, ABSENT))
            for key, value in now.items()
            if key in before or key in set_here
        }
    if isinstance(now, list) and isinstance(before, list) and isinstance(set_here, list) and len(before) == len(now):
        return [_known(*parts) for parts in zip(now, before, set_here, strict=True)]
    return now


def _marked(value: Any) -> Any:
    """Mark texts, so that none is taken for the text of a number that JSON does not have, or of another type."""
    if isinstance(value, str):
        return f"'{value}"
    if isinstance(value, Mapping):
        return {str(key): _marked(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(part) for part in value]
    return value if value is None or isinstance(value, int | float) else repr(value)


def _number(value: float) -> str:
    if not 0 < abs(value) < SCIENTIFIC_BELOW:
        return repr(value)
    shortest = next(text for places in range(18) if float(text := f"{value:.{places}e}") == value)
    digits, _, exponent = shortest.partition("e")
    return f"{digits}e{int(exponent)}"


def _full(case: Case, dumped: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the full run; only the repeated ones if they are read from a trainer."""
    if case.read is not None:
        return dict(case.repeated)
    return dict(dumped) if case.is_complete else case.recipe.repeated


def _smoke(case: Case, full: Mapping[str, Any], dumped: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the smoke run sets that is not the full run's."""
    smoke = case.recipe.smoke
    shared = {*Settings.model_fields} - {"max_steps"}
    own = {key: value for key, value in dumped.items() if key not in {*shared, "args", "change", "mode"}}
    declared = {key: value for key, value in case.declared.items() if key in shared and key != "loss_weights"}
    args = {**case.recipe.args, **smoke.args}
    weights = {name: weight for name, weight in smoke.loss_weights.items() if full.get("loss_weights") is not None}
    return {
        **own,
        **{key: value for key, value in declared.items() if not _same(value, full.get(key, ABSENT))},
        "run_steps": smoke.run_steps if smoke.run_steps != smoke.max_steps else None,
        "pipeline": case.pipeline.model_dump() if case.pipeline is not None else None,
        "lr_schedule": case.settings.lr_schedule,
        "mode": case.mode,
        "args": {key: value for key, value in args.items() if not _same(value, case.recipe.args.get(key, ABSENT))},
        "loss_weights": {
            name: weight for name, weight in weights.items() if not _same(weight, full["loss_weights"].get(name))
        },
    }


def _rank(key: str) -> int:
    return next((place for place, start in enumerate(LIKELIEST) if key.startswith(start)), len(LIKELIEST))


def _changes(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the dotted key of each value that differs, and how."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys((*before, *after)):
            yield from _changes(before.get(key, ABSENT), after.get(key, ABSENT), (*path, key))
        return
    if _same(before, after):
        return
    key = ".".join(path)
    if isinstance(before, list) and isinstance(after, list) and (path[0] == "checks" or not _are_short(before, after)):
        yield from _list_changes(before, after, path)
    else:
        yield key, f"{shown(before)} -> {shown(after)}"


def _list_changes(before: list[Any], after: list[Any], path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the entries that differ: by their place if there are as many as before, else which are gone and new."""
    gone, new = [part for part in before if part not in after], [part for part in after if part not in before]
    are_criteria = path[0] == "checks"
    if len(before) == len(after) and not (are_criteria and gone):
        for at, (first, second) in enumerate(zip(before, after, strict=True)):
            name = first.get("name") if isinstance(first, Mapping) else None
            yield from _changes(first, second, (*path[:-1], f"{path[-1]}[{name if isinstance(name, str) else at}]"))
        return
    key = ".".join(path)
    replaced = min(len(gone), len(new)) if are_criteria else 0
    pairs = zip(gone[:replaced], new[:replaced], strict=True)
    yield from ((key, f"{shown(earlier)} -> {shown(later)}") for earlier, later in pairs)
    yield from ((key, f"no longer has {shown(part)}") for part in gone[replaced:])
    yield from ((key, f"now has {shown(part)}") for part in new[replaced:])
    if not gone and not new:
        yield ".".join(path), f"{count(len(before), 'entry', 'entries')} -> {len(after):,}"


def _are_short(before: list[Any], after: list[Any]) -> bool:
    """Tell whether two lists can be shown whole: lists of plain values that are not long."""
    plain = not any(isinstance(part, Mapping) for part in (*before, *after))
    return plain and all(len(strict_json(part)) <= VALUE_CHARS for part in (before, after))


def _same(first: Any, second: Any) -> bool:
    """Compare values as a task would see them: 1, 1.0 and true are different."""
    return type(first) is type(second) and fingerprint(first) == fingerprint(second)
