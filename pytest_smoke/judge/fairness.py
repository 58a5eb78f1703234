"""Whether one run is a fair smoke run of another, judged by their settings alone and without running either."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pytest_smoke.judge.checks.batch_geometry import batch_geometry
from pytest_smoke.judge.checks.schedule import evidence_steps, schedule_faults
from pytest_smoke.judge.run_settings import RECIPE, RunSettings
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.configs.compare import key_differences
from pytest_smoke.recipe.configs.file import Entry
from pytest_smoke.recipe.configs.settings import FACTORS
from pytest_smoke.recipe.configs.values import shown
from pytest_smoke.recipe.diff import ABSENT, differences, of_settings
from pytest_smoke.recipe.model import Mode
from pytest_smoke.recipe.modes import LONG_TAIL_MIN_STEPS, SCHEDULE_OF_MODE
from pytest_smoke.text import count, listed

Status = Literal["unfair", "unknown", "allowed", "not-compared"]
Verdict = Literal["fair", "not-fair", "could-not-tell"]

WORST_FIRST = (
    "effective_batch",
    "learning_rate",
    "lr_schedule",
    "warmup_steps",
    "max_steps",
    "precision",
    "grad_clip_norm",
    "optimizer",
    "weight_decay",
    "loss_weights",
    "data_mix",
)
"""Settings by how surely a difference makes the smoke run say nothing; keys of model and data follow, then the seed."""
EQUAL = (
    "learning_rate",
    "warmup_steps",
    "precision",
    "grad_clip_norm",
    "optimizer",
    "weight_decay",
    "loss_weights",
    "data_mix",
    "seed",
)
"""Settings that must be the same in both runs."""
OF_TASK = ("optimizer", "weight_decay", "loss_weights", "data_mix", "seed")
"""Settings that a recipe leaves to its task, so that a recipe without them may still have them."""
SCHEDULE = ("learning_rate", "lr_schedule", "warmup_steps", "max_steps")
SHARE_ROUNDING = 1e-6
"""Largest difference between two shares of one mix that is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingDifference:
    """A setting in which the runs differ, or of which it cannot be told."""

    setting: str
    """Name of the setting, or the key of the configs."""
    status: Status
    text: str
    """What differs, with both values, and what it means."""
    full: Any = None
    """The full run's value; None if it is not known."""
    smoke: Any = None
    """The smoke run's value; None if it is not known."""
    full_place: str = ""
    smoke_place: str = ""
    """Where the values are stated; empty if they are not."""


def compare_settings(full: RunSettings, smoke: RunSettings, *, ignore: Collection[str] = ()) -> list[SettingDifference]:
    """Return the differences between a full run and its smoke run, the worst first, then the allowed ones.

    `ignore` has settings and keys of configs that are not compared.
    """
    found = [
        *_batch(full, smoke),
        *_equal(full, smoke),
        *_schedule(full, smoke),
        *_keys(full, smoke),
        *_recipes(full, smoke),
    ]
    order: tuple[Status, ...] = ("unfair", "unknown", "allowed", "not-compared")
    kept = [one for one in found if one.setting not in ignore]
    return sorted(kept, key=lambda one: (order.index(one.status), _rank(one.setting)))


def fairness(found: Collection[SettingDifference]) -> Verdict:
    """Return `not-fair` if one difference is unfair, else `could-not-tell` if one cannot be told, else `fair`."""
    statuses = {one.status for one in found}
    if "unfair" in statuses:
        return "not-fair"
    return "could-not-tell" if "unknown" in statuses else "fair"


def _rank(setting: str) -> int:
    if setting in WORST_FIRST:
        return WORST_FIRST.index(setting)
    return len(WORST_FIRST) + (setting == "seed")


