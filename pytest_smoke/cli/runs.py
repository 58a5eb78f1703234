"""What `compare` is given: a report of smokes, one outcome of it, or a log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_smoke.cli.judge import judge_log
from pytest_smoke.cli.judged_log import Window
from pytest_smoke.errors import LogError, ReportError
from pytest_smoke.files import file_name
from pytest_smoke.logs import read as logs
from pytest_smoke.report.compare_rows import Run
from pytest_smoke.report.verdicts_json import SCHEMA

VERDICTS = "verdicts.json"
SEPARATOR = "::"
SECONDS = ("seconds", "train_seconds", "elapsed", "elapsed_seconds", "wall_time", "walltime", "train_runtime", "time")
"""Columns of a log that hold the time since its start, in seconds."""


def runs_of(argument: str) -> dict[str, Run] | Run:
    """The runs of a report by id, or the one run of a log or of `PATH::id`. Raises `ReportError`."""
    path, chosen = _split(argument)
    report = path / VERDICTS if path.is_dir() and (path / VERDICTS).is_file() else path
    if report.name == VERDICTS or (chosen and report.suffix == ".json"):
        try:
            found = {wire["id"]: _run_of(wire, report.parent) for wire in _outcomes(report)}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, ReportError):
                raise
            raise ReportError(f"{report} is no report of smokes: {type(error).__name__}: {error}") from None
        if not chosen:
            return found
        if chosen not in found:
            raise ReportError(f"{report} has no outcome {chosen!r}; it has {_listed(found)}")
        return found[chosen]
    return _run_of_log(str(path))


def _split(argument: str) -> tuple[Path, str]:
    """`PATH::id`; a path that is there is taken as it is, whatever its name."""
    if Path(argument).exists() or SEPARATOR not in argument:
        return Path(argument), ""
    path, _, chosen = argument.partition(SEPARATOR)
    return Path(path), chosen


def _outcomes(report: Path) -> list[Mapping[str, Any]]:
    try:
        tree = json.loads(report.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"{report} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ReportError(f"{report} is no JSON: {error}") from None
    if not isinstance(tree, dict) or "outcomes" not in tree:
        raise ReportError(f"{report} is no report of smokes: it has no outcomes")
    if tree.get("schema") != SCHEMA:
        raise ReportError(f"{report} has schema {tree.get('schema')!r}; this version reads {SCHEMA}")
    return list(tree["outcomes"])


def _run_of(wire: Mapping[str, Any], folder: Path) -> Run:
    facts, curve = wire["facts"], wire["curve"]
    trace, notes = folder / "traces" / f"{file_name(wire['id'])}.csv", []
    if trace.is_file():
        points = logs.read(str(trace)).points
        loss = [(point.step, point.loss) for point in points]
        norms = [(point.step, point.grad_norm) for point in points if point.grad_norm is not None]
    else:
        loss = [
            (int(step), float(value)) for step, value in zip(curve.get("step", []), curve.get("loss", []), strict=True)
        ]
        norms = []
        if loss:
            notes.append("its trace is not there: the losses are block means, and gradient norms are not known")
    return Run(
        name=f"{folder}{SEPARATOR}{wire['id']}",
        verdict=_verdict(wire["verdict"], wire["reason"]),
        text=wire["text"],
        steps=facts.get("steps", 0),
        loss=loss,
        grad_norm=norms,
        metrics={name: [(step, float(value)) for step, value in points] for name, points in wire["metrics"].items()},
        batch=facts.get("effective_batch_samples"),
        seconds=facts.get("train_seconds", facts.get("seconds")),
        facts={**facts, "recipe": wire["recipe"], "mode": wire["mode"], "cell": wire["cell"]},
        notes=tuple(notes),
    )


def _run_of_log(path: str) -> Run:
    try:
        found = logs.find(path)
        if len(found) != 1:
            raise ReportError(f"{path} holds {len(found)} logs and no {VERDICTS}; name one of them")
        log = logs.read(found[0])
    except LogError as error:
        raise ReportError(f"{path}: {error}") from None
    judgement = judge_log(log, Window())
    others = log.other_columns()
    clock = next((name for name in SECONDS if name in others), None)
    return Run(
        name=path,
        verdict=_verdict(judgement.verdict, judgement.reason),
        text=judgement.text,
        steps=log.points[-1].step + (log.points[0].step == 0),  # a run that counts from 0 made one more
        loss=[(point.step, point.loss) for point in log.points],
        grad_norm=[(point.step, point.grad_norm) for point in log.points if point.grad_norm is not None],
        metrics={name: points for name, points in others.items() if name != clock},
        seconds=others[clock][-1][1] if clock else None,
        notes=log.notes,
    )


def _verdict(word: str, reason: str) -> str:
    return f"{word} ({reason})" if reason else word


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names) if names else "none"
