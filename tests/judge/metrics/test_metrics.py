"""What the readings say of real stories, and what they must never say."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_smoke.judge.metrics import readings
from pytest_smoke.judge.metrics.direction import lower_is_better
from pytest_smoke.judge.metrics.history import History
from pytest_smoke.judge.metrics.missing_metrics import unrecorded
from pytest_smoke.judge.metrics.peak_regression import OUTLIERS_FROM, peaked
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.metric import Metric

FULL_STEPS = 2000
VALUES = st.floats(-100, 100)


def read(
    values: Sequence[float], spec: Metric | None = None, *, every: int = 10, name: str = "f1"
) -> dict[str, Finding]:
    points = [(every * (at + 1), value) for at, value in enumerate(values)]
    found = readings({name: points}, {name: spec} if spec else {}, full_steps=FULL_STEPS)
    return {finding.id.partition("[")[0]: finding for finding in found}


def noisy(shape: Callable[[int], float], count: int, deviation: float, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [shape(at) + draw.gauss(0, deviation) for at in range(count)]


FIRST_ACC = [0.0] * 16
FIRST_ACC[3], FIRST_ACC[10], FIRST_ACC[15] = 1 / 24, 2 / 24, 1 / 24
"""Two of 24 first tokens at step 110, one at the end: the story that these readings come from."""


def test_two_hits_of_24_against_one_are_no_regression() -> None:
    """A person saw a peak of 8.33 % and a fall to 4.17 % there; it is one item."""
    found = read(FIRST_ACC, Metric(items=24))["peaked"]
    assert found.status == "pass"
    assert found.text.startswith("f1 8.33 % at step 110, 4.17 % at the end (step 160): within the noise of 24 items")


def test_the_same_fall_of_a_thousand_times_the_items_is_one() -> None:
    """The numbers are the same, the noise is not."""
    found = read(FIRST_ACC[:1] * 7 + [0.02, 0.05, 0.08, 1 / 12, 0.08, 0.07, 0.06, 0.05, 1 / 24], Metric(items=24_000))
    assert (found["peaked"].status, found["peaked"].reason) == ("warn", "regressed")
    assert "a smoke is not the layer that decides this" in found["peaked"].hint
    assert found["peaked"].data["peak_step"] == 110


def test_chance_left_for_one_evaluation_at_a_time_is_not_left_for_good() -> None:
    """Three evaluations lie above it, each alone; one more beside the last would do."""
    spec = Metric(items=24, chance=1 / 32_000)
    alone = read(FIRST_ACC, spec)["began"]
    assert (alone.status, alone.reason) == ("warn", "at-chance")
    assert "3 of 16 evaluations lie above it, never 2 in a row" in alone.text
    assert alone.data["above"] == [40, 110, 160]
    kept = read([*FIRST_ACC, 1 / 24], spec)["began"]
    assert (kept.status, kept.step) == ("pass", 160)
    assert kept.text == "f1 left chance (0.0031 %) at step 160 (4.17 %) and stayed for all 2 evaluations since"


def test_learning_that_is_lost_again_is_said_to_be() -> None:
    """It began all the same."""
    found = read([0.0, 0.5, 0.6, 0.5, 0.0, 0.0], Metric(items=100, chance=0.0))["began"]
    assert found.status == "pass"
    assert found.text == (
        "f1 left chance (0.00 %) at step 20 (50.00 %) and stayed for 3 evaluations, "
        "but is back at it by the end (0.00 % at step 60)"
    )


def test_an_error_rate_leaves_its_chance_downwards() -> None:
    """With items and without."""
    rates = [0.75, 0.76, 0.74, 0.5, 0.4, 0.3]
    for spec in (Metric(items=400, chance=0.75), Metric(chance=0.75)):
        found = read(rates, spec, name="error_rate")["began"]
        assert found.status == "pass" or spec.items is None, found.text
    assert read(rates, Metric(items=400, chance=0.75), name="error_rate")["began"].step == 40
    assert (
        read(rates, Metric(items=400, chance=0.75, better="higher"), name="error_rate")["began"].reason == "at-chance"
    )


@pytest.mark.parametrize("count", [1, 2, 4])
def test_too_few_evaluations_are_said_to_be(count: int) -> None:
    """Nothing is guessed from them, and nothing is withheld: none of it is `not-checked`."""
    found = read([0.5, 0.1, 0.2, 0.1][:count], Metric(chance=0.0, target=0.9, kind="free-running"))
    assert {finding.status for finding in found.values()} == {"pass"}
    assert all(finding.reason == "too-few" for finding in found.values())
    assert all("too few" in finding.text for finding in found.values())
    assert ("peaked" in found) == (count > 1)


def exposed(
    nll: Sequence[float], em: Sequence[float], *, text_nll: float | None = None, items: int | None = 200
) -> Finding:
    metrics = {"latent_nll": list(enumerate(nll, 1)), "latent_em": list(enumerate(em, 1))}
    if text_nll is not None:
        metrics["text_nll"] = [(len(nll), text_nll)]
    declared = {
        "latent_nll": Metric(kind="teacher-forced", condition="latent", against="text_nll" if text_nll else None),
        "latent_em": Metric(kind="free-running", condition="latent", items=items),
    }
    found = readings(metrics, declared, full_steps=FULL_STEPS)
    return next(finding for finding in found if finding.id == "exposure[latent_em]")


def test_it_scores_better_than_the_text_and_generates_nothing() -> None:
    """The story's numbers: 10.40 against 13.68, and no exact match of 200, in one evaluation."""
    found = exposed([10.40], [0.0], text_nll=13.68)
    assert (found.status, found.reason) == ("warn", "exposure")
    assert found.text == (
        "latent_nll is 10.4 at step 1, better than text_nll 13.68 (-24 %); latent_em is 0.00 % at step 1, never above "
        "its floor (0.00 %), of 200 items (so at most 1.49 %, with 95 % confidence): "
        "it scores gold answers and does not generate them, as under exposure bias"
    )
    assert "scheduled sampling" in found.hint