def _difference(
    setting: str, status: Status, text: str, full: RunSettings, smoke: RunSettings, *, of: str = ""
) -> SettingDifference:
    ours, theirs = smoke.values.get(of or setting), full.values.get(of or setting)
    return SettingDifference(
        setting=setting,
        status=status,
        text=text,
        full=theirs and theirs.value,
        smoke=ours and ours.value,
        full_place=theirs.place if theirs else "",
        smoke_place=ours.place if ours else "",
    )


# The effective batch.


def _batch(full: RunSettings, smoke: RunSettings) -> Iterator[SettingDifference]:
    ours, theirs = smoke.effective_batch, full.effective_batch
    if ours is None or theirs is None:
        reasons = list(_why_no_batch(full, smoke))
        known = f"{_geometry(full)} in the full run, {_geometry(smoke)} in the smoke run"
        text = f"the effective batch is not known ({known}): {'; '.join(reasons)}"
        yield _batch_difference("effective_batch", "unknown", text, full, smoke)
        return
    if ours != theirs:
        (finding,) = batch_geometry(_case(full, smoke, batch=True))
        yield _batch_difference("effective_batch", "unfair", finding.text, full, smoke)
    elif [full.value(key) for key in FACTORS] != [smoke.value(key) for key in FACTORS]:
        text = (
            f"{_geometry(full)} in the full run, {_geometry(smoke)} in the smoke run: effective batch {ours:,} in both"
        )
        yield _batch_difference("batch_geometry", "allowed", text, full, smoke)


def _batch_difference(
    setting: str, status: Status, text: str, full: RunSettings, smoke: RunSettings
) -> SettingDifference:
    places = [
        listed((run.values[key].place for key in (*FACTORS, "effective_batch") if key in run.values), limit=4, empty="")
        for run in (full, smoke)
    ]
    return SettingDifference(
        setting=setting,
        status=status,
        text=text,
        full=full.effective_batch,
        smoke=smoke.effective_batch,
        full_place=places[0],
        smoke_place=places[1],
    )


def _geometry(run: RunSettings) -> str:
    return " x ".join("?" if run.value(key) is None or key in run.unclear else str(run.value(key)) for key in FACTORS)


def _why_no_batch(full: RunSettings, smoke: RunSettings) -> Iterator[str]:
    for run in (full, smoke):
        if run.effective_batch is None:
            yield from (run.unclear[key] for key in (*FACTORS, "effective_batch") if key in run.unclear)
    lacking: dict[tuple[str, str], list[str]] = {}
    for key in FACTORS:
        runs = [
            run for run in (full, smoke) if run.effective_batch is None and key not in {**run.values, **run.unclear}
        ]
        if runs:
            who = f"neither {full.path} nor {smoke.path} states" if len(runs) == 2 else f"{runs[0].path} does not state"
            lacking.setdefault((who, runs[0].elsewhere.get(key, "")), []).append(key)
    for (who, elsewhere), keys in lacking.items():
        yield f"{who} {listed(keys)}" + (f" ({elsewhere})" if elsewhere else "")


# Settings that must be equal.


def _equal(full: RunSettings, smoke: RunSettings) -> Iterator[SettingDifference]:
    for key in EQUAL:
        unclear = [run.unclear[key] for run in (full, smoke) if key in run.unclear]
        states = [key in run.values and key not in run.unclear for run in (full, smoke)]
        if unclear:
            yield _difference(key, "unknown", "; ".join(unclear), full, smoke)
        elif all(states):
            ours, theirs = smoke.values[key], full.values[key]
            if not _same(ours.value, theirs.value):
                notes = [f"{run}: {one.note}" for run, one in (("full", theirs), ("smoke", ours)) if one.note]
                tail = f" ({'; '.join(notes)})" if notes else ""
                text = f"{key} is {_text(ours.value)} in the smoke run and {_text(theirs.value)} in the full run{tail}"
                yield _difference(key, "unfair", text, full, smoke)
        elif any(states):
            yield _stated_once(key, full, smoke)
        elif full.preset != smoke.preset and key not in OF_TASK:
            text = f"neither {full.path} ({full.trainer}) nor {smoke.path} ({smoke.trainer}) states it"
            yield _difference(key, "unknown", text, full, smoke)


