"""Everything a training process reported, by name and step."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pytest_smoke.events import Event, Gradients, InitialMetrics, LossDiagnosis, Metrics, ProbeLoss, Step

CURVE_POINTS = 240
"""Points of the curve in an outcome: more than a terminal or a page is wide."""

Series = list[tuple[int, float]]
E = TypeVar("E", bound=Event)


class Trace:
    """Grows as events arrive."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.probe_loss: dict[int, float] = {}
        self.metrics: dict[str, Series] = defaultdict(list)
        self.initial_metrics: dict[str, float] = {}
        """What `evaluate` returned before the first step; no criterion can name these values."""
        self.gradients: list[Gradients] = []
        self.postmortem: Gradients | None = None
        """The gradient probe on the last good checkpoint of an unstable run."""
        self.diagnosis: LossDiagnosis | None = None
        """Where a loss that is not finite comes from."""
        self.resumed_at: set[int] = set()
        """Steps at which the run was resumed from a checkpoint."""
        self._events: dict[type[Any], list[Any]] = defaultdict(list)

    def add(self, event: Event) -> None:
        """Keep one event."""
        match event:
            case Step():
                self.steps.append(event)
                return
            case ProbeLoss():
                self.probe_loss[event.step] = event.loss
            case InitialMetrics():
                self.initial_metrics = dict(event.values)
            case Metrics():
                for name, value in event.values.items():
                    self.metrics[name].append((event.step, value))
            case LossDiagnosis():
                self.diagnosis = event
            case Gradients() if event.postmortem:
                self.postmortem = event
            case Gradients():
                self.gradients.append(event)
        self._events[type(event)].append(event)

    def clear_log(self) -> None:
        """Forget all points of a log, which is read again from its beginning."""
        self.steps.clear()
        self.probe_loss.clear()
        self.metrics.clear()

    def events(self, kind: type[E]) -> Sequence[E]:
        """Return all events of one type, in order."""
        return self.steps if kind is Step else self._events[kind]  # type: ignore[return-value]  # of that type

    def series(self) -> Mapping[str, Sequence[tuple[int, float]]]:
        """Return what a criterion can name: metrics, `loss`, its terms, `grad_norm`, `lr`, `probe_loss`."""
        series: dict[str, Series] = defaultdict(list)
        for row in self.steps:
            for term, value in row.terms.items():
                series[term].append((row.step, value))
        series |= self.metrics
        series["loss"] = [(row.step, row.loss) for row in self.steps]
        series["grad_norm"] = [(row.step, row.grad_norm) for row in self.steps if row.grad_norm is not None]
        series["lr"] = [(row.step, row.lr) for row in self.steps if row.lr is not None]
        series["probe_loss"] = list(self.probe_loss.items())
        return series

    def last_values(self) -> dict[str, float]:
        """Return the last value of every series."""
        return {name: points[-1][1] for name, points in self.series().items() if points}

    def gradient_norms(self) -> dict[str, list[list[Any]]]:
        """Return step, norm and weighted norm of each gradient probe, by loss term."""
        norms: dict[str, list[list[Any]]] = defaultdict(list)
        for probe in self.gradients:
            for term, norm in probe.raw.items():
                norms[term].append([probe.step, norm, probe.weighted[term]])
        return dict(norms)

    def curve(self) -> dict[str, list[Any]]:
        """Return mean losses of at most `CURVE_POINTS` blocks; `step` is the first step of each."""
        size = -(-len(self.steps) // CURVE_POINTS) or 1
        blocks = [self.steps[at : at + size] for at in range(0, len(self.steps), size)]
        return {
            "step": [block[0].step for block in blocks],
            "loss": [sum(row.loss for row in block) / len(block) for block in blocks],
        }

    def to_csv(self) -> str:
        """Return one row per step: `step,loss,lr,grad_norm,probe_loss` and one column per loss term.

        A run with stages also has the columns `stage` and `phase`; a term that a stage does not have is empty there.
        A run that was interrupted has a column `resumed`, 1 where it was resumed.
        """
        terms = list(dict.fromkeys(term for row in self.steps for term in row.terms))
        staged = ["stage", "phase"] if any(row.stage for row in self.steps) else []
        names = [*(f"loss/{term}" for term in terms), *(["resumed"] if self.resumed_at else [])]
        out = io.StringIO()
        write = csv.writer(out, lineterminator="\n")
        write.writerow(["step", *staged, "loss", "lr", "grad_norm", "probe_loss", *names])
        for row in self.steps:
            where = [row.stage, row.phase] if staged else []
            values = [row.loss, row.lr, row.grad_norm, self.probe_loss.get(row.step, "")]
            extra = [int(row.step in self.resumed_at)] if self.resumed_at else []
            write.writerow([row.step, *where, *values, *(row.terms.get(term, "") for term in terms), *extra])
        return out.getvalue()
