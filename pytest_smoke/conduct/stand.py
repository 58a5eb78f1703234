"""The judge's stand: records in, a word to the child, findings at the end."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_smoke.conduct.bench import Bench
from pytest_smoke.conduct.trace import Trace
from pytest_smoke.judge.accumulation import accumulation
from pytest_smoke.judge.criteria import parse
from pytest_smoke.judge.curve import Judgement
from pytest_smoke.judge.drawn import mix_drawn
from pytest_smoke.judge.finding import Finding
from pytest_smoke.judge.pipeline import pipeline
from pytest_smoke.judge.readings import readings
from pytest_smoke.judge.readings.unrecorded import unrecorded
from pytest_smoke.judge.verdict import HELD
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.windows import windows_of
from pytest_smoke.run.records import (
    PIPELINE_STAGES,
    BatchDigest,
    BegunAnew,
    Crashed,
    Drawn,
    Ended,
    Geometries,
    Go,
    Gradients,
    Halt,
    Metrics,
    ParameterNorm,
    PipelineDoing,
    PipelineStage,
    ProbeLoss,
    Record,
    Resumed,
    Saved,
    StageEnded,
    Started,
    Step,
    Stop,
    Unpredicted,
    Updates,
    Word,
)

MIX_DRAWN, ACCUMULATION = "mix-drawn", "accumulation"
DECIDES = {MIX_DRAWN: "the drawn mix", ACCUMULATION: "the size of its micro-batches"}
"""What had decided, where one of these checks ended a run."""


class Stand:
    """Judges one smoke as its records arrive."""

    def __init__(
        self,
        case: Case,
        *,
        early_stop: bool,
        mix_shares: Mapping[str, float] | None = None,
        baseline: Mapping[str, float] | None = None,
    ) -> None:
        self.trace = Trace()
        self.started: Started | None = None
        self.ended: Ended | None = None
        self.crashed: Crashed | None = None
        self.benches = [Bench(window, self.trace) for window in windows_of(case)]
        """One a stage, or one."""
        self.saved: list[Saved] = []
        self.digests: dict[int, str] = {}
        """Of a step's batches, where the `resume` check compares them."""
        self.begun_anew = ""
        """Why the run could not go on from the checkpoint that there was."""
        self._case = case
        self._early_stop = early_stop
        self.unpredicted = ""
        """What the task's predictions raised."""
        self._mix_shares = mix_shares
        self._baseline = baseline
        self._cuts: list[Geometries] = []
        self._fairness: dict[str, Finding] = {}
        """What only a run can show of its fairness, by id."""
        self._pipeline: list[PipelineStage] = []
        self._doing: PipelineDoing | None = None
        self._alarm: Judgement | None = None
        self._answered = False
        self._at = 0
        self._waiting = False
        """Whether the child waits at the end of a stage."""

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
    def held_by(self) -> str | None:
        """The stage whose criteria failed, so that no later one started; None where all went on."""
        return next((bench.window.name for bench in self.benches[:-1] if bench.holds_back), None)

    @property
    def _called_off(self) -> bool:
        """Whether the run is doomed and to be stopped; the child may train on, or end, before it hears."""
        return self._early_stop and bool(self.decided_by)

    @property
    def decided_by(self) -> str:
        """What has doomed the run; empty while nothing has."""
        if self._alarm is not None:
            return "the loss"
        return next((DECIDES[id] for id, finding in self._fairness.items() if finding.status == "fail"), "")

    @property
    def _bench(self) -> Bench:
        return self.benches[self._at]

    def receive(self, records: list[Record]) -> None:
        """Take records in, in order."""
        for record in records:
            late = self._called_off
            match record:
                case Ended():
                    self.ended = record
                case Crashed():
                    self.crashed = record
                case Saved():
                    self.saved.append(record)
                case Resumed():
                    self.trace.cuts.add(record.step)
                case BegunAnew():
                    self.begun_anew = record.why
                case BatchDigest():
                    self.digests[record.step] = record.digest
                case Gradients() if record.autopsy or not late:
                    self.trace.add(record)
                case _ if late:
                    pass  # what it did before it heard: how much is a matter of timing, not of the recipe
                case Step():
                    self._weigh(record)
                case ProbeLoss() | Metrics():
                    self.trace.add(record)
                case ParameterNorm():
                    self._bench.parameters(record.norm)
                case Started():
                    self.started = record
                case Updates():
                    self._bench.updates = record
                case StageEnded():
                    self._end_stage(record)
                case Drawn():
                    mix = self._case.recipe.mix
                    self._fairness[MIX_DRAWN] = mix_drawn(record, self._mix_shares, mix, step=record.step)
                case Geometries():
                    self._cuts.append(record)
                    self._fairness[ACCUMULATION] = accumulation(self._cuts)
                case Unpredicted():
                    self.unpredicted = record.text
                case PipelineDoing():
                    self._doing = record
                case PipelineStage():
                    self._pipeline.append(record)

    def word(self) -> tuple[Word | None] | None:
        """What the child must be told now, once: `(Stop,)`, `(None,)` after its last step, `(Go,)` or `(Halt,)` after
        another stage; None for nothing."""
        if self._answered:
            return None
        if self._called_off or self.ended:
            self._answered = True
            if self._alarm is None:
                return (Stop(last_good_step=None) if self._called_off else None,)
            good = self._alarm.data["last_good_step"]
            if good is None and self._alarm.reason == "non-finite":
                good = 0  # from the first step on: the initial weights show which term it is
            return (Stop(last_good_step=good),)
        if not self._waiting:
            return None
        self._waiting = False
        self._answered = self._bench.holds_back
        return (Halt() if self._answered else Go(),)

    def judge_loss(self) -> tuple[list[Finding], float | None]:
        """The findings `finite` and `loss-trend`, and the largest of the smallest rises they would have seen."""
        findings: list[Finding] = []
        rises = []
        for bench in self.benches:
            if bench is self.benches[0] or bench.steps:
                found, rise, bench.judgement = bench.judge_loss(complete=self._whole(bench))
                findings += found
                rises += [rise] if rise is not None else []
        return findings, max(rises, default=None)

    def judge_fairness(self) -> list[Finding]:
        """The finding `mix-drawn`, where the task says which sources its samples are from; and `accumulation`, where
        micro-batches of the smoke have another size than the full run's."""
        return list(self._fairness.values())

    def _readings(self) -> list[Finding]:
        """What the metrics say; nothing of a run that was cut, or of one as short as a wiring run."""
        if self._case.mode == "wiring" or not self.complete:
            return []
        checks, last = self._case.recipe.checks, self.benches[-1].window
        found = readings(
            self.trace.metrics,
            self._case.recipe.metrics,
            full_steps=last.case.full.max_steps,
            stage=last.name,
            first_step=last.first_step,
        )
        return [*found, *unrecorded(checks.full_accept, list(self.trace.series()))]

    def judge_pipeline(self) -> list[Finding]:
        """The findings `pipeline[...]`; none where the recipe asks for no pipeline."""
        asked = self._case.pipeline
        if asked is None:
            return []
        wanted = [name for name in PIPELINE_STAGES if asked.quantize or name != "quantize"]
        cut = f"the run did not reach its end{self.doing}"
        return pipeline(wanted, self._pipeline, max_drop=asked.max_drop, max_rise=asked.max_rise, cut=cut)

    def judge_rest(self) -> list[Finding]:
        """The checks that speak of a whole run or a whole stage."""
        findings: list[Finding] = []
        why = "the run did not reach its end"
        if self.held_by is not None:
            why = f"the smoke ended after stage {self.held_by}, whose criteria failed"
        for bench in self.benches:
            if self._whole(bench) and bench.updates is not None:
                findings += bench.judge_rest(pairs=self._pairs_of(bench))
                findings += [bench.stage] if bench.stage else []
            else:
                held = self.held_by is not None
                trend = bench is not self.benches[0] and not bench.steps
                pairs = bool(self._case.recipe.checks.grad_ratio)
                findings += bench.not_reached(why, held=held, trend=trend, pairs=pairs)
        return [*findings, *self._accept(why), *self._readings()]

    def _accept(self, why: str) -> list[Finding]:
        accept = [parse(text) for text in self._case.recipe.checks.accept]
        if not self.complete:
            reason = "cut" if self.held_by is None else HELD
            return [one.not_judged(reason, why) for one in accept]
        series = self.trace.series()
        windows = [bench.window for bench in self.benches if bench.window.span]
        return [
            one.judge(
                series,
                baseline=self._baseline,
                steps_run=self.steps,
                stages={window.name: (window.first_step, window.end - 1) for window in windows},
                steps_per_epoch=self._case.recipe.smoke.steps_per_epoch,
            )
            for one in accept
        ]

    def _pairs_of(self, bench: Bench) -> dict[str, list[float]]:
        """The declared pairs of terms that this window has, and in the last one those that none had."""
        pairs, last = self._case.recipe.checks.grad_ratio, bench is self.benches[-1]
        seen = [pair for pair in pairs if any(set(pair.split("/")) <= set(one.terms) for one in self.benches)]
        return {
            pair: bounds
            for pair, bounds in pairs.items()
            if set(pair.split("/")) <= set(bench.terms) or (last and pair not in seen)
        }

    def _whole(self, bench: Bench) -> bool:
        """Whether the window ran to its end."""
        return self.complete or bench.train_seconds is not None

    def _weigh(self, row: Step) -> None:
        self.trace.add(row)
        while row.step >= self._bench.window.end:
            self._at += 1
        alarm = self._bench.weigh(row)
        self._alarm = self._alarm or alarm

    def _end_stage(self, record: StageEnded) -> None:
        bench, following = self._bench, self.benches[self._at + 1 :]
        bench.train_seconds = record.train_seconds
        if self._case.mode != "wiring":
            next_name = following[0].window.name if following else None
            bench.judge_stage(next_name=next_name, baseline=self._baseline)
        self._waiting = bool(following)
