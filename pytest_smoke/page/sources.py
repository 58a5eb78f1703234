"""Runs for the page: of report folders, old ones too, and of the logs of trainers that nobody smoked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pytest_smoke.compare.runs import outcome_trees
from pytest_smoke.errors import LogError, ReportError
from pytest_smoke.files import VERDICTS
from pytest_smoke.judge.checks.loss import STATUS
from pytest_smoke.judge.curve.curve_verdict import CurveVerdict
from pytest_smoke.logs import find
from pytest_smoke.logs.judging import RunDescription, judge_log, refusing_as_log_errors
from pytest_smoke.logs.log import ColumnNames, Log, Points
from pytest_smoke.logs.read import read_all
from pytest_smoke.outcome import VERDICTS as WORDS
from pytest_smoke.outcome import Facts, Finding, Outcome, VerdictWord
from pytest_smoke.page.report import PageRun, run_in
from pytest_smoke.page.series import NOTHING, Series
from pytest_smoke.page.trace import Trace
from pytest_smoke.plain import exception_text, plain_name

CURVE_POINTS = 240
"""Means in the small curve of a log, as in an outcome."""
UNREADABLE = "log"
"""Id of the finding of a log that cannot be judged."""
LOG = "log"
"""What takes the place of the mode of a log's run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an argument of the command holds."""

    runs: tuple[PageRun, ...] = ()
    """Its runs."""
    problems: tuple[str, ...] = ()
    """What could not be read or judged, one sentence each."""


def runs_of(argument: str, names: ColumnNames, description: RunDescription) -> Found:
    """Read a report folder, its `verdicts.json`, a log, or a folder of logs. What is wrong with it is in the result."""
    report = Path(argument, VERDICTS) if os.path.isdir(argument) else Path(argument)
    if report.name == VERDICTS and os.path.isfile(report):  # also for a name that is too long for the system
        return _of_report(report)
    if os.path.isdir(argument) and (nested := next(Path(argument).glob(f"*/{VERDICTS}"), None)) is not None:
        text = f"{argument}: it holds reports, such as {nested.parent.name}: name them, or use `history`"
        return Found(problems=(plain_name(text),))  # not their traces, as logs of nobody
    try:
        logs = find.find(argument)
    except LogError as error:
        return Found(problems=(f"{argument}: {error}",))
    found = [_of_log(log, names, description) for log in logs]
    return Found(
        runs=tuple(run for one in found for run in one.runs),
        problems=tuple(problem for one in found for problem in one.problems),
    )


def told_apart(found: Sequence[tuple[str, Found]]) -> list[PageRun]:
    """Return all runs; ids that several arguments have begin with the argument then."""
    runs, taken = [], set()
    for argument, one in found:
        for run in one.runs:
            item_id = run.outcome.id
            if item_id in taken:
                item_id = f"{argument.rstrip('/')}/{item_id}"
            number = 1
            while item_id in taken:
                number += 1
                item_id = f"{argument.rstrip('/')}/{run.outcome.id}#{number}"
            taken.add(item_id)
            runs.append(replace(run, outcome=replace(run.outcome, id=item_id)))
    return runs


def _of_report(report: Path) -> Found:
    runs, problems = [], []
    try:
        trees = outcome_trees(report)
    except ReportError as error:
        return Found(problems=(str(error),))
    for number, tree in enumerate(trees):
        try:
            runs.append(run_in(report.parent, outcome_of_tree(tree)))
        except Exception as error:  # anything may be in a file that was changed by hand
            problems.append(f"{report}: outcome {number + 1} cannot be read: {exception_text(error)}")
    return Found(runs=tuple(runs), problems=tuple(problems))


def outcome_of_tree(tree: Mapping[str, Any]) -> Outcome:
    """Return an outcome without the keys that this version does not know. Raises for what is none."""
    known = {one.name for one in fields(Outcome)}
    of_finding = {one.name for one in fields(Finding)}
    findings = [{key: part for key, part in one.items() if key in of_finding} for one in tree["findings"]]
    outcome = Outcome.from_dict({**{key: value for key, value in tree.items() if key in known}, "findings": findings})
    if outcome.verdict not in WORDS:
        raise ValueError(f"its verdict is {str(outcome.verdict)[:40]!r}")
    return replace(outcome, id=plain_name(str(outcome.id)))


