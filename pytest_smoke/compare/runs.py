"""Runs from what `compare` is given: a report of smoke runs, one outcome of a report, or a training log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_smoke.compare.comparison import Run
from pytest_smoke.errors import LogError, ReportError
from pytest_smoke.files import VERDICTS, VERDICTS_SCHEMA, file_in, file_name, file_sha256, invalid_json, read_failure
from pytest_smoke.logs import find
from pytest_smoke.logs import read as logs
from pytest_smoke.logs.judging import RunDescription, judge_log
from pytest_smoke.logs.roles import MAX_STEP
from pytest_smoke.logs.samples import same_samples
from pytest_smoke.logs.source import check_regular, is_regular
from pytest_smoke.plain import plain_name, plain_text
from pytest_smoke.recipe_texts import restored_outcomes
from pytest_smoke.text import count, listed, verdict_label

SEPARATOR = "::"
"""Between the path of a report and the id of one of its outcomes."""
SECONDS_COLUMNS = (
    *("seconds", "train_seconds", "elapsed", "elapsed_seconds"),
    *("wall_time", "walltime", "train_runtime", "time"),
)
"""Columns of a log that hold the time since its start, in seconds."""


def read_runs(argument: str) -> dict[str, Run] | Run:
    """Return the runs of a report by id, or the one run of a log or of `PATH::ID`. Raises ReportError."""
    path, chosen = _split(argument)
    report = path / VERDICTS if path.is_dir() and (path / VERDICTS).is_file() else path
    if report.name == VERDICTS or (chosen and report.suffix == ".json"):
        try:
            runs = {tree["id"]: _run_of_outcome(tree, report.parent) for tree in outcome_trees(report)}
        except ReportError:
            raise
        except RecursionError:
            raise ReportError(f"{report} is not a report of smoke runs: it is nested too deeply") from None
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            problem = (
                f"the key {error} is missing" if isinstance(error, KeyError) else f"wrong type of a value ({error})"
            )
            raise ReportError(f"{report} is not a report of smoke runs: {problem}") from None
        if not chosen:
            return runs
        if chosen not in runs:
            raise ReportError(f"{report} has no smoke run {chosen!r}; it has: {', '.join(runs) or 'none'}")
        return runs[chosen]
    return _run_of_log(str(path))


def _split(argument: str) -> tuple[Path, str]:
    """Split `PATH::ID`, unless the whole argument is an existing path."""
    if SEPARATOR not in argument or _exists(argument):
        return Path(argument), ""
    path, _, chosen = argument.partition(SEPARATOR)
    return Path(path), chosen


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # a name that is too long for the system
        return False


def outcome_trees(report: Path) -> list[Mapping[str, Any]]:
    """Return the outcomes of a `verdicts.json`, each with the text of its recipe. Raises ReportError."""
    try:
        check_regular(str(report))
        tree = json.loads(report.read_text(encoding="utf-8"))
    except LogError as error:
        raise ReportError(f"{report}: {error}") from None
    except OSError as error:
        raise ReportError(f"{report}: {read_failure(error)}") from None
    except (ValueError, RecursionError) as error:
        raise ReportError(invalid_json(report, error)) from None
    if not isinstance(tree, dict) or "outcomes" not in tree:
        raise ReportError(f"{report} is not a report of smoke runs: it has no key 'outcomes'")
    if tree.get("schema") != VERDICTS_SCHEMA:
        raise ReportError(
            f"{report} has schema {tree.get('schema')!r}, but this version reads schema {VERDICTS_SCHEMA}: rerun the "
            "smoke runs, or use the version that wrote it"
        )
    return list(restored_outcomes(tree))


def _run_of_outcome(tree: Mapping[str, Any], folder: Path) -> Run:
    facts, curve = tree["facts"], tree["curve"]
    _check_facts(facts)
    for step in curve.get("step", []):
        _whole("a step", step)
    seconds = facts.get("train_seconds", facts.get("seconds"))
    named, notes = str(facts.get("trace") or f"traces/{file_name(tree['id'])}.csv"), []
    trace = file_in(folder, named)
    if trace is not None and _is_trace_of(facts, trace):
        try:
            points = logs.read(str(trace)).points
        except LogError as error:
            raise ReportError(f"{trace}: {error}") from None
        loss = [(point.step, point.loss) for point in points]
        grad_norm = [(point.step, point.grad_norm) for point in points if point.grad_norm is not None]
    else:
        loss = [
            (int(step), float(value)) for step, value in zip(curve.get("step", []), curve.get("loss", []), strict=True)
        ]
        grad_norm = []
        if loss:
            lacks = "is not that of this smoke run" if trace is not None and trace.is_file() else "is missing"
            lacks = "is outside of the report folder" if trace is None else lacks
            notes.append(
                f"the per-step log {folder / named} {lacks}, so losses are means of several steps and "
                "gradient norms unknown"
            )
    return Run(
        name=plain_name(f"{folder}{SEPARATOR}{tree['id']}"),
        verdict=verdict_label(str(tree["verdict"]), str(tree["reason"])),
        text=plain_text(str(tree["text"])),
        steps=facts.get("steps", 0),
        loss=loss,
        grad_norm=grad_norm,
        metrics={
            name: [(_whole("a step", step), float(value)) for step, value in points]
            for name, points in tree["metrics"].items()
        },
        batch=facts.get("effective_batch_samples"),
        seconds=None if seconds is None else float(seconds),
        facts={**facts, "recipe": tree["recipe"], "mode": tree["mode"], "cell": tree["cell"]},
        notes=tuple(notes),
    )


def _check_facts(facts: Mapping[str, Any]) -> None:
    """Raise ValueError or KeyError if a fact that a comparison needs has another type."""
    _whole("steps", facts.get("steps", 0))
    if (batch := facts.get("effective_batch_samples")) is not None and _whole("the effective batch", batch) < 1:
        raise ValueError("the effective batch is 0")
    for key in ("settings", "args", "better"):
        if not isinstance(facts.get(key, {}), Mapping):
            raise ValueError(f"facts.{key} is not an object")
    if not all(isinstance(direction, str) for direction in facts.get("better", {}).values()):
        raise ValueError("facts.better does not name directions")
    for stage in facts.get("stages", []):
        if not isinstance(stage["name"], str) or not isinstance(stage.get("settings", {}), Mapping):
            raise ValueError("a stage has no name or no settings")
        for key in ("first_step", "steps", "planned_steps"):
            _whole(f"{key} of a stage", stage[key])


def _whole(what: str, value: object) -> int:
    """Return a number that must be whole and not negative. Raises ValueError."""
    if not isinstance(value, int) or not 0 <= value < MAX_STEP:
        raise ValueError(f"{what} is {str(value)[:40]}, not a whole number of 0 or more")
    return value


def _is_trace_of(facts: Mapping[str, Any], trace: Path) -> bool:
    """Tell whether a file is the trace that the smoke run wrote, not that of an earlier or later run of the recipe."""
    try:
        return "trace_sha256" in facts and is_regular(str(trace)) and file_sha256(trace) == facts["trace_sha256"]
    except OSError:
        return False


def _run_of_log(path: str) -> Run:
    try:
        found = find.find(path)
        if len(found) != 1:
            raise ReportError(
                f"{path} contains {count(len(found), 'log')} and no {VERDICTS}; choose one: {listed(found)}"
            )
        log = logs.read(found[0])
    except LogError as error:
        raise ReportError(f"{path}: {error}") from None
    except OSError as error:
        raise ReportError(f"{path}: {read_failure(error)}") from None
    if not log.points:
        raise ReportError(f"{path}: {'; '.join(log.notes)}")
    verdict = judge_log(log, RunDescription())
    columns = log.other_columns()
    clock = next((name for name in SECONDS_COLUMNS if name in columns), None)
    return Run(
        name=path,
        verdict=verdict_label(verdict.verdict, verdict.reason),
        text=verdict.text,
        steps=log.points[-1].step + (log.points[0].step == 0),  # a log that counts from 0 has one step more
        loss=[(point.step, point.loss) for point in log.points],
        grad_norm=[(point.step, point.grad_norm) for point in log.points if point.grad_norm is not None],
        metrics={plain_name(name): points for name, points in columns.items() if name != clock},
        batch=same_samples(log),
        seconds=columns[clock][-1][1] if clock else None,
        notes=log.notes,
    )