def _stated_once(key: str, full: RunSettings, smoke: RunSettings) -> SettingDifference:
    has, lacks = (full, smoke) if key in full.values else (smoke, full)
    run = "full run" if has is full else "smoke run"
    value = f"{key} is {_text(has.value(key))} in the {run}"
    if lacks.preset == RECIPE and key in OF_TASK:
        where = "does not set it" if key == "seed" else "leaves it to its task"
        return _difference(key, "not-compared", f"{value}; {lacks.path} {where}", full, smoke)
    source = lacks.elsewhere.get(key)
    why = f" ({source})" if source else f", and the default of {lacks.trainer} is not guessed"
    return _difference(key, "unknown", f"{value}, but {lacks.path} does not state it{why}", full, smoke)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(abs(first[key] - second[key]) <= SHARE_ROUNDING for key in first)
    return bool(first == second)


def _text(value: Any) -> str:
    if value is None:
        return "off"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(round(one, 6))}" for key, one in value.items()) + "}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else shown(value)


# The schedule, which the mode of the smoke run sets.


def _schedule(full: RunSettings, smoke: RunSettings) -> Iterator[SettingDifference]:
    unknown = {key for key in ("lr_schedule", "max_steps") if key in smoke.unclear or key not in smoke.values}
    for key in sorted(unknown):
        text = smoke.unclear.get(key) or f"{smoke.path} does not state {key}"
        yield _difference(key, "unknown", text, full, smoke)
    mode, name = _mode(smoke), smoke.value("lr_schedule")
    if "lr_schedule" in unknown:
        return
    if {key for key in SCHEDULE if smoke.value(key) is None or key in smoke.unclear}:
        if name != SCHEDULE_OF_MODE[mode]:
            text = f"lr_schedule is {name!r}, {mode} mode requires {SCHEDULE_OF_MODE[mode]!r}"
            yield _difference("lr_schedule", "unfair", text, full, smoke)
        return
    try:
        case = _case(full, smoke, mode=mode)
    except ValueError as error:
        yield _difference("lr_schedule", "unknown", str(error), full, smoke)
        return
    stage = case.stages[0]
    faults = {reason: text for reason, text, _ in schedule_faults(case, stage)}
    wrong = {reason: key for reason, key in _SCHEDULE_FAULTS.items() if reason in faults}
    for reason, key in wrong.items():
        yield _difference(key, "unfair", faults[reason], full, smoke)
    if "masked" not in wrong and full.value("lr_schedule") not in (None, name):
        text = f"{full.value('lr_schedule')} in the full run, {name} in the smoke run, as {mode} mode requires"
        yield _difference("lr_schedule", "allowed", text, full, smoke)
    length = None if "max_steps" in full.unclear else full.value("max_steps")
    if length not in (None, smoke.value("max_steps")) and not wrong:
        evidence = f"{evidence_steps(mode, stage):,} of them at 80 % of the peak or more"
        text = f"{length:,} in the full run, {count(stage.steps, 'step')} in the smoke run, {evidence}"
        yield _difference("max_steps", "allowed", text, full, smoke)


_SCHEDULE_FAULTS = {"masked": "lr_schedule", "warmup-too-long": "warmup_steps", "too-little-evidence": "max_steps"}
"""Settings that the reasons of the check `schedule` are about, without those that `EQUAL` covers."""


def _mode(smoke: RunSettings) -> Mode:
    """Return the mode of a recipe, or the one that fits a config's schedule: a long cosine is `long-tail`."""
    if smoke.case is not None:
        return smoke.case.mode
    length = smoke.value("max_steps")
    is_long = isinstance(length, int) and length >= LONG_TAIL_MIN_STEPS
    return "long-tail" if smoke.value("lr_schedule") == "cosine" and is_long else "constant"