def _of_log(path: str, names: ColumnNames, description: RunDescription) -> Found:
    """Judge the runs of one log. A log that cannot be judged is a run with the verdict `error`."""
    try:
        with refusing_as_log_errors():
            judged = [(log, judge_log(log, description)) for log in read_all(path, names)]
    except LogError as error:
        finding = Finding(id=UNREADABLE, status="fail", reason=error.reason, text=str(error))
        failed = _log_outcome(path, finding, "error")
        return Found(runs=(PageRun(outcome=failed, read_trace=lambda: None),), problems=(f"{path}: {error}",))
    return Found(runs=tuple(_run_of(log, verdict) for log, verdict in judged))


def _run_of(log: Log, verdict: CurveVerdict) -> PageRun:
    finding = Finding(
        id="loss-trend",
        status="warn" if verdict.verdict == "promote" and verdict.reason else STATUS[verdict.verdict],
        reason=verdict.reason,
        text=verdict.text,
        step=verdict.step,
        data=verdict.data,
    )
    trace = _trace(log)
    outcome = _log_outcome(f"{log.path} {log.run}".strip(), finding, verdict.verdict)
    points, losses = len(trace.loss.steps), list(trace.loss.values)
    tenth = max(1, points // 10)
    facts = Facts(
        steps=points or None,
        evidence_steps=verdict.data.get("evidence_steps"),
        evidence_needed_steps=verdict.data.get("evidence_needed"),
        loss_first=sum(losses[:tenth]) / tenth if losses else None,
        loss_last=sum(losses[-tenth:]) / tenth if losses else None,
        smallest_rise=verdict.data.get("smallest_rise_loss"),
        smallest_rise_share=verdict.data.get("smallest_rise"),
    )
    return PageRun(
        outcome=replace(
            outcome,
            facts=facts,
            curve=_curve(trace.loss),
            metrics={
                plain_name(name): [list(point) for point in column] for name, column in log.other_columns().items()
            },
        ),
        read_trace=lambda: trace if losses else None,
        unit="step",
        remarks=(*verdict.notes, *log.notes),
    )


def _log_outcome(name: str, finding: Finding, verdict: VerdictWord) -> Outcome:
    return Outcome(
        id=plain_name(name),
        recipe=plain_name(name),
        mode=LOG,
        cell=None,
        verdict=verdict,
        reason=finding.reason,
        step=finding.step,
        text=finding.text,
        decided_by=finding.id,
        findings=(finding,),
    )


def _trace(log: Log) -> Trace:
    points = log.points
    if not isinstance(points, Points):
        points = Points(
            [point.step for point in points],
            [point.loss for point in points],
            lr=[point.lr for point in points],
            grad_norm=[point.grad_norm for point in points],
            probe_loss=[point.probe_loss for point in points],
        )
    return Trace(
        loss=Series(points.steps, points.losses),
        lr=_known(points.steps, points.lr),
        grad_norm=_known(points.steps, points.grad_norm),
        probe_loss=_known(points.steps, points.probe_loss),
        terms={plain_name(name): _known(points.steps, values) for name, values in points.terms.items()},
    )


def _known(steps: Sequence[int], values: Sequence[float | None] | None) -> Series:
    if values is None:
        return NOTHING
    return Series.of((step, value) for step, value in zip(steps, values, strict=True) if value is not None)


def _curve(loss: Series) -> dict[str, list[Any]]:
    """Return means of blocks of points, as an outcome has them."""
    size = -(-len(loss.steps) // CURVE_POINTS) or 1
    blocks = [loss.values[at : at + size] for at in range(0, len(loss.values), size)]
    return {"step": list(loss.steps[::size]), "loss": [sum(value / len(block) for value in block) for block in blocks]}
