"""The `settings` check: nothing else that shapes the training dynamics differs from the full run."""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose
from typing import Any

from pytest_smoke.judge.checks.check import Check, Reason, correction
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.command import settings_not_passed
from pytest_smoke.recipe.configs.compare import key_differences
from pytest_smoke.text import listed

ABSENT = object()
SAME = 1e-9
"""Relative difference of two numbers that are written in another way, such as 0.3 and 3 x 0.1."""


def settings(case: Case) -> Iterator[Finding]:
    """Compare precision, clipping, loss weights, task arguments and the starting point of the weights.

    If both runs were read from config files, everything else in them that shapes the training is compared, too.
    """
    differences = list(_differences(case))
    repeated = list(_repeated(case))
    if repeated:
        keys = [key for key, _, _ in repeated]
        yield Finding(
            id=CHECK.id,
            status="fail",
            reason="differs-from-trainer",
            text="; ".join(
                f"{key} is {_shown(ours)} in the recipe and {_shown(theirs)} in the trainer that the factory returns"
                for key, ours, theirs in repeated
            ),
            observed={key: theirs for key, _, theirs in repeated},
            bound={key: ours for key, ours, _ in repeated},
            hint=(
                f"let the factory return the trainer of the full run, or remove {listed(keys, limit=len(keys))}, which "
                f"{'is' if len(keys) == 1 else 'are'} read from it"
            ),
            key=case.key(*keys, "full"),
        )
        return
    if not differences and case.recipe.trainer == "command" and (missing := settings_not_passed(case)):
        yield _not_passed(missing)
        return
    if not differences:
        yield Finding(id=CHECK.id, status="pass", text="all other settings are those of the full run")
        return
    keys = [key for key, _, _ in differences]
    yield Finding(
        id=CHECK.id,
        status="fail",
        reason="different-setting",
        text="; ".join(
            f"{key} is {_shown(ours)} in the smoke run and {_shown(theirs)} in the full run"
            for key, ours, theirs in differences
        ),
        observed={key: None if ours is ABSENT else ours for key, ours, _ in differences},
        bound={key: None if theirs is ABSENT else theirs for key, _, theirs in differences},
        hint=f"{correction(case, keys)}, or change the full run",
        key=case.key(*(f"smoke.{key.partition('.')[0]}" for key in keys), "smoke"),
    )


def _not_passed(names: list[str]) -> Finding:
    values = "its value holds only if it is" if len(names) == 1 else "their values hold only if they are"
    return Finding(
        id=CHECK.id,
        status="warn",
        reason="not-passed-on",
        text=f"the command does not get {listed(names, limit=len(names))}: {values} what the command uses anyway",
        observed=names,
        bound=[],
        hint=f"pass {'it' if len(names) == 1 else 'them'} on with placeholders: "
        f"{', '.join(f'{{{name}}}' for name in names)}",
        key="command",
    )


def _differences(case: Case) -> Iterator[tuple[str, Any, Any]]:
    recipe = case.recipe
    for key in ("precision", "grad_clip_norm", "from_scratch"):
        if key in case.declared and case.declared[key] != getattr(case.full, key):
            yield key, case.declared[key], getattr(case.full, key)
    for name, ours, theirs in (
        ("loss_weights", recipe.smoke.loss_weights, case.full.loss_weights),
        ("args", recipe.smoke.args, recipe.args),
    ):
        for key, value in ours.items():
            if key not in theirs or theirs[key] != value:
                yield f"{name}.{key}", value, theirs.get(key, ABSENT)
    full, smoke = (case.configs.get(section) for section in ("full", "smoke"))
    if full is not None and smoke is not None:
        for key in ("optimizer", "weight_decay", "data_mix"):
            if key in full.values and key in smoke.values and full.value(key) != smoke.value(key):
                yield key, smoke.value(key), full.value(key)
        for one in key_differences(full, smoke):
            if one.effect == "shapes" and one.first is not None and one.second is not None:
                yield one.key, one.second.value, one.first.value


def _repeated(case: Case) -> Iterator[tuple[str, Any, Any]]:
    """Yield each setting of the full run that the recipe names with another value than the trainer has."""
    for key, ours in case.repeated.items():
        theirs = (case.read or {}).get(key, ours)
        numbers = isinstance(ours, float) and isinstance(theirs, float)
        if not (isclose(ours, theirs, rel_tol=SAME) if numbers else ours == theirs):
            yield f"full.{key}", ours, theirs


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "not set"
    return "off" if value is None else f"{value!r}"


CHECK = Check(
    id="settings",
    question="Are precision, gradient clipping, loss weights and task arguments those of the full run?",
    when="preflight",
    verdict="invalid",
    key="smoke",
    reasons=(
        Reason(id="different-setting", status="fail", when="a setting differs from the full run's"),
        Reason(
            id="differs-from-trainer",
            status="fail",
            when="`full` repeats a setting with another value than the trainer has, from which it is read",
        ),
        Reason(id="not-passed-on", status="warn", when="no placeholder of the command passes on a setting"),
    ),
    before_run=settings,
)
