"""The judge on whole curves: shapes an engineer knows, each with the verdict he would give."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.judge.curve.divergence import FALSE_DIVERGENCES, places
from pytest_smoke.judge.curve.spike import FALSE_SPIKES, streak_needed

POINTS = 1000


def decay(points: int = POINTS, sigma: float = 0.08, seed: int = 0) -> list[float]:
    """Power-law decay from 4.5 to about 2, with gaussian minibatch noise."""
    draw = random.Random(seed)
    return [1.8 + 2.7 * (1 + step / 15) ** -0.6 + draw.gauss(0, sigma) for step in range(points)]


def judge(
    losses: Sequence[float], *, cut: bool = False, lr: Callable[[int], float] | None = None, **options
) -> CurveVerdict:
    options = {"planned_points": len(losses)} | options
    judge = CurveJudge(**options)
    for step, loss in enumerate(losses):
        found = judge.add(step, loss, lr=lr(step) if lr else None)
        if found is not None:
            assert found.step == step
            break
    return judge.finish(cut=cut)


def with_rise(losses: list[float], onset: int, by: float) -> list[float]:
    return losses[:onset] + [loss + by for loss in losses[onset:]]


def test_a_clean_descent_promotes_and_says_what_would_have_been_seen() -> None:
    found = judge(decay())
    assert (found.verdict, found.reason, found.step, found.points) == ("promote", "", None, POINTS)
    assert "loss fell from" in found.text
    assert "would have been seen" in found.text
    assert 0 < found.data["smallest_rise"] < 0.1
    assert found.notes == ("no learning rate column: judged on its loss alone",)


@pytest.mark.parametrize("onset", [30, 60, 150, 400, 700, 940, 975])
def test_a_lasting_rise_is_unstable_wherever_it_begins(onset: int) -> None:
    """First block, middle and last 3 % alike; the delay is a few per cent of the window."""
    found = judge(with_rise(decay(), onset, 1.0))
    assert found.verdict == "unstable"
    assert found.step is not None
    assert onset <= found.step < onset + 25
    assert found.data["last_good_step"] < onset + 1


def test_the_sentence_of_a_rise_names_trough_offence_and_certainty() -> None:
    found = judge(with_rise(decay(), 600, 0.15))
    assert found.reason == "rise"
    low_span, high_span = found.data["trough"], found.data["offence"]
    assert low_span[1] < high_span[0] <= found.step == high_span[1]
    assert high_span[1] >= 600
    for part in (
        f"loss rose from its trough {low_span[2]:.4g} (steps {low_span[0]}-{low_span[1]})",
        f"to {high_span[2]:.4g} (steps {high_span[0]}-{high_span[1]}): +0.",
        "sigma of block noise",
    ):
        assert part in found.text
    assert found.data["sigmas"] > 4.5


def test_a_slow_rise_is_seen() -> None:
    losses = [loss + max(0, step - 400) * 8e-4 for step, loss in enumerate(decay())]
    found = judge(losses)
    assert (found.verdict, found.reason) == ("unstable", "rise")
    assert 450 < found.step < 800


def test_an_exponential_blow_up_is_seen_within_a_few_points() -> None:
    losses = [loss + 1e-3 * math.exp(min(max(step - 500, -50) / 4, 60)) for step, loss in enumerate(decay())]
    found = judge(losses)
    assert found.verdict == "unstable"
    assert 510 < found.step < 540


def test_a_run_that_never_had_a_trough_diverges() -> None:
    """The first losses all lie near 2; from step 25 on the noise is too wild for blocks to agree on a level."""
    draw = random.Random(1)
    wild = [4.0 * math.exp(draw.gauss(0, 2.0)) for _ in range(POINTS)]
    losses = [2.0 + 0.1 * draw.random() if step < 25 else wild[step] for step in range(POINTS)]
    found = judge(losses)
    assert (found.verdict, found.reason) == ("unstable", "divergence")
    assert 25 < found.step < 60
    assert found.data["last_good_step"] < 25
    assert "of the last" in found.text
    assert "at the start (+" in found.text


def test_a_run_that_blows_up_in_its_first_steps_has_but_one_level() -> None:
    """The median of the first eight is that of the ruin; whether it recovers later does not matter."""
    ruined = [1.5, 11.0, 14.0] + [13.0 + (step % 2) for step in range(197)]
    recovering = [0.196, 0.145] + [12.0 * 0.9**step + 0.2 for step in range(198)]
    for losses, step in ((ruined, 24), (recovering, 5), ([1.0, 40.0, 50.0, 31.0, 1e3] + [2.0] * 195, 4)):
        found = judge(losses)
        assert (found.verdict, found.reason, found.step) == ("unstable", "divergence", step)
        assert found.data["last_good_step"] is None
    assert (
        "blew up at once: from 1.5 at step 0 to 11 or more in each of the 24 points up to step 24" in judge(ruined).text
    )
    assert judge([1.0] + [2.9] * 30 + [3.0 - step / 100 for step in range(200)]).reason != "divergence"


def test_a_blow_up_behind_an_edge_is_seen_too() -> None:
    """A phase begins anew."""
    before = [3.0 - step / 100 for step in range(100)]
    judge = CurveJudge(planned_points=400, edges=[100])
    behind = [15.0, *[700.0 * 0.98**step for step in range(200)]]
    found = next(one for step, loss in enumerate([*before, *behind]) if (one := judge.add(step, loss)))
    assert (found.reason, found.step, found.data["last_good_step"]) == ("divergence", 104, 100)


@pytest.mark.parametrize("size", [8, 12, 25])
def test_divergence_is_no_chance_in_exchangeable_noise(size: int) -> None:
    """The bound, by simulation: m of the newest n above the j-th largest of the first n."""
    draw = random.Random(size)
    pairs = places(size, planned=size)
    assert pairs
    hits = dict.fromkeys(pairs, 0)
    for _ in range(4000):
        first, newest = ([draw.random() for _ in range(size)] for _ in range(2))
        first.sort()
        for m, j in pairs:
            hits[m, j] += sum(value > first[-j] for value in newest) >= m
    assert max(hits.values()) / 4000 < 2 * FALSE_DIVERGENCES


def test_a_spike_of_a_few_points_is_unstable_and_one_of_one_point_is_not() -> None:
    losses = decay()
    lone = [*losses[:500], 9.0, *losses[501:]]
    assert judge(lone).verdict == "promote"
    spike = losses[:500] + [9.0] * 6 + losses[506:]
    found = judge(spike)
    assert (found.verdict, found.reason) == ("unstable", "spike")
    assert 500 < found.step < 506
    assert found.data["last_good_step"] == 499
    assert "above each of the 50 before them" in found.text


def test_streaks_are_long_enough_for_any_exchangeable_noise() -> None:
    for points in (100, 2500, 50_000):
        p = streak_needed(50, points)
        assert math.comb(50 + p, p) >= points / FALSE_SPIKES > math.comb(50 + p - 1, p - 1)
    assert streak_needed(50, 2500) == 5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize("at", [0, 1, 17, 999])
def test_a_non_finite_loss_is_unstable_at_its_step(bad: float, at: int) -> None:
    losses = decay()
    losses[at] = bad
    found = judge(losses)
    assert (found.verdict, found.reason, found.step, found.series) == ("unstable", "non-finite", at, "loss")
    assert found.data["last_good_step"] == (at - 1 if at else None)
    assert f"at step {at}" in found.text


def test_the_term_that_is_not_finite_is_named_even_where_the_loss_is_not_either() -> None:
    for loss in (1.0, math.nan):
        judge = CurveJudge(planned_points=100)
        judge.add(0, 1.0, terms={"ce": 0.5, "crf": 0.5})
        found = judge.add(1, loss, terms={"ce": 0.5, "crf": math.nan})
        assert found is not None
        assert (found.series, found.step, found.text) == ("crf", 1, "crf is nan at step 1")


def test_skipped_fp16_steps_are_counted_and_fail_only_where_no_scaler_skips_so_many() -> None:
    losses = decay()

    def run(bad: set[int]) -> CurveVerdict:
        judge = CurveJudge(planned_points=POINTS)
        for step, loss in enumerate(losses):
            judge.add(step, loss, grad_norm=math.inf if step in bad else 1.0)
        return judge.finish()

    found = run({0, 1, 5, *range(100, 116)})
    assert found.verdict == "promote"
    assert any("19 points with a finite loss" in note for note in found.notes)
    found = run(set(range(100, 117)))
    assert (found.verdict, found.reason, found.series, found.step) == ("unstable", "non-finite", "grad_norm", 116)


def test_the_last_good_step_precedes_gradients_that_were_already_broken() -> None:
    judge = CurveJudge(planned_points=100)
    for step in range(20):
        judge.add(step, 1.0, grad_norm=math.nan if step >= 18 else 1.0)
    found = judge.add(20, math.nan, grad_norm=math.nan)
    assert found is not None
    assert found.data["last_good_step"] == 17


def test_exact_zeros_are_a_swallowed_nan_and_a_smooth_fall_to_nothing_is_not() -> None:
    found = judge(decay()[:500] + [0.0] * 500)
    assert (found.verdict, found.reason, found.step) == ("unstable", "non-finite", 507)
    smooth = [5.0 * math.exp(-step / 12) for step in range(POINTS)]
    smooth = [loss if loss > 1e-30 else 0.0 for loss in smooth]
    assert judge(smooth).verdict == "promote"
    judge_nan = CurveJudge(planned_points=100)
    judge_nan.add(0, 2.0, grad_norm=1.0)
    found_nan = judge_nan.add(1, 0.0, grad_norm=math.nan)
    assert found_nan is not None
    assert "exactly 0" in found_nan.text


def test_losses_that_fall_to_1e_8_promote() -> None:
    draw = random.Random(0)
    losses = [5.0 * math.exp(-step / 50 + draw.gauss(0, 0.2)) for step in range(POINTS)]
    assert losses[-1] < 1e-7
    assert judge(losses).verdict == "promote"


def test_a_rise_that_only_the_fixed_slice_shows_is_named_so() -> None:
    draw = random.Random(1)
    judge = CurveJudge(planned_points=POINTS)
    for step in range(POINTS):
        level = 1.0 + (0.25 if step > 700 else 0.0)
        judge.add(step, level + draw.gauss(0, 1.2), probe_loss=level + draw.gauss(0, 0.01) if step % 25 == 0 else None)
    found = judge.finish()
    assert (found.verdict, found.reason, found.series) == ("unstable", "rise", "probe_loss")
    assert 700 < found.step <= 825
    assert found.text.startswith("probe_loss rose from its trough")


@pytest.mark.parametrize(("length", "step"), [(1, None), (2, 620), (3, 620)])
def test_a_bump_of_the_slice_must_last_two_probes(length: int, step: int | None) -> None:
    judge = CurveJudge(planned_points=POINTS)
    for at, loss in enumerate(decay()):
        bump = 3.0 * (600 <= at < 600 + 20 * length)
        judge.add(at, loss, probe_loss=2.0 + bump + 0.001 * (at % 7) if at % 20 == 0 else None)
    found = judge.finish()
    assert (found.verdict, found.step) == ("promote" if step is None else "unstable", step)


def test_a_slice_that_rises_before_an_edge_is_seen_and_one_that_rises_across_is_not() -> None:
    def run(onset: int) -> CurveVerdict:
        judge = CurveJudge(planned_points=10_000, edges=(5010,))
        for step, loss in enumerate(decay(10_000)):
            judge.add(step, loss, probe_loss=2.0 + 0.001 * (step % 7) + 0.5 * (step >= onset))
        return judge.finish()

    assert run(5010).verdict == "promote"
    found = run(4935)
    assert (found.verdict, found.series) == ("unstable", "probe_loss")
    assert found.step is not None
    assert found.step < 5010


def test_a_quiet_slice_promotes_a_run_whose_own_loss_is_too_noisy() -> None:
    def run(slice_too: bool) -> CurveVerdict:
        draw = random.Random(2)
        judge = CurveJudge(planned_points=POINTS)
        for step in range(POINTS):
            level = 1.0 + math.exp(-step / 50)
            probe = level + draw.gauss(0, 0.005)
            judge.add(step, level + draw.gauss(0, 1.0), probe_loss=probe if slice_too and step % 25 == 0 else None)
        return judge.finish()

    assert (run(False).verdict, run(False).reason) == ("inconclusive", "too-noisy")
    assert run(True).verdict == "promote"


def test_too_noisy_says_how_many_points_would_decide_and_they_do() -> None:
    """The estimate is made from 300 noisy points: of 10 runs four times as many decide 7, a third as many at most 3."""
    decided = decided_by_third = 0
    for seed in range(10):
        draw = random.Random(seed)
        losses = [1.0 + math.exp(-step / 30) + draw.gauss(0, 0.3) for step in range(20_000)]
        found = judge(losses[:300])
        assert (found.verdict, found.reason) == ("inconclusive", "too-noisy")
        needed = found.data["points_needed"]
        assert f"about {needed - 300} more points" in found.text
        decided += judge(losses[: 4 * needed]).verdict == "promote"
        decided_by_third += judge(losses[: needed // 3]).verdict == "promote"
    assert decided >= 7
    assert decided_by_third <= 3


def test_too_short_says_how_many_points_are_missing() -> None:
    found = judge(decay()[:20])
    assert (found.verdict, found.reason) == ("inconclusive", "too-short")
    assert found.data["points_needed"] == 32
    assert "12 more" in found.text
    assert judge(decay(35, sigma=0.01)).verdict == "promote"


def test_a_cut_run_never_promotes_and_an_unstable_one_stays_so() -> None:
    found = judge(decay(), cut=True, planned_points=2000)
    assert (found.verdict, found.reason) == ("inconclusive", "cut")
    assert "1000 of 2000" in found.text
    assert judge(with_rise(decay(), 500, 1.0), cut=True).verdict == "unstable"


def cosine(step: int, warmup: int, steps: int) -> float:
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def test_a_cosine_smoke_is_masked_by_its_own_tail_and_names_the_last_step_that_counts() -> None:
    losses = decay(3000)
    found = judge(losses, lr=lambda step: 5e-4 * cosine(step, 1000, 3000))
    assert (found.verdict, found.reason) == ("invalid", "masked")
    last = max(step for step in range(3000) if cosine(step, 1000, 3000) >= 0.8)
    assert found.data["evidence_end"] == last
    assert f"step {last}" in found.text
    assert 780 < found.data["evidence_steps"] == pytest.approx(last - 800, abs=3)


def test_evidence_half_the_window_or_as_told_promotes() -> None:
    losses = decay(2500)
    constant = {"lr": lambda step: 3e-4 * min(1.0, step / 1000)}
    found = judge(losses, **constant)
    assert found.verdict == "promote"
    assert found.data["evidence_steps"] == 1700
    assert found.notes == ()
    assert judge(losses, **constant, evidence_needed=1701).reason == "masked"
    assert judge(losses, **constant, peak_lr=3e-4).verdict == "promote"
    found = judge(losses, **constant, peak_lr=6e-4)
    assert (found.reason, found.data["evidence_end"]) == ("masked", None)


def test_no_rise_hides_behind_a_masked_schedule() -> None:
    losses = with_rise(decay(3000), 2250, 1.0)
    assert judge(losses, lr=lambda step: cosine(step, 1000, 3000)).verdict == "unstable"


def test_evidence_counts_steps_where_every_fiftieth_is_logged() -> None:
    judge = CurveJudge(planned_points=200, evidence_needed=7000)
    for point, loss in enumerate(decay(200, sigma=0.01)):
        judge.add(point * 50, loss, lr=1e-3)
    found = judge.finish()
    assert found.verdict == "promote"
    assert found.data["evidence_steps"] == 199 * 50 + 1
    assert "one point for every 50 steps" in found.notes


def test_a_first_step_that_is_logged_too_is_no_gap() -> None:
    judge = CurveJudge(planned_points=81)
    for step, loss in zip([1, *range(10, 810, 10)], decay(81, sigma=0.01), strict=True):
        judge.add(step, loss, lr=1e-3)
    assert judge.finish().notes == ("one point for every 10 steps",)


def test_a_learning_rate_logged_now_and_then_holds_until_the_next() -> None:
    judge = CurveJudge(planned_points=POINTS)
    for step, loss in enumerate(decay()):
        judge.add(step, loss, lr=1e-3 if step % 100 == 0 else None)
    assert judge.finish().data["evidence_steps"] == 1000


def test_gaps_and_steps_that_go_backwards_are_noted() -> None:
    judge = CurveJudge(planned_points=300)
    losses = iter(decay(300, sigma=0.01))
    for step in (*range(100), *range(150, 300), *range(290, 340)):
        judge.add(step, next(losses))
    notes = judge.finish().notes
    assert "1 gap in the steps, the widest from 99 to 150" in notes
    assert "1 step does not increase" in notes


def test_sideways_promotes_with_a_warning_and_holds_back_a_run_from_scratch() -> None:
    draw = random.Random(5)
    losses = [math.log(10) + draw.gauss(0, 0.01) for _ in range(POINTS)]
    found = judge(losses)
    assert (found.verdict, found.reason) == ("promote", "no-progress")
    assert "ln 10" in found.text
    assert "chance among 10 classes" in found.text
    assert (judge(losses, from_scratch=True).verdict) == "inconclusive"
    assert judge(decay(), from_scratch=True).reason == ""


def test_declared_edges_are_no_rise_and_hide_none() -> None:
    """An epoch sawtooth: each epoch starts 0.6 above the end of the last."""
    losses = [
        loss + 0.6 * (1 - (step % 250) / 250) + 0.15 * (step // 250) for step, loss in enumerate(decay(sigma=0.03))
    ]
    assert judge(losses).verdict == "unstable"
    found = judge(losses, edges=(250, 500, 750))
    assert found.verdict == "promote"
    assert "3 declared edges: levels are not compared across them" in found.notes
    found = judge(with_rise(losses, 600, 1.0), edges=(250, 500, 750))
    assert found.verdict == "unstable"
    assert 600 <= found.step < 625
    assert (
        judge(losses[:250] + with_rise(losses[250:499], 238, 1.0) + losses[499:], edges=(250, 499)).verdict
        == "unstable"
    )


def test_double_descent_is_a_rise_and_a_plateau_is_not() -> None:
    plateau = [max(2.0, 4.0 - step / 100) if step < 700 else 2.0 - (step - 700) / 1000 for step in range(POINTS)]
    assert judge(plateau).verdict == "promote"
    double = [
        3 - step / 300 if step < 300 else 2 + 0.4 * math.sin(math.pi * min(1.0, (step - 300) / 300))
        for step in range(1000)
    ]
    assert judge(double).verdict == "unstable"


def test_a_judgement_is_plain_data_and_latched() -> None:
    judge = CurveJudge(planned_points=100)
    judge.add(0, 1.0)
    first = judge.add(1, math.nan)
    assert judge.add(2, 1.0) is first
    assert judge.finish() is first
    assert judge.finish(cut=True) is first
    assert first is not None
    json.dumps(dataclasses.asdict(first), allow_nan=False)
    for found in (judge_of(decay()), judge_of(with_rise([2.0] * POINTS, 500, 1.0)), judge_of([0.0] * 100)):
        json.dumps(dataclasses.asdict(found), allow_nan=False)


def judge_of(losses: list[float]) -> CurveVerdict:
    return judge(losses)


def test_a_window_of_no_points_is_refused_and_no_point_is_too_short() -> None:
    with pytest.raises(ValueError, match="planned_points is 0"):
        CurveJudge(planned_points=0)
    assert CurveJudge(planned_points=100).finish().reason == "too-short"


def test_the_judge_imports_the_standard_library_only() -> None:
    heavy = ("torch", "numpy", "pytest", "yaml", "pydantic")
    module = "pytest_smoke.judge.curve.curve_judge"
    code = f"import sys; import {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_probe_from_before_an_edge_is_no_level_behind_it() -> None:
    """Also where it is the only one: a phase may be shorter than the distance of two probes."""
    judge = CurveJudge(planned_points=400, edges=[5])
    for step in range(400):
        probe = (1.0 if step < 5 else 5.0) if step % 10 == 0 else None
        assert judge.add(step, 3.0 - step / 400 + (step % 7) / 50, probe_loss=probe) is None
    assert judge.finish().verdict == "promote"
