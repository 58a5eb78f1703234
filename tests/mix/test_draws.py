"""Drawn shares: a fair sampler is left alone, an unfair one is named, and whole micro-batches count as one draw."""

from __future__ import annotations

import random
from collections import Counter
from math import erf, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.audit import Draws, Mix, Source, audit_draws
from pytest_smoke.mix.draws import ALPHA, noise

SHARES = {"nad": 0.35, "osm": 0.33, "gn": 0.32}
MIX = Mix(sources=dict.fromkeys(SHARES, Source()))


def drawn(
    weights: dict[str, float], batches: int, size: int, *, seed: int = 0, whole: bool = False, sticky: float = 0.0
) -> Draws:
    """`whole`: a micro-batch is of one source. `sticky`: the chance that a sample is of its predecessor's source."""
    chance = random.Random(seed)
    draws = Draws()
    for _ in range(batches):
        batch = chance.choices(list(weights), list(weights.values()), k=1 if whole else size)
        for at in range(1, len(batch)):
            batch[at] = batch[at - 1] if chance.random() < sticky else batch[at]
        draws.add(Counter(batch * (size if whole else 1)))
    return draws


@pytest.mark.parametrize("how", [{}, {"whole": True}, {"sticky": 0.9}])
def test_a_fair_sampler_is_left_alone(how: dict[str, float]) -> None:
    """In 200 runs of 160 micro-batches of 16, drawn one by one, a source at a time, or in streaks; tolerance 0."""
    strict = Mix(sources=MIX.sources, tolerance=1e-6)
    for seed in range(200):
        found = audit_draws(drawn(SHARES, 160, 16, seed=seed, **how), SHARES, strict)  # type: ignore[arg-type]
        assert found.faults == (), seed


def test_a_naive_bound_would_call_whole_batches_unfair() -> None:
    """The control of the test before: without the design effect one run in two is wrong."""
    wrong = 0
    for seed in range(100):
        draws = drawn(SHARES, 160, 16, seed=seed, whole=True)
        wrong += any(
            abs(draws.counts[name] / draws.samples - share) > noise(share, draws.samples, sources=3)
            for name, share in SHARES.items()
        )
    assert wrong > 10


@pytest.mark.parametrize("whole", [False, True])
def test_the_design_effect_is_that_of_the_sampler(whole: bool) -> None:
    """1 for samples drawn one by one, the size of a micro-batch for micro-batches of one source."""
    effects = [drawn(SHARES, 400, 16, seed=seed, whole=whole).design_effect for seed in range(20)]
    assert sum(effects) / 20 == pytest.approx(16 if whole else 1, rel=0.15)


def test_a_sampler_that_ignores_the_weights_is_found() -> None:
    """The largest difference first, with what was expected, drawn, and due to chance."""
    found = audit_draws(drawn({"nad": 700, "osm": 330, "gn": 320}, 200, 64), SHARES, MIX)
    assert found.faults[0].source == "nad"
    assert {fault.source for fault in found.faults} == set(SHARES)
    assert found.faults[0].reason == "drawn"
    assert "of the 12800 samples drawn, not the expected 35.0 %: more than the tolerance of 2 %" in found.faults[0].text


def test_one_source_after_the_other_is_found_though_each_batch_is_one_draw() -> None:
    """Sixty micro-batches of one source are no chance."""
    draws = Draws()
    for _ in range(60):
        draws.add({"nad": 64})
    found = audit_draws(draws, SHARES, MIX)
    assert [(fault.reason, fault.source) for fault in found.faults] == [
        ("drawn", "nad"),
        ("not-drawn", "osm"),
        ("not-drawn", "gn"),
    ]
    assert found.faults[1].text == "source 'osm' was never drawn in the 3840 samples drawn; expected 33.0 %"


def test_few_micro_batches_prove_nothing() -> None:
    """One that is all of one source may be chance, and it is said what could hide."""
    draws = Draws()
    draws.add({"nad": 64})
    found = audit_draws(draws, SHARES, MIX)
    assert found.faults == ()
    assert [warning.reason for warning in found.warnings] == ["few"]


def test_a_source_that_the_mix_does_not_name_is_named_however_small() -> None:
    """Within the tolerance it is a warning, beyond it a fault; so is one of weight 0."""
    draws = drawn(SHARES, 400, 64)
    draws.add({"wiki": 1, "nad": 40})
    found = audit_draws(draws, SHARES, MIX)
    assert (found.faults, [(w.reason, w.source) for w in found.warnings]) == ((), [("unnamed", "wiki")])
    draws.add({"wiki": 5000})
    found = audit_draws(draws, SHARES, MIX)
    assert "unnamed" in [fault.reason for fault in found.faults]
    off = Mix(sources={**MIX.sources, "off": Source(weight=0)})
    many = drawn({**SHARES, "off": 0.1}, 200, 64)
    assert audit_draws(many, {**SHARES, "off": 0.0}, off).faults[0].source == "off"


def test_without_an_expectation_only_dominance_is_left_and_only_warns() -> None:
    """A task that tells its sources, in a recipe without a mix."""
    even = audit_draws(drawn(SHARES, 200, 64), None, Mix(sources={}))
    assert (even.faults, even.warnings) == ((), ())
    skewed = audit_draws(drawn({"nad": 7, "osm": 2, "gn": 1}, 200, 64), None, Mix(sources={}))
    assert (skewed.faults, [w.reason for w in skewed.warnings]) == ((), ["dominant", "lead"])


@given(st.floats(0.01, 0.99), st.integers(1, 10**6), st.integers(1, 50), st.floats(1, 100))
def test_noise_is_a_normal_quantile_of_the_standard_error(p: float, n: int, k: int, effect: float) -> None:
    """Both tails of it, over all sources, are the chance that is granted."""
    sigmas = noise(p, n, sources=k, design_effect=effect) / sqrt(effect * p * (1 - p) / n)
    assert k * 2 * 0.5 * (1 - erf(sigmas / sqrt(2))) == pytest.approx(ALPHA, rel=1e-4)


@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 50), min_size=1).filter(lambda d: any(d.values())))
)
def test_counts_are_sums(batches: list[dict[str, int]]) -> None:
    """And the design effect is at least 1 and at most the largest micro-batch, give or take few micro-batches."""
    draws = Draws()
    for batch in batches:
        draws.add(batch)
    assert draws.samples == sum(sum(batch.values()) for batch in batches)
    assert all(draws.counts[name] == sum(batch.get(name, 0) for batch in batches) for name in "abcd")
    largest = max((sum(batch.values()) for batch in batches), default=1)
    assert 1 <= draws.design_effect <= 2 * largest + 1e-9


@pytest.mark.parametrize("counts", [{}, {"a": 0}, {"a": -1, "b": 3}])
def test_a_micro_batch_without_samples_is_refused(counts: dict[str, int]) -> None:
    """It would be counted as nothing."""
    with pytest.raises(ValueError, match="is no number of samples by source"):
        Draws().add(counts)
