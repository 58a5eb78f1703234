"""What is said of a smoke once it is over: the findings of its loss, and of a whole run or stage."""

from __future__ import annotations

from pytest_smoke.criteria import parse
from pytest_smoke.events import PIPELINE_STAGES
from pytest_smoke.judge.checks.pipeline import pipeline
from pytest_smoke.judge.metrics import advisories
from pytest_smoke.judge.metrics.missing_metrics import missing_metrics
from pytest_smoke.judge.verdict import HELD
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.monitor.stage_monitor import StageMonitor
from pytest_smoke.outcome import Finding


def judge_loss(monitor: RunMonitor) -> tuple[list[Finding], float | None]:
    """The findings `finite` and `loss-trend`, and the largest of the smallest rises they would have seen."""
    findings: list[Finding] = []
    rises = []
    for stage_monitor in monitor.stage_monitors:
        if stage_monitor is monitor.stage_monitors[0] or stage_monitor.steps:
            found, rise, stage_monitor.judgement = stage_monitor.judge_loss(complete=monitor.whole(stage_monitor))
            findings += found
            rises += [rise] if rise is not None else []
    return findings, max(rises, default=None)


def _advisories(monitor: RunMonitor) -> list[Finding]:
    """What the metrics say; nothing of a run that was cut, or of one as short as a wiring run."""
    if monitor.case.mode == "wiring" or not monitor.complete:
        return []
    checks, last = monitor.case.recipe.checks, monitor.stage_monitors[-1].window
    found = advisories(
        monitor.trace.metrics,
        monitor.case.recipe.metrics,
        full_steps=last.case.full.max_steps,
        stage=last.name,
        first_step=last.first_step,
    )
    return [*found, *missing_metrics(checks.full_accept, list(monitor.trace.series()))]


def judge_pipeline(monitor: RunMonitor) -> list[Finding]:
    """The findings `pipeline[...]`; none where the recipe asks for no pipeline."""
    asked = monitor.case.pipeline
    if asked is None:
        return []
    wanted = [name for name in PIPELINE_STAGES if asked.quantize or name != "quantize"]
    cut = f"the run did not reach its end{monitor.doing}"
    return pipeline(wanted, monitor.pipeline, max_drop=asked.max_drop, max_rise=asked.max_rise, cut=cut)


def judge_rest(monitor: RunMonitor) -> list[Finding]:
    """The checks that speak of a whole run or a whole stage."""
    findings: list[Finding] = []
    why = "the run did not reach its end"
    if monitor.held_by is not None:
        why = f"the smoke ended after stage {monitor.held_by}, whose criteria failed"
    for stage_monitor in monitor.stage_monitors:
        if monitor.whole(stage_monitor) and stage_monitor.updates is not None:
            findings += stage_monitor.judge_rest(pairs=_pairs_of(monitor, stage_monitor))
            findings += [stage_monitor.stage] if stage_monitor.stage else []
        else:
            held = monitor.held_by is not None
            trend = stage_monitor is not monitor.stage_monitors[0] and not stage_monitor.steps
            pairs = bool(monitor.case.recipe.checks.grad_ratio)
            findings += stage_monitor.not_reached(why, held=held, trend=trend, pairs=pairs)
    return [*findings, *_accept(monitor, why), *_advisories(monitor)]


def _accept(monitor: RunMonitor, why: str) -> list[Finding]:
    accept = [parse(text) for text in monitor.case.recipe.checks.accept]
    if not monitor.complete:
        reason = "cut" if monitor.held_by is None else HELD
        return [one.not_judged(reason, why) for one in accept]
    series = monitor.trace.series()
    windows = [stage_monitor.window for stage_monitor in monitor.stage_monitors if stage_monitor.window.span]
    return [
        one.judge(
            series,
            baseline=monitor.baseline,
            steps_run=monitor.steps,
            stages={window.name: (window.first_step, window.end - 1) for window in windows},
            steps_per_epoch=monitor.case.recipe.smoke.steps_per_epoch,
        )
        for one in accept
    ]


def _pairs_of(monitor: RunMonitor, stage_monitor: StageMonitor) -> dict[str, list[float]]:
    """The declared pairs of terms that this window has, and in the last one those that none had."""
    pairs, last = monitor.case.recipe.checks.grad_ratio, stage_monitor is monitor.stage_monitors[-1]
    seen = [pair for pair in pairs if any(set(pair.split("/")) <= set(one.terms) for one in monitor.stage_monitors)]
    return {
        pair: bounds
        for pair, bounds in pairs.items()
        if set(pair.split("/")) <= set(stage_monitor.terms) or (last and pair not in seen)
    }