def test_improvement_alone_is_enough_and_none_is_not() -> None:
    """A teacher-forced loss that only jitters says nothing about exposure."""
    falling = noisy(lambda at: 13 - 0.5 * at, 8, 0.05)
    assert exposed(falling, [0.0] * 8).reason == "exposure"
    assert exposed(falling, [0.0] * 8, items=None).reason == "exposure"
    assert exposed(noisy(lambda at: 13.0, 8, 0.05), [0.0] * 8).reason == "nothing-learnt"
    assert exposed(noisy(lambda at: 13 + 0.5 * at, 8, 0.05), [0.0] * 8).reason == "nothing-learnt"


def test_one_item_that_is_generated_is_generation() -> None:
    """Where chance is nothing; where chance is a tenth, one of 200 is none."""
    assert exposed([13, 10], [0.0, 0.005]).status == "pass"
    assert "the model generates" in exposed([13, 10], [0.0, 0.005]).text


def test_conditions_are_not_mixed() -> None:
    """The text's loss says nothing about the latent's generation."""
    declared = {
        "text_nll": Metric(kind="teacher-forced", condition="text"),
        "latent_em": Metric(kind="free-running", condition="latent", items=200),
    }
    metrics = {"text_nll": [(1, 9.0), (2, 3.0)], "latent_em": [(1, 0.0), (2, 0.0)]}
    assert not [f for f in readings(metrics, declared, full_steps=9) if f.id.startswith("exposure")]


@pytest.mark.parametrize(
    ("values", "target", "reason", "status", "fragment"),
    [
        (noisy(lambda at: 0.1 + 0.02 * at, 16, 0.003), 0.9, "too-short", "pass", "still improving"),
        (noisy(lambda at: 0.1 + 0.0002 * at, 16, 0.0001), 0.9, "too-slow", "warn", "the full run has 2000"),
        (noisy(lambda at: 0.3, 16, 0.002), 0.9, "too-hard", "warn", "flat below its target"),
        (noisy(lambda at: 0.3, 16, 0.3), 0.9, "unclear", "pass", "too noisy"),
        ([0.0] * 16, 0.9, "unclear", "pass", "has not moved at all"),
        (noisy(lambda at: 0.8 - 0.02 * at, 16, 0.003), 0.9, "worsening", "warn", "moves away"),
        (noisy(lambda at: 0.1 + 0.06 * at, 16, 0.001), 0.9, "", "pass", "is reached already"),
    ],
)
def test_the_pace_to_a_target(values: list[float], target: float, reason: str, status: str, fragment: str) -> None:
    """Too short, too hard, or not to be told: upwards, and mirrored downwards."""
    for sign, better in ((1, "higher"), (-1, "lower")):
        spec = Metric(better=better, target=sign * target)  # type: ignore[arg-type]  # both are literals of Metric
        found = read([sign * value for value in values], spec)["pace"]
        assert (found.reason, found.status) == (reason, status), found.text
        assert fragment in found.text


