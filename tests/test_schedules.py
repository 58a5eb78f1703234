"""Learning-rate schedules and their evidence."""

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
    """Draw a warm-up and a horizon, W < T."""
    warmup_steps = draw(st.integers(0, 300))
    return warmup_steps, draw(st.integers(warmup_steps + 1, warmup_steps + 400))


def by_haversine(step: int, warmup_steps: int, max_steps: int) -> float:
    """Compute the cosine with another formula: cos(x / 2) squared."""
    if step < warmup_steps:
        return step / warmup_steps
    return math.cos(math.pi / 2 * min(1.0, (step - warmup_steps) / (max_steps - warmup_steps))) ** 2


def brute_force(schedule: Schedule, run_steps: int, peak_ratio: float) -> list[int]:
    return [step for step in range(run_steps) if schedule(step) * peak_ratio >= 0.8]


class TestFacts:
    def test_a_cosine_of_3000_steps_is_at_30_9_percent_of_its_peak_at_step_2250(self) -> None:
        """Warm-up 1,000: at this step the full run diverged, while the smoke run's learning rate had decayed."""
        assert cosine(1000, 3000)(2250) == pytest.approx(0.309, abs=5e-4)

    @pytest.mark.parametrize(("warmup_steps", "share"), [(0, 0.794), (300, 0.821), (500, 0.839), (1000, 0.883)])
    def test_a_long_tail_of_10000_steps_is_at_79_to_88_percent_of_its_peak_at_step_3000(
        self, warmup_steps: int, share: float
    ) -> None:
        assert long_tail(warmup_steps, 10_000)(3000) == pytest.approx(share, abs=5e-4)

    def test_a_constant_run_of_2500_steps_has_1700_steps_of_evidence(self) -> None:
        """A warm-up of 1,000 steps reaches 80 % at step 800."""
        assert evidence_steps(constant(1000), 2500) == 1700
        assert last_evidence_step(constant(1000), 2500) == 2499

    def test_a_long_tail_of_10000_steps_has_2500_steps_of_evidence(self) -> None:
        assert evidence_steps(long_tail(0, 10_000), 10_000) >= 2500

    def test_a_cosine_of_3000_steps_has_no_evidence_after_step_1590(self) -> None:
        assert last_evidence_step(cosine(1000, 3000), 3000) == 1590
        assert evidence_steps(cosine(1000, 3000), 3000) == 791


class TestEdges:
    @pytest.mark.parametrize("name", NAMES)
    def test_warm_up_runs_from_0_at_step_0_to_1_at_its_end(self, name: str) -> None:
        """The convention of Hugging Face and torchtune."""
        schedule = named(name, 100, 1000)
        assert [schedule(step) for step in (0, 1, 99, 100)] == [0.0, 0.01, 0.99, 1.0]

    @pytest.mark.parametrize("name", NAMES)
    def test_without_warm_up_step_0_is_the_peak(self, name: str) -> None:
        assert named(name, 0, 10)(0) == 1.0

    def test_decay_ends_at_the_horizon_and_the_rate_stays_there(self) -> None:
        for schedule in (cosine(10, 100), long_tail(10, 100), named("linear", 10, 100)):
            assert schedule(99) > 0.0
            assert schedule(100) == schedule(101) == schedule(10**9) == 0.0
        assert cosine(10, 100, final=0.1)(99) > 0.1
        assert cosine(10, 100, final=0.1)(100) == 0.1

    def test_long_tail_is_cosine_to_zero(self) -> None:
        assert long_tail(10, 100) == cosine(10, 100)

    def test_a_schedule_can_be_pickled_and_compared(self) -> None:
        for schedule in (constant(3), cosine(3, 9, 0.1), named("linear", 3, 9)):
            assert pickle.loads(pickle.dumps(schedule)) == schedule


