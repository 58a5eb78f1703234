"""Schedules and the evidence they yield."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.schedules import (
    Schedule,
    constant,
    cosine,
    evidence_steps,
    last_evidence_step,
    long_tail,
    named,
)

NAMES = ["constant", "cosine", "linear"]


@st.composite
def horizons(draw: st.DrawFn) -> tuple[int, int]:
    """Warm-up and horizon, W < T."""
    warmup_steps = draw(st.integers(0, 300))
    return warmup_steps, draw(st.integers(warmup_steps + 1, warmup_steps + 400))


def by_haversine(step: int, warmup_steps: int, max_steps: int) -> float:
    """The cosine tail in another closed form: cos(x / 2) squared."""
    if step < warmup_steps:
        return step / warmup_steps
    return math.cos(math.pi / 2 * min(1.0, (step - warmup_steps) / (max_steps - warmup_steps))) ** 2


def brute_force(schedule: Schedule, run_steps: int, peak_ratio: float) -> list[int]:
    return [step for step in range(run_steps) if schedule(step) * peak_ratio >= 0.8]


class TestFacts:
    def test_the_smoke_that_lied_had_30_9_percent_of_its_peak(self) -> None:
        """Cosine, warm-up 1,000 of 3,000: at step 2,250, where the full run broke, the rate was nearly off."""
        assert cosine(1000, 3000)(2250) == pytest.approx(0.309, abs=5e-4)

    @pytest.mark.parametrize(("warmup_steps", "share"), [(0, 0.794), (300, 0.821), (500, 0.839), (1000, 0.883)])
    def test_long_tail_keeps_its_peak_at_step_3000(self, warmup_steps: int, share: float) -> None:
        """A horizon of 10,000 leaves 79 to 88 % at step 3,000, by its warm-up."""
        assert long_tail(warmup_steps, 10_000)(3000) == pytest.approx(share, abs=5e-4)

    def test_a_constant_smoke_of_2500_steps_has_1700_of_evidence(self) -> None:
        """Warm-up over 1,000 steps reaches 80 % at step 800."""
        assert evidence_steps(constant(1000), 2500) == 1700
        assert last_evidence_step(constant(1000), 2500) == 2499

    def test_a_long_tail_of_10000_steps_buys_2500_of_evidence(self) -> None:
        """What `max_steps >= 10000` promises."""
        assert evidence_steps(long_tail(0, 10_000), 10_000) >= 2500

    def test_the_masked_smoke_lost_its_evidence_long_before_it_ended(self) -> None:
        """Cosine, warm-up 1,000 of 3,000: nothing after step 1,590 counts."""
        assert last_evidence_step(cosine(1000, 3000), 3000) == 1590
        assert evidence_steps(cosine(1000, 3000), 3000) == 791


class TestEdges:
    @pytest.mark.parametrize("name", NAMES)
    def test_warm_up_runs_from_0_at_step_0_to_1_at_its_end(self, name: str) -> None:
        """Ours is the convention of Hugging Face and torchtune."""
        schedule = named(name, 100, 1000)
        assert [schedule(step) for step in (0, 1, 99, 100)] == [0.0, 0.01, 0.99, 1.0]

    @pytest.mark.parametrize("name", NAMES)
    def test_without_warm_up_step_0_is_the_peak(self, name: str) -> None:
        """W = 0 leaves no step at rate 0."""
        assert named(name, 0, 10)(0) == 1.0

    def test_decay_ends_at_the_horizon_and_stays_there(self) -> None:
        """Steps T and after have the final share; T-1 is above it."""
        for schedule in (cosine(10, 100), long_tail(10, 100), named("linear", 10, 100)):
            assert schedule(99) > 0.0
            assert schedule(100) == schedule(101) == schedule(10**9) == 0.0
        assert cosine(10, 100, final=0.1)(99) > 0.1
        assert cosine(10, 100, final=0.1)(100) == 0.1

    def test_long_tail_is_cosine_to_zero(self) -> None:
        """Two names, one formula."""
        assert long_tail(10, 100) == cosine(10, 100)

    def test_a_schedule_crosses_a_process_boundary(self) -> None:
        """Schedules are plain values: pickled, equal, the same function."""
        for schedule in (constant(3), cosine(3, 9, 0.1), named("linear", 3, 9)):
            assert pickle.loads(pickle.dumps(schedule)) == schedule


class TestRefusals:
    @pytest.mark.parametrize(
        ("make", "fragments"),
        [
            (lambda: constant(-1), ["warmup_steps", "-1", "0 or more"]),
            (lambda: constant(True), ["warmup_steps", "True", "whole number"]),
            (lambda: constant(0.1), ["warmup_steps", "0.1", "whole number"]),
            (lambda: cosine(0, 0), ["max_steps", "0", "1 or more"]),
            (lambda: cosine(100, 100), ["warmup_steps", "100", "before max_steps"]),
            (lambda: long_tail(200, 100), ["200", "100", "before max_steps"]),
            (lambda: cosine(0, 10, final=1.5), ["final", "1.5", "from 0 to 1"]),
            (lambda: cosine(0, 10, final=math.nan), ["final", "nan"]),
            (lambda: named("linear", 10, 10), ["before max_steps"]),
            (lambda: named("wsd", 0, 10), ["'wsd'", "constant, cosine, linear"]),
            (lambda: constant(5)(-1), ["step", "-1", "first optimizer step is 0"]),
            (lambda: evidence_steps(constant(5), -1), ["run_steps", "-1"]),
            (lambda: evidence_steps(constant(5), 5, peak_ratio=0.0), ["peak_ratio", "0.0", "above 0"]),
            (lambda: last_evidence_step(constant(5), 5, peak_ratio=math.inf), ["peak_ratio", "inf", "finite"]),
        ],
    )
    def test_the_message_has_the_value_and_the_rule(self, make: object, fragments: list[str]) -> None:
        """Nothing is clipped or guessed."""
        with pytest.raises(ValueError) as refused:  # noqa: PT011 - the fragments are the match
            make()  # type: ignore[operator]
        for fragment in fragments:
            assert fragment in str(refused.value)


class TestProperties:
    @given(horizons(), st.integers(0, 1000), st.floats(0, 1))
    def test_multipliers_lie_between_0_and_1(self, horizon: tuple[int, int], step: int, final: float) -> None:
        """No schedule exceeds its peak."""
        for schedule in (*(named(name, *horizon) for name in NAMES), cosine(*horizon, final)):
            assert 0.0 <= schedule(step) <= 1.0

    @given(horizons(), st.floats(0, 1))
    def test_each_phase_is_monotone(self, horizon: tuple[int, int], final: float) -> None:
        """Up to W it only rises, from W on it only falls."""
        warmup_steps, max_steps = horizon
        for schedule in (*(named(name, *horizon) for name in NAMES), cosine(*horizon, final)):
            values = [schedule(step) for step in range(max_steps + 2)]
            assert values[: warmup_steps + 1] == sorted(values[: warmup_steps + 1])
            assert values[warmup_steps:] == sorted(values[warmup_steps:], reverse=True)

    @given(horizons())
    def test_all_schedules_warm_up_alike(self, horizon: tuple[int, int]) -> None:
        """So a smoke in any mode warms up as the full run does."""
        warmup_steps, _ = horizon
        for step in range(warmup_steps + 1):
            assert len({named(name, *horizon)(step) for name in NAMES}) == 1

    @given(horizons(), st.integers(0, 1000))
    def test_long_tail_is_never_above_constant(self, horizon: tuple[int, int], step: int) -> None:
        """The constant mode is the harder rehearsal at every step."""
        assert long_tail(*horizon)(step) <= constant(horizon[0])(step)

    @given(horizons(), st.integers(0, 1000))
    def test_cosine_agrees_with_the_squared_half_angle(self, horizon: tuple[int, int], step: int) -> None:
        """0.5 (1 + cos x) = cos(x / 2) squared."""
        assert cosine(*horizon)(step) == pytest.approx(by_haversine(step, *horizon), abs=1e-12)

    @given(horizons(), st.integers(0, 1000))
    def test_linear_agrees_with_an_interpolation(self, horizon: tuple[int, int], step: int) -> None:
        """1 - progress, cut at 0."""
        warmup_steps, max_steps = horizon
        tail = max(0.0, 1 - (step - warmup_steps) / (max_steps - warmup_steps))
        expected = step / warmup_steps if step < warmup_steps else tail
        assert named("linear", *horizon)(step) == pytest.approx(expected, abs=1e-12)

    @given(horizons(), st.sampled_from(NAMES), st.integers(0, 900), st.floats(0.1, 3))
    def test_evidence_is_what_counting_finds(
        self, horizon: tuple[int, int], name: str, run_steps: int, ratio: float
    ) -> None:
        """Bisection equals a call per step, for ours and, unbisected, for a schedule from elsewhere."""
        schedule = named(name, *horizon)
        counted = brute_force(schedule, run_steps, ratio)
        for one in (schedule, lambda step: schedule(step)):
            assert evidence_steps(one, run_steps, peak_ratio=ratio) == len(counted)
            assert last_evidence_step(one, run_steps, peak_ratio=ratio) == (counted[-1] if counted else None)

    def test_evidence_of_a_schedule_with_a_gap_counts_only_what_counts(self) -> None:
        """A cyclic schedule: high, low, high."""
        high_low_high = [1.0, 1.0, 0.1, 0.1, 0.9].__getitem__
        assert evidence_steps(high_low_high, 5) == 3
        assert last_evidence_step(high_low_high, 5) == 4

    @given(st.floats(1e-3, 0.79))
    def test_a_smoke_at_a_lower_peak_has_no_evidence(self, ratio: float) -> None:
        """80 % is of the full run's peak, not of the smoke's own."""
        assert evidence_steps(constant(0), 1000, peak_ratio=ratio) == 0
        assert last_evidence_step(constant(0), 1000, peak_ratio=ratio) is None
