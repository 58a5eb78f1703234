"""What is said of a smoke once it is over: the findings of its loss, and of a whole run or stage."""

from __future__ import annotations

from pytest_smoke.criteria import parse
from pytest_smoke.events import PIPELINE_STAGES
from pytest_smoke.judge.checks.pipeline import pipeline
from pytest_smoke.judge.metrics import readings
from pytest_smoke.judge.metrics.missing_metrics import unrecorded
from pytest_smoke.judge.verdict import HELD
from pytest_smoke.monitor.run_monitor import Stand
from pytest_smoke.monitor.stage_monitor import Bench
from pytest_smoke.outcome import Finding


def judge_loss(stand: Stand) -> tuple[list[Finding], float | None]:
    """The findings `finite` and `loss-trend`, and the largest of the smallest rises they would have seen."""
    findings: list[Finding] = []
    rises = []
    for bench in stand.benches:
        if bench is stand.benches[0] or bench.steps:
            found, rise, bench.judgement = bench.judge_loss(complete=stand.whole(bench))
            findings += found
            rises += [rise] if rise is not None else []
    return findings, max(rises, default=None)


def _readings(stand: Stand) -> list[Finding]:
    """What the metrics say; nothing of a run that was cut, or of one as short as a wiring run."""
    if stand.case.mode == "wiring" or not stand.complete:
        return []
    checks, last = stand.case.recipe.checks, stand.benches[-1].window
    found = readings(
        stand.trace.metrics,
        stand.case.recipe.metrics,
        full_steps=last.case.full.max_steps,
        stage=last.name,
        first_step=last.first_step,
    )
    return [*found, *unrecorded(checks.full_accept, list(stand.trace.series()))]


def judge_pipeline(stand: Stand) -> list[Finding]:
    """The findings `pipeline[...]`; none where the recipe asks for no pipeline."""
    asked = stand.case.pipeline
    if asked is None:
        return []
    wanted = [name for name in PIPELINE_STAGES if asked.quantize or name != "quantize"]
    cut = f"the run did not reach its end{stand.doing}"
    return pipeline(wanted, stand.pipeline, max_drop=asked.max_drop, max_rise=asked.max_rise, cut=cut)


def judge_rest(stand: Stand) -> list[Finding]:
    """The checks that speak of a whole run or a whole stage."""
    findings: list[Finding] = []
    why = "the run did not reach its end"
    if stand.held_by is not None:
        why = f"the smoke ended after stage {stand.held_by}, whose criteria failed"
    for bench in stand.benches:
        if stand.whole(bench) and bench.updates is not None:
            findings += bench.judge_rest(pairs=_pairs_of(stand, bench))
            findings += [bench.stage] if bench.stage else []
        else:
            held = stand.held_by is not None
            trend = bench is not stand.benches[0] and not bench.steps
            pairs = bool(stand.case.recipe.checks.grad_ratio)
            findings += bench.not_reached(why, held=held, trend=trend, pairs=pairs)
    return [*findings, *_accept(stand, why), *_readings(stand)]


def _accept(stand: Stand, why: str) -> list[Finding]:
    accept = [parse(text) for text in stand.case.recipe.checks.accept]
    if not stand.complete:
        reason = "cut" if stand.held_by is None else HELD
        return [one.not_judged(reason, why) for one in accept]
    series = stand.trace.series()
    windows = [bench.window for bench in stand.benches if bench.window.span]
    return [
        one.judge(
            series,
            baseline=stand.baseline,
            steps_run=stand.steps,
            stages={window.name: (window.first_step, window.end - 1) for window in windows},
            steps_per_epoch=stand.case.recipe.smoke.steps_per_epoch,
        )
        for one in accept
    ]


def _pairs_of(stand: Stand, bench: Bench) -> dict[str, list[float]]:
    """The declared pairs of terms that this window has, and in the last one those that none had."""
    pairs, last = stand.case.recipe.checks.grad_ratio, bench is stand.benches[-1]
    seen = [pair for pair in pairs if any(set(pair.split("/")) <= set(one.terms) for one in stand.benches)]
    return {
        pair: bounds
        for pair, bounds in pairs.items()
        if set(pair.split("/")) <= set(bench.terms) or (last and pair not in seen)
    }
