"""What `judge` says of one log, and how a log's points reach the engine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TextIO

from pytest_smoke.errors import LogError
from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.logs.log import Log, Point

EXIT_PROMOTE, EXIT_NOT_PROMOTE, EXIT_ERROR = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is said of one log."""

    log: str
    verdict: str
    reason: str
    step: int | None
    text: str
    points: int
    """Points that were judged; of a log that could not be judged, 0."""
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 promote, 1 another verdict, 2 could not be judged."""
        if self.verdict == "promote":
            return EXIT_PROMOTE
        return EXIT_ERROR if self.verdict == "error" else EXIT_NOT_PROMOTE


def line_of(log: Log, judgement: CurveVerdict) -> Line:
    """A judged log's line."""
    return Line(
        log=log.path,
        verdict=judgement.verdict,
        reason=judgement.reason,
        step=judgement.step,
        text=judgement.text,
        points=judgement.points,
        notes=(*judgement.notes, *log.notes),
    )


def line_of_error(path: str, error: LogError) -> Line:
    """The line of a log that could not be judged."""
    return Line(log=path, verdict="error", reason=error.reason, step=None, text=str(error), points=0)


def add(judge: CurveJudge, point: Point) -> CurveVerdict | None:
    """Feed a point of a log to the engine."""
    return judge.add(
        point.step,
        point.loss,
        probe_loss=point.probe_loss,
        lr=point.lr,
        grad_norm=point.grad_norm,
        terms=point.terms or None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What is known of a run that its log does not say."""

    planned: int | None = None
    """Points of the whole run; None: those of the log."""
    edges: tuple[int, ...] = ()
    """Steps at which data or loss change by design."""
    from_scratch: bool = False

    def engine(self, points: int) -> CurveJudge:
        """The judge of a run of so many points, where no more are planned."""
        return CurveJudge(planned_points=self.planned or points, edges=self.edges, from_scratch=self.from_scratch)


def show(line: Line, form: str, out: TextIO) -> None:
    """Print a line, at once: a launch script may be reading."""
    if form == "json":
        # The schema has no place for notes, and a verdict without its reservations is another verdict.
        text = ". ".join([line.text, *line.notes])
        wire = {"log": line.log, "verdict": line.verdict, "reason": line.reason, "step": line.step, "text": text}
        print(json.dumps({**wire, "points": line.points}, allow_nan=False), file=out, flush=True)
        return
    reason = f" ({line.reason})" if line.reason else ""
    text = "\n    ".join([f"{line.log}: {line.verdict}{reason}: {line.text}", *line.notes])
    encoding = out.encoding or "utf-8"  # a column's name need not be printable on this terminal
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=out, flush=True)
