"""Renders an outcome as a TensorBoard event file. Needs the `tensorboard` package, imported when a file is rendered."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.report.terminal import headline
from pytest_smoke.text import STATUS_WORDS

NOT_SERIES = frozenset({"step", "stage", "phase", "resumed"})
"""Columns of a trace that are no series of numbers over steps."""
FINDINGS_SHOWN = ("fail", "warn", "not-checked")
"""Status of the findings that the text lists; those that passed are counted."""
MARKDOWN = re.compile(r"([\\`*_\[\]|])")
"""Characters that Markdown interprets within a line."""


@dataclass
class Points:
    """What is shown at one step."""

    scalars: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def event_file(outcome: Outcome, trace: str | None, *, written_at: float) -> bytes:
    """Return the content of an event file: series, verdict and findings as text, settings as hyperparameters.

    `trace` is the text of the run's trace. Without one, the curve of the outcome takes its place. The trace has no
    times, so that a point's time is interpolated between the start and the end of the run; `written_at` (seconds since
    1970) is the time of a run whose start is not known. Raises ImportError without the package.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog, SourceMetadata
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.text.summary_v2 import text_pb
    from tensorboard.summary.writer.record_writer import RecordWriter

    steps = points_of(outcome, trace)
    start, seconds = _start(outcome, written_at), outcome.facts.seconds or 0.0
    length = max(steps, default=0) + 1
    out = io.BytesIO()
    records = RecordWriter(out)

    def add(step: int, **content: Any) -> None:
        event = Event(wall_time=start + seconds * step / length, step=step, **content)
        records.write(event.SerializeToString())

    add(0, file_version="brain.Event:2", source_metadata=SourceMetadata(writer="pytest_smoke"))
    # A TensorBoard that is open drops what it has read of an earlier run in this folder.
    add(0, session_log=SessionLog(status=SessionLog.START))
    add(0, summary=hparams_pb(hyperparameters(outcome), trial_id=outcome.id, start_time_secs=start))
    for step, points in sorted(steps.items()):
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in points.scalars.items()]
        if values:
            add(step, summary=Summary(value=values))
        for tag, text in points.texts.items():
            add(step, summary=text_pb(tag, text))
    return out.getvalue()


def points_of(outcome: Outcome, trace: str | None) -> dict[int, Points]:
    """Return scalars and texts by step. Raises ValueError for a text that is not a trace."""
    steps: dict[int, Points] = {}

    def at(step: int) -> Points:
        return steps.setdefault(step, Points())

    for step, values in _rows(trace) if trace is not None else _curve(outcome):
        at(step).scalars |= values
    for name, series in outcome.metrics.items():
        for step, value in series:
            at(step).scalars[f"metrics/{name}"] = value
    if (norms := outcome.facts.gradient_norms) is not None:
        for kind, by_term in (("raw", norms.raw), ("weighted", norms.weighted), ("cosine", norms.cosines)):
            for term, value in by_term.items():
                at(norms.step).scalars[f"gradient_probe/{kind}/{term}"] = value
    for stage in outcome.facts.stages:
        if stage.steps:
            at(stage.first_step).texts["stage"] = f"stage {escaped(stage.name)} starts"
    last = max(steps, default=0)
    at(last if outcome.step is None else outcome.step).texts["verdict"] = verdict_text(outcome)
    at(last).texts["findings"] = findings_text(outcome.findings)
    return steps


def _rows(trace: str) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield step and numbers of each row, without its empty cells."""
    rows = csv.DictReader(io.StringIO(trace))
    for row in rows:
        yield (
            int(row["step"]),
            {name: float(cell) for name, cell in row.items() if cell and name not in NOT_SERIES and name is not None},
        )


def _curve(outcome: Outcome) -> Iterator[tuple[int, dict[str, float]]]:
    for step, loss in zip(outcome.curve.get("step", ()), outcome.curve.get("loss", ()), strict=True):
        yield step, {"loss": loss}


def verdict_text(outcome: Outcome) -> str:
    """Return the verdict, its sentence and what to do, in Markdown."""
    lines = [escaped(headline(outcome))]
    if outcome.deciding is not None and outcome.deciding.hint:
        lines.append(f"Hint: {escaped(outcome.deciding.hint)}")
    if outcome.facts.git_commit:
        lines.append(f"Commit: {escaped(outcome.facts.git_commit)}")
    return "\n\n".join(lines)


def findings_text(findings: Sequence[Finding]) -> str:
    """Return a Markdown table of the findings that did not pass, and how many did."""
    passed = sum(finding.status == "pass" for finding in findings)
    shown = sorted(
        (finding for finding in findings if finding.status in FINDINGS_SHOWN),
        key=lambda finding: FINDINGS_SHOWN.index(finding.status),
    )
    lines = ["| result | check | reason | text |", "| --- | --- | --- | --- |"] if shown else []
    for finding in shown:
        cells = (STATUS_WORDS[finding.status], finding.id, finding.reason, finding.text)
        lines.append("| " + " | ".join(map(escaped, cells)) + " |")
    return "\n".join([*lines, "", f"{passed} of {len(findings)} checks passed"])


def hyperparameters(outcome: Outcome) -> dict[str, bool | float | str]:
    """Return the settings of the run, the arguments of its task and where it ran, for TensorBoard's HParams."""
    facts = outcome.facts
    tree = {
        **facts.settings,
        "args": facts.args,
        "mode": outcome.mode,
        "cell": outcome.cell,
        "seed": facts.seed,
        "device": facts.device,
    }
    return dict(_leaves(tree))


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, bool | float | str]]:
    """Yield the values of nested settings by their dotted path. Lists are texts; what is not set is left out."""
    for key, value in tree.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.")
        elif value is not None:
            yield name, value if isinstance(value, bool | int | float | str) else str(value)


def escaped(text: str) -> str:
    """Escape a text for the middle of a line of Markdown: nothing in it is markup, a link or HTML."""
    return MARKDOWN.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _start(outcome: Outcome, written_at: float) -> float:
    try:
        return datetime.fromisoformat(outcome.facts.started_at or "").timestamp()
    except ValueError:
        return written_at
