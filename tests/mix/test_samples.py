"""Compare sampled shares with expected ones, also for samplers that fill a micro-batch from a single source."""

from __future__ import annotations

import random
from collections import Counter
from math import erf, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.audit import PlainMix, PlainSource, SampleCounter, audit_samples
from pytest_smoke.mix.samples import ALPHA, sampling_error

SHARES = {"nad": 0.35, "osm": 0.33, "gn": 0.32}
MIX = PlainMix(sources=dict.fromkeys(SHARES, PlainSource()))


def sampled(
    weights: dict[str, float], batches: int, size: int, *, seed: int = 0, whole: bool = False, sticky: float = 0.0
) -> SampleCounter:
    """Count samples of a sampler.

    `whole`: each micro-batch has one source. `sticky`: probability that a sample has the source of the one before.
    """
    chance = random.Random(seed)
    counter = SampleCounter()
    for _ in range(batches):
        batch = chance.choices(list(weights), list(weights.values()), k=1 if whole else size)
        for at in range(1, len(batch)):
            batch[at] = batch[at - 1] if chance.random() < sticky else batch[at]
        counter.add(Counter(batch * (size if whole else 1)))
    return counter


@pytest.mark.parametrize("how", [{}, {"whole": True}, {"sticky": 0.9}])
def test_a_correct_sampler_has_no_faults(how: dict[str, float]) -> None:
    """200 runs of 160 micro-batches of 16: independent samples, one source per micro-batch, or streaks."""
    strict = PlainMix(sources=MIX.sources, tolerance=1e-6)
    for seed in range(200):
        found = audit_samples(sampled(SHARES, 160, 16, seed=seed, **how), SHARES, strict)  # type: ignore[arg-type]
        assert found.faults == (), seed


def test_a_bound_without_the_design_effect_would_reject_single_source_batches() -> None:
    """Shows that the test above would fail without the design effect."""
    wrong = 0
    for seed in range(100):
        counter = sampled(SHARES, 160, 16, seed=seed, whole=True)
        wrong += any(
            abs(counter.counts[name] / counter.samples - share) > sampling_error(share, counter.samples, sources=3)
            for name, share in SHARES.items()
        )
    assert wrong > 10


@pytest.mark.parametrize("whole", [False, True])
def test_the_design_effect_is_estimated_for_both_kinds_of_samplers(whole: bool) -> None:
    effects = [sampled(SHARES, 400, 16, seed=seed, whole=whole).design_effect for seed in range(20)]
    assert sum(effects) / 20 == pytest.approx(16 if whole else 1, rel=0.15)


def test_a_sampler_that_ignores_the_weights_is_rejected() -> None:
    found = audit_samples(sampled({"nad": 700, "osm": 330, "gn": 320}, 200, 64), SHARES, MIX)
    assert found.faults[0].source == "nad"
    assert {fault.source for fault in found.faults} == set(SHARES)
    assert found.faults[0].reason == "sampled-share-off"
    assert (
        "of the first 12,800 samples, not the expected 35.0 %: more than the tolerance of 2.0 %" in found.faults[0].text
    )


def test_sixty_batches_of_one_source_are_rejected() -> None:
    counter = SampleCounter()
    for _ in range(60):
        counter.add({"nad": 64})
    found = audit_samples(counter, SHARES, MIX)
    assert [(fault.reason, fault.source) for fault in found.faults] == [
        ("sampled-share-off", "nad"),
        ("source-never-sampled", "osm"),
        ("source-never-sampled", "gn"),
    ]
    assert found.faults[1].text == "source 'osm' is missing from the first 3,840 samples; expected 33.0 %"


def test_a_single_batch_only_warns_that_samples_are_too_few() -> None:
    counter = SampleCounter()
    counter.add({"nad": 64})
    found = audit_samples(counter, SHARES, MIX)
    assert found.faults == ()
    assert [warning.reason for warning in found.warnings] == ["too-few-samples"]


def test_an_unknown_source_is_reported_however_small() -> None:
    counter = sampled(SHARES, 400, 64)
    counter.add({"wiki": 1, "nad": 40})
    found = audit_samples(counter, SHARES, MIX)
    assert (found.faults, [(w.reason, w.source) for w in found.warnings]) == ((), [("unknown-source", "wiki")])
    counter.add({"wiki": 5000})
    found = audit_samples(counter, SHARES, MIX)
    assert "unknown-source" in [fault.reason for fault in found.faults]
    off = PlainMix(sources={**MIX.sources, "off": PlainSource(weight=0)})
    many = sampled({**SHARES, "off": 0.1}, 200, 64)
    assert audit_samples(many, {**SHARES, "off": 0.0}, off).faults[0].source == "off"


def test_without_an_expected_mix_only_dominance_warns() -> None:
    even = audit_samples(sampled(SHARES, 200, 64), None, PlainMix(sources={}))
    assert (even.faults, even.warnings) == ((), ())
    skewed = audit_samples(sampled({"nad": 7, "osm": 2, "gn": 1}, 200, 64), None, PlainMix(sources={}))
    assert (skewed.faults, [w.reason for w in skewed.warnings]) == ((), ["dominant-source", "leading-source"])


@given(st.floats(0.01, 0.99), st.integers(1, 10**6), st.integers(1, 50), st.floats(1, 100))
def test_the_sampling_error_is_a_normal_quantile_of_the_standard_error(p: float, n: int, k: int, effect: float) -> None:
    sigmas = sampling_error(p, n, sources=k, design_effect=effect) / sqrt(effect * p * (1 - p) / n)
    assert k * 2 * 0.5 * (1 - erf(sigmas / sqrt(2))) == pytest.approx(ALPHA, rel=1e-4)


@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 50), min_size=1).filter(lambda d: any(d.values())))
)
def test_counts_are_sums_over_batches(batches: list[dict[str, int]]) -> None:
    counter = SampleCounter()
    for batch in batches:
        counter.add(batch)
    assert counter.samples == sum(sum(batch.values()) for batch in batches)
    assert all(counter.counts[name] == sum(batch.get(name, 0) for batch in batches) for name in "abcd")
    largest = max((sum(batch.values()) for batch in batches), default=1)
    assert 1 <= counter.design_effect <= 2 * largest + 1e-9


@pytest.mark.parametrize("counts", [{}, {"a": 0}, {"a": -1, "b": 3}])
def test_a_micro_batch_without_samples_is_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="does not give a number of samples for each source"):
        SampleCounter().add(counts)
