"""Everything a child reported, by name and step."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_smoke.events import Gradients, Metrics, ProbeLoss, Step
from pytest_smoke.judge.checks.grad_ratio import TermNorms

CURVE_POINTS = 240
"""Points of the curve that travels with an outcome: more than any terminal or page is wide."""

Series = list[tuple[int, float]]


class Trace:
    """Grows as records arrive."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.probe_loss: dict[int, float] = {}
        self.metrics: dict[str, Series] = defaultdict(list)
        self.gradients: list[TermNorms] = []
        self.postmortem: TermNorms | None = None
        self.cuts: set[int] = set()
        """Steps before which the run was cut off and later resumed."""

    def add(self, record: Step | ProbeLoss | Metrics | Gradients) -> None:
        """Keep one record."""
        match record:
            case Step():
                self.steps.append(record)
            case ProbeLoss():
                self.probe_loss[record.step] = record.loss
            case Metrics():
                for name, value in record.values.items():
                    self.metrics[name].append((record.step, value))
            case Gradients():
                norms = TermNorms(step=record.step, raw=record.raw, weighted=record.weighted, cosines=record.cosines)
                if record.postmortem:
                    self.postmortem = norms
                else:
                    self.gradients.append(norms)

    def series(self) -> Mapping[str, Sequence[tuple[int, float]]]:
        """All a criterion can name: the task's metrics, `loss` and its terms, `grad_norm`, `lr`, `probe_loss`."""
        series: dict[str, Series] = defaultdict(list)
        for row in self.steps:
            for term, value in row.terms.items():
                series[term].append((row.step, value))
        series |= self.metrics
        series["loss"] = [(row.step, row.loss) for row in self.steps]
        series["grad_norm"] = [(row.step, row.grad_norm) for row in self.steps]
        series["lr"] = [(row.step, row.lr) for row in self.steps]
        series["probe_loss"] = list(self.probe_loss.items())
        return series

    def last_values(self) -> dict[str, float]:
        """The last value of every series."""
        return {name: points[-1][1] for name, points in self.series().items() if points}

    def curve(self) -> dict[str, list[Any]]:
        """Block means of the loss, at most `CURVE_POINTS` of them; `step` is each block's first."""
        size = -(-len(self.steps) // CURVE_POINTS) or 1
        blocks = [self.steps[at : at + size] for at in range(0, len(self.steps), size)]
        return {
            "step": [block[0].step for block in blocks],
            "loss": [sum(row.loss for row in block) / len(block) for block in blocks],
        }

    def to_csv(self) -> str:
        """One row a step: `step,loss,lr,grad_norm,probe_loss` and a column a term; what `judge` reads.

        A smoke with stages has the columns `stage` and `phase` too; a term that a stage has not is empty there.
        A run that was cut off has a column `resumed`, 1 where it went on.
        """
        terms = list(dict.fromkeys(term for row in self.steps for term in row.terms))
        staged = ["stage", "phase"] if any(row.stage for row in self.steps) else []
        names = [*(f"loss/{term}" for term in terms), *(["resumed"] if self.cuts else [])]
        out = io.StringIO()
        write = csv.writer(out, lineterminator="\n")
        write.writerow(["step", *staged, "loss", "lr", "grad_norm", "probe_loss", *names])
        for row in self.steps:
            where = [row.stage, row.phase or ""] if staged else []
            seen = [row.loss, row.lr, row.grad_norm, self.probe_loss.get(row.step, "")]
            rest = [*(row.terms.get(term, "") for term in terms), *([int(row.step in self.cuts)] if self.cuts else [])]
            write.writerow([row.step, *where, *seen, *rest])
        return out.getvalue()