def _case(full: RunSettings, smoke: RunSettings, *, mode: Mode = "constant", batch: bool = False) -> Case:
    """Return both runs as a case for the checks of recipes, with the batch or with the schedule.

    What is not known of the full run's schedule is taken from the smoke run: it was reported on its own. Raises
    ValueError for values that no recipe may have.
    """
    keys = FACTORS if batch else SCHEDULE
    theirs = {key: full.value(key) for key in keys if key not in full.unclear and full.value(key) is not None}
    ours = {key: smoke.value(key) for key in keys if smoke.value(key) is not None}
    needed = {"batch_size": 1, "learning_rate": 1.0, "max_steps": 1}
    if batch:
        theirs, ours = (_whole(run, of) for run, of in ((full, theirs), (smoke, ours)))
    else:
        theirs = {**ours, **theirs}
    return of_settings({**needed, **theirs}, {"max_steps": 1, **ours}, mode=mode, path=smoke.path)


def _whole(run: RunSettings, factors: dict[str, Any]) -> dict[str, Any]:
    """Return the factors, or the effective batch as a single micro-batch if only that is known."""
    return factors if len(factors) == len(FACTORS) else {"batch_size": run.effective_batch}


# Everything else in two configs, or in two recipes.


def _keys(full: RunSettings, smoke: RunSettings) -> Iterator[SettingDifference]:
    if full.config is None or smoke.config is None:
        return
    if full.config.preset != smoke.config.preset:
        text = (
            f"{full.path} is a config of {full.config.title}, {smoke.path} of {smoke.config.title}: keys of model, "
            "data and optimizer have other names in them"
        )
        yield SettingDifference(setting="other keys", status="not-compared", text=text)
        return
    for one in key_differences(full.config, smoke.config):
        theirs, ours = one.first, one.second
        if theirs is not None and ours is not None:
            status: Status = "unfair" if one.effect == "shapes" else "unknown"
            text = f"{one.key} is {shown(ours.value)} in the smoke run and {shown(theirs.value)} in the full run"
        else:
            status = "unknown"
            has, lacks = (theirs, smoke) if ours is None else (ours, full)
            assert has is not None
            run = "full" if ours is None else "smoke"
            text = f"{one.key} is {shown(has.value)} in the {run} run, but {lacks.path} does not state it"
        if one.effect == "unknown":
            text += "; whether it shapes the training is not known"
        yield SettingDifference(
            setting=one.key,
            status=status,
            text=text,
            full=theirs and theirs.value,
            smoke=ours and ours.value,
            full_place=_entry_place(full, theirs),
            smoke_place=_entry_place(smoke, ours),
        )


def _entry_place(run: RunSettings, entry: Entry | None) -> str:
    return run.config.file.place(entry) if run.config is not None and entry is not None else ""


def _recipes(full: RunSettings, smoke: RunSettings) -> Iterator[SettingDifference]:
    """Compare what two recipes have beyond settings: what trains, its arguments and the stages."""
    if full.case is None or smoke.case is None:
        return
    for one in differences(full.case, smoke.case):
        section = one.key.partition(".")[0]
        if section not in ("full", "smoke") or one.key == "full.from_scratch":
            text = f"{one.key} is {_of(one.bad)} in the smoke run and {_of(one.good)} in the full run"
            yield SettingDifference(
                setting=one.key, status="unfair", text=text, full=_plain(one.good), smoke=_plain(one.bad)
            )
    for key, value in smoke.case.recipe.smoke.args.items():
        theirs = full.case.recipe.args.get(key, ABSENT)
        if theirs is ABSENT or theirs != value:
            text = f"args.{key} is {_of(value)} in the smoke run and {_of(theirs)} in the full run"
            yield SettingDifference(setting=f"args.{key}", status="unfair", text=text, full=_plain(theirs), smoke=value)


def _of(value: Any) -> str:
    return "not set" if value is ABSENT else shown(value)


def _plain(value: Any) -> Any:
    return None if value is ABSENT else value
