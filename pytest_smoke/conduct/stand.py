"""The judge's stand: records in, a word to the child, findings at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pytest_smoke.conduct.trace import Trace
from pytest_smoke.judge.criteria import parse
from pytest_smoke.judge.curve import CurveJudge, Judgement
from pytest_smoke.judge.drawn import mix_drawn
from pytest_smoke.judge.finding import Finding
from pytest_smoke.judge.pipeline import pipeline
from pytest_smoke.judge.preflight import evidence_needed
from pytest_smoke.judge.ratio import autopsy, grad_ratio
from pytest_smoke.judge.readings import readings
from pytest_smoke.judge.updates import updates
from pytest_smoke.recipe.case import Case
from pytest_smoke.run.records import (
    PIPELINE_STAGES,
    Crashed,
    Drawn,
    Ended,
    Gradients,
    Metrics,
    ParameterNorm,
    PipelineDoing,
    PipelineStage,
    ProbeLoss,
    Record,
    Started,
    Step,
    Stop,
    Updates,
)


class Stand:
    """Judges one smoke as its records arrive."""

    def __init__(self, case: Case, *, early_stop: bool, mix_shares: Mapping[str, float] | None = None) -> None:
        self.trace = Trace()
        self.started: Started | None = None
        self.ended: Ended | None = None
        self.crashed: Crashed | None = None
        self._case = case
        self._early_stop = early_stop
        self._mix_shares = mix_shares
        self._drawn: Finding | None = None
        self._updates: Updates | None = None
        self._stages: list[PipelineStage] = []
        self._doing: PipelineDoing | None = None
        self._alarm: Judgement | None = None
        self._answered = False
        self._parameter_norm = 0.0
        self._judge = CurveJudge(
            planned_points=case.run_steps,
            from_scratch=case.full.from_scratch,
            edges=case.recipe.smoke.edges,
            peak_lr=case.full.learning_rate,
            evidence_needed=evidence_needed(case),
        )

    @property
    def steps(self) -> int:
        """Optimizer steps seen."""
        return len(self.trace.steps)

    @property
    def complete(self) -> bool:
        """Whether the child ran every planned step."""
        return self.ended is not None and self.ended.steps == self._case.run_steps and not self._called_off

    @property
    def doing(self) -> str:
        """`, in the pipeline's export: torch.onnx.export`, what was begun last; empty before the pipeline."""
        return f", in the pipeline's {self._doing.stage}: {self._doing.doing}" if self._doing else ""

    @property
    def _called_off(self) -> bool:
        """Whether the run is doomed and to be stopped; the child may train on, or end, before it hears."""
        return self._early_stop and bool(self.decided_by)

    @property
    def decided_by(self) -> str:
        """What has doomed the run; empty while nothing has."""
        if self._alarm is not None:
            return "the loss"
        return "the drawn mix" if self._drawn is not None and self._drawn.status == "fail" else ""

    @property
    def _terms(self) -> list[str]:
        return list(self.trace.steps[0].terms) if self.trace.steps else []

    def receive(self, records: list[Record]) -> None:
        """Take records in, in order."""
        for record in records:
            late = self._called_off
            match record:
                case Ended():
                    self.ended = record
                case Crashed():
                    self.crashed = record
                case Gradients() if record.autopsy or not late:
                    self.trace.add(record)
                case _ if late:
                    pass  # what it did before it heard: how much is a matter of timing, not of the recipe
                case Step():
                    self.trace.add(record)
                    self._weigh(record)
                case ProbeLoss() | Metrics():
                    self.trace.add(record)
                case ParameterNorm():
                    self._parameter_norm = record.norm
                case Started():
                    self.started = record
                case Updates():
                    self._updates = record
                case Drawn():
                    mix = self._case.recipe.mix
                    self._drawn = mix_drawn(record, self._mix_shares, mix, step=record.step)
                case PipelineDoing():
                    self._doing = record
                case PipelineStage():
                    self._stages.append(record)

    def word(self) -> tuple[Stop | None] | None:
        """What the child must be told now, once: `(Stop,)`, or `(None,)` after its last step; None for nothing."""
        if self._answered or not (self._called_off or self.ended):
            return None
        self._answered = True
        if self._alarm is None:
            return (Stop(last_good_step=None) if self._called_off else None,)
        return (Stop(last_good_step=int(self._alarm.data.get("last_good_step") or 0)),)

    def judge_loss(self) -> tuple[list[Finding], float | None]:
        """The findings `finite` and `loss-trend`, and the smallest lasting rise they would have seen."""
        judgement = self._judge.finish(cut=not self.complete)
        return list(self._loss_findings(judgement)), judgement.data.get("smallest_rise_loss")

    def judge_drawn(self) -> list[Finding]:
        """The finding `mix-drawn`, where the task says which sources its samples are from."""
        return [self._drawn] if self._drawn is not None else []

    def judge_rest(self, *, from_step: int) -> list[Finding]:
        """The checks that speak of a whole run. `from_step`: first step whose gradients count as evidence."""
        checks = self._case.recipe.checks
        if not self.complete or self._updates is None:
            ids = ["updates", *(["grad-ratio"] if checks.grad_ratio else []), *(f"accept[{c}]" for c in checks.accept)]
            text = "the run did not reach its end"
            return [Finding(id=id, status="not-checked", reason="cut", text=text) for id in ids]
        ratio = grad_ratio(self.trace.gradients, checks.grad_ratio, terms=self._terms, from_step=from_step)
        series = self.trace.series()
        per_epoch = self._case.recipe.smoke.steps_per_epoch
        accept = [parse(text).judge(series, steps_run=self.steps, steps_per_epoch=per_epoch) for text in checks.accept]
        return [updates(self._updates), *([ratio] if ratio else []), *accept, *self._readings()]

    def _readings(self) -> list[Finding]:
        """What the metrics say; a wiring run is too short to say anything."""
        if self._case.mode == "wiring":
            return []
        return readings(self.trace.metrics, self._case.recipe.metrics, full_steps=self._case.full.max_steps)

    def judge_pipeline(self) -> list[Finding]:
        """The findings `pipeline[...]`; none where the recipe asks for no pipeline."""
        asked = self._case.pipeline
        if asked is None:
            return []
        wanted = [name for name in PIPELINE_STAGES if asked.quantize or name != "quantize"]
        cut = f"the run did not reach its end{self.doing}"
        return pipeline(wanted, self._stages, max_drop=asked.max_drop, max_rise=asked.max_rise, cut=cut)

    def _weigh(self, row: Step) -> None:
        alarm = self._judge.add(
            row.step,
            row.loss,
            probe_loss=self.trace.probe_loss.get(row.step),
            lr=row.lr,
            grad_norm=row.grad_norm,
            terms={**row.terms, "parameters": self._parameter_norm},
        )
        self._alarm = self._alarm or alarm

    def _loss_findings(self, judgement: Judgement) -> Iterator[Finding]:
        text, step, data = judgement.text, judgement.step, judgement.data
        hint, rate = "", f"learning_rate ({self._case.full.learning_rate:g})"
        if judgement.verdict == "unstable":
            hint = f"reduce {rate}, or revisit what is new in the recipe"
        if judgement.reason == "no-progress":
            hint = f"try a lower {rate}, and look at labels and loss: what learns nothing is stable too"
        if self.trace.autopsy:
            hint = autopsy(self.trace.autopsy)
        if judgement.reason == "non-finite":
            yield Finding(id="finite", status="fail", reason="non-finite", text=text, step=step, hint=hint, data=data)
            return
        if not math.isfinite(self._parameter_norm):
            last = self.steps - 1
            text = f"the norm of the parameters is {self._parameter_norm} after step {last}"
            yield Finding(id="finite", status="fail", reason="non-finite", text=text, step=last, hint=hint)
        elif self.steps:
            notes = "".join(f"; {note}" for note in judgement.notes)
            yield Finding(
                id="finite",
                status="pass",
                text=f"{self.steps} steps: every loss term, gradient norm and parameter is finite{notes}",
            )
        if self._case.mode == "wiring" and judgement.verdict != "unstable":
            text = f"{self.steps} steps ran; a wiring run is never a verdict"
            yield Finding(id="loss-trend", status="not-checked", reason="wiring", text=text)
            return
        status = {"promote": "pass", "unstable": "fail", "invalid": "fail", "inconclusive": "not-checked"}
        yield Finding(
            id="loss-trend",
            status="warn" if judgement.verdict == "promote" and judgement.reason else status[judgement.verdict],  # type: ignore[arg-type]  # values of Status
            reason=judgement.reason,
            text=text,
            step=step,
            hint=hint,
            data=data,
        )