class TestErrors:
    @pytest.mark.parametrize(
        ("make", "fragments"),
        [
            (lambda: constant(-1), ["warmup_steps", "-1", "0 or more"]),
            (lambda: constant(True), ["warmup_steps", "True", "whole number"]),
            (lambda: constant(0.1), ["warmup_steps", "0.1", "whole number"]),
            (lambda: cosine(0, 0), ["max_steps", "0", "1 or more"]),
            (lambda: cosine(100, 100), ["warmup_steps", "100", "before max_steps"]),
            (lambda: long_tail(200, 100), ["200", "100", "before max_steps"]),
            (lambda: cosine(0, 10, final=1.5), ["final", "1.5", "between 0 and 1"]),
            (lambda: cosine(0, 10, final=math.nan), ["final", "nan"]),
            (lambda: named("linear", 10, 10), ["before max_steps"]),
            (lambda: named("wsd", 0, 10), ["'wsd'", "constant, cosine, linear"]),
            (lambda: constant(5)(-1), ["step", "-1", "first optimizer step is 0"]),
            (lambda: evidence_steps(constant(5), -1), ["run_steps", "-1"]),
            (lambda: evidence_steps(constant(5), 5, peak_ratio=0.0), ["peak_ratio", "0.0", "above 0"]),
            (lambda: last_evidence_step(constant(5), 5, peak_ratio=math.inf), ["peak_ratio", "inf", "finite"]),
        ],
    )
    def test_the_message_has_the_value_and_what_is_allowed(self, make: object, fragments: list[str]) -> None:
        with pytest.raises(ValueError) as error:  # noqa: PT011 - the fragments are the match
            make()  # type: ignore[operator]
        for fragment in fragments:
            assert fragment in str(error.value)


class TestProperties:
    @given(horizons(), st.integers(0, 1000), st.floats(0, 1))
    def test_multipliers_are_between_0_and_1(self, horizon: tuple[int, int], step: int, final: float) -> None:
        for schedule in (*(named(name, *horizon) for name in NAMES), cosine(*horizon, final)):
            assert 0.0 <= schedule(step) <= 1.0

    @given(horizons(), st.floats(0, 1))
    def test_a_schedule_only_rises_up_to_w_and_only_falls_after_it(
        self, horizon: tuple[int, int], final: float
    ) -> None:
        warmup_steps, max_steps = horizon
        for schedule in (*(named(name, *horizon) for name in NAMES), cosine(*horizon, final)):
            values = [schedule(step) for step in range(max_steps + 2)]
            assert values[: warmup_steps + 1] == sorted(values[: warmup_steps + 1])
            assert values[warmup_steps:] == sorted(values[warmup_steps:], reverse=True)

    @given(horizons())
    def test_all_schedules_have_the_same_warm_up(self, horizon: tuple[int, int]) -> None:
        """A smoke run in any mode warms up as the full run does."""
        warmup_steps, _ = horizon
        for step in range(warmup_steps + 1):
            assert len({named(name, *horizon)(step) for name in NAMES}) == 1

    @given(horizons(), st.integers(0, 1000))
    def test_long_tail_is_never_above_constant(self, horizon: tuple[int, int], step: int) -> None:
        """Constant mode has the higher learning rate at every step."""
        assert long_tail(*horizon)(step) <= constant(horizon[0])(step)

    @given(horizons(), st.integers(0, 1000))
    def test_cosine_equals_the_squared_cosine_of_half_the_angle(self, horizon: tuple[int, int], step: int) -> None:
        assert cosine(*horizon)(step) == pytest.approx(by_haversine(step, *horizon), abs=1e-12)

    @given(horizons(), st.integers(0, 1000))
    def test_linear_equals_an_interpolation(self, horizon: tuple[int, int], step: int) -> None:
        warmup_steps, max_steps = horizon
        tail = max(0.0, 1 - (step - warmup_steps) / (max_steps - warmup_steps))
        expected = step / warmup_steps if step < warmup_steps else tail
        assert named("linear", *horizon)(step) == pytest.approx(expected, abs=1e-12)

    @given(horizons(), st.sampled_from(NAMES), st.integers(0, 900), st.floats(0.1, 3))
    def test_evidence_equals_counting_step_by_step(
        self, horizon: tuple[int, int], name: str, run_steps: int, ratio: float
    ) -> None:
        """With binary search for the schedules of the package, and without it for any other function."""
        schedule = named(name, *horizon)
        counted = brute_force(schedule, run_steps, ratio)
        for one in (schedule, lambda step: schedule(step)):
            assert evidence_steps(one, run_steps, peak_ratio=ratio) == len(counted)
            assert last_evidence_step(one, run_steps, peak_ratio=ratio) == (counted[-1] if counted else None)

    def test_evidence_of_a_cyclic_schedule_leaves_out_its_low_part(self) -> None:
        high_low_high = [1.0, 1.0, 0.1, 0.1, 0.9].__getitem__
        assert evidence_steps(high_low_high, 5) == 3
        assert last_evidence_step(high_low_high, 5) == 4

    @given(st.floats(1e-3, 0.79))
    def test_a_run_with_a_peak_below_80_percent_has_no_evidence(self, ratio: float) -> None:
        """The share is relative to the full run's peak, not to its own."""
        assert evidence_steps(constant(0), 1000, peak_ratio=ratio) == 0
        assert last_evidence_step(constant(0), 1000, peak_ratio=ratio) is None