@pytest.mark.parametrize(
    ("shape", "deviation"),
    [(lambda s: 0.1 + 0.0003 * s, 0.004), (lambda s: 0.9 - 8 / s, 0.001), (lambda s: 0.1 * math.log(s), 0.004)],
)
def test_the_interval_covers_the_step_at_which_the_target_is_met(
    shape: Callable[[float], float], deviation: float
) -> None:
    """For trends that are among the shapes, straight and saturating, in 90 % of noisy runs and more."""
    truth = 1600.0
    inside = 0
    for seed in range(60):
        values = noisy(lambda at: shape(50.0 * (at + 1)), 16, deviation, seed)
        data = read(values, Metric(target=shape(truth)), every=50)["pace"].data
        inside += data["earliest_step"] <= truth <= (data["latest_step"] or math.inf)
    assert inside >= 54


def test_a_declared_name_that_nothing_returns_is_said() -> None:
    """A misspelling would silence its readings; so would one of `against`."""
    found = readings({"val_f1": [(1, 0.5)]}, {"val_f": Metric(chance=0.0, against="tset_f1")}, full_steps=9)
    assert [(f.id, f.status, f.reason) for f in found] == [("metrics", "warn", "unknown-metric")]
    assert "names val_f, tset_f1, which evaluate never returned; it returned val_f1" in found[0].text
    assert found[0].hint.startswith("did you mean val_f1")


def test_values_that_are_no_numbers_or_no_shares_are_left_out_and_said() -> None:
    """A percentage is no share of items: the scatter is used instead."""
    found = read([1.0, math.nan, 2.0, 3.0, math.inf, 4.0, 3.5], Metric(items=50))["peaked"]
    assert "2 values not finite or over 1e+50, left out" in found.text
    assert "items: 50 unused" in found.text


def test_a_metric_that_never_moved_has_no_peak() -> None:
    """A frozen model's score, or one that stays at 0."""
    moved = {"f1": [(10, 0.1), (20, 0.2)], "text_f1": [(10, 0.4), (20, 0.4)], "em": [(10, 0.0), (20, 0.0)]}
    assert [finding.id for finding in readings(moved, {}, full_steps=100)] == ["peaked[f1]"]


def test_no_metric_has_no_reading() -> None:
    """Nor has one that was evaluated once and that nothing is declared of."""
    assert readings({}, {}, full_steps=9) == []
    assert readings({"f1": [(100, 0.5)]}, {}, full_steps=9) == []


@pytest.mark.parametrize(
    ("names", "lower"),
    [
        (("val_loss", "latentNLL", "errorRate", "wer", "ce", "token.perplexity"), True),
        (("val_f1", "first_acc", "accuracy", "bleu", "steer"), False),
    ],
)
def test_which_way_is_better_is_guessed_by_whole_words(names: Sequence[str], lower: bool) -> None:
    """`steer` has no word error rate in it."""
    assert [lower_is_better(name) for name in names] == [lower] * len(names)


RISING = st.lists(VALUES, min_size=2, max_size=30).map(sorted).filter(lambda values: values[0] < values[-1])


@given(RISING, st.booleans(), st.sampled_from([None, 30]))
def test_what_never_falls_never_peaked(values: list[float], lower: bool, items: int | None) -> None:
    """Whatever its noise."""
    sign = -1 if lower else 1
    spec = Metric(better="lower" if lower else "higher", items=items)
    assert read([sign * value for value in values], spec)["peaked"].status == "pass"


@given(st.lists(VALUES, min_size=2, max_size=20), st.floats(0.01, 100), st.floats(-1000, 1000), st.booleans())
def test_neither_unit_nor_origin_nor_direction_changes_the_reading(
    values: list[float], scale: float, shift: float, mirrored: bool
) -> None:
    """A loss in bits peaked where one in nats did."""
    plain = peaked(History.of("m", list(enumerate(values)), Metric(better="higher")))
    factor = -scale if mirrored else scale
    moved = [factor * value + shift for value in values]
    assume(len(set(moved)) == len(set(values)))
    other = peaked(History.of("m", list(enumerate(moved)), Metric(better="lower" if mirrored else "higher")))
    luck = plain.data.get("luck")
    if luck is not None and abs(luck - 0.01) > 1e-6 and plain.data["noise"] > 1e-9:
        assert other.status == plain.status
        assert other.data["luck"] == pytest.approx(luck, abs=1e-4)


@given(
    st.lists(VALUES, min_size=1, max_size=25),
    st.builds(
        Metric,
        better=st.sampled_from([None, "higher", "lower"]),
        kind=st.sampled_from([None, "teacher-forced", "free-running"]),
        chance=st.none() | VALUES,
        target=st.none() | VALUES,
    ),
)
def test_no_reading_ever_decides(values: list[float], spec: Metric) -> None:
    """`fail` would hold a smoke back and `not-checked` make it inconclusive."""
    for finding in read(values, spec).values():
        assert finding.status in ("pass", "warn")
        assert finding.text


@given(
    st.dictionaries(st.integers(0, 10**12), st.floats(), min_size=1, max_size=12),
    st.builds(Metric, chance=st.just(0.0), target=st.floats(-1e50, 1e50), kind=st.just("free-running")),
)
def test_no_value_and_no_step_breaks_a_reading(points: dict[int, float], spec: Metric) -> None:
    """Perplexities overflow, steps lie far apart or side by side: the outcome of a smoke must not hang on that."""
    forced = Metric(kind="teacher-forced")
    series = list(points.items())
    for finding in readings({"m": series, "nll": series}, {"m": spec, "nll": forced}, full_steps=10**12):
        assert finding.status in ("pass", "warn")
        assert "nan" not in finding.text


def test_a_slope_is_given_in_steps() -> None:
    """0.02 in 10 steps are 2 in 1000, upwards and downwards."""
    found = read([0.1 + 0.02 * at for at in range(16)], Metric(target=0.9))["pace"]
    assert found.data["slope_per_step"] == pytest.approx(0.002)
    assert "it moves by +2 per 1000 steps" in found.text
    assert "At this pace between step 410 and 410 " in found.text
    down = read([0.5 - 0.02 * at for at in range(16)], Metric(target=0.0, better="lower"))["pace"]
    assert "it moves by -2 per 1000 steps" in down.text


RUNS = 150


@pytest.mark.parametrize("count", [5, OUTLIERS_FROM - 1, 24])
@pytest.mark.parametrize("noise", ["gaussian", "lognormal", "heavy"])
def test_a_flat_noisy_metric_rarely_peaked(count: int, noise: str) -> None:
    """At most 1 % is claimed for gaussian noise, 2 % for others: 4 of 150 are that or fewer in 80 % of such tests."""
    draw = random.Random(count)
    one = {
        "gaussian": lambda: draw.gauss(0, 1),
        "lognormal": lambda: draw.lognormvariate(0, 1),
        "heavy": lambda: draw.gauss(0, 1) / math.sqrt(draw.gammavariate(1.5, 1 / 1.5)),
    }[noise]
    warned = sum(read([one() for _ in range(count)])["peaked"].status == "warn" for _ in range(RUNS))
    assert warned <= 4


def test_a_fall_of_ten_deviations_is_seen() -> None:
    """The control of the test above: in 9 of 10 runs of 20 evaluations."""

    def shape(at: int) -> float:
        return 3.0 * min(at, 10) - max(0, at - 10) * 10 / 9

    warned = sum(read(noisy(shape, 20, 1.0, seed))["peaked"].status == "warn" for seed in range(50))
    assert warned >= 40


def test_a_peak_and_a_pace_are_those_of_the_last_stage() -> None:
    """Stage B asks more by design: it falls at its start, and rises again; its full run has 900 steps."""
    points = [(80 * k, 0.5 + 0.04 * k) for k in range(1, 11)] + [(800 + 80 * k, 0.3 + 0.01 * k) for k in range(1, 6)]
    declared = {"f1": Metric(items=10_000, target=0.9, chance=0.1)}
    found = {one.id: one for one in readings({"f1": points}, declared, full_steps=900, stage="B", first_step=801)}
    assert found["peaked[f1]"].status == "pass"
    pace = found["pace[f1]"]
    assert pace.reason == "too-slow"
    assert pace.text.startswith("stage B, its steps counted from 0: f1 is 35.00 % at step 399, target 90.00 %")
    assert "the full run has 900" in pace.text
    whole = {one.id: one for one in readings({"f1": points}, declared, full_steps=20_900)}
    assert whole["pace[f1]"].reason == "worsening"


def test_a_full_run_asked_for_what_nothing_records_is_said() -> None:
    """The smoke never judges it, so nobody else would notice."""
    assert unrecorded(["f1 > 0.5", "max(loss) < 3"], ["loss", "f1"]) == []
    (found,) = unrecorded(["goal: val_ac > 0.9"], ["loss", "val_acc"])
    assert (found.id, found.status, found.hint) == ("full-accept", "warn", "did you mean val_acc?")
    assert "checks.full_accept names val_ac, which this smoke never recorded; it has loss, val_acc" in found.text
