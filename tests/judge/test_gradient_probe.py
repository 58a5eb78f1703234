"""Gradient probes, against figures computed by brute force."""

from __future__ import annotations

from math import inf, isclose, nan
from statistics import median
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import Gradients
from pytest_smoke.judge.gradient_probe import read_probe

NAMES = [f"term{n}" for n in range(8)]


def norms_of(gradients: Any, weights: list[float], step: int = 0) -> Gradients:
    """The probe of gradients [terms, parameters]."""
    raw = numpy.linalg.norm(gradients, axis=1)
    names = NAMES[: len(weights)]
    cosines = {
        f"{names[a]}/{names[b]}": float(gradients[a] @ gradients[b] / (raw[a] * raw[b]))
        for a in range(len(names))
        for b in range(a + 1, len(names))
    }
    weighted = {name: float(norm * abs(w)) for name, norm, w in zip(names, raw, weights, strict=True)}
    return Gradients(step=step, raw=dict(zip(names, map(float, raw), strict=True)), weighted=weighted, cosines=cosines)


@given(
    seed=st.integers(0, 10**6),
    weights=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=8),
    batches=st.integers(1, 6),
)
def test_pairs_and_named_terms_match_brute_force(seed: int, weights: list[float], batches: int) -> None:
    """The pair with the largest ratio, the term with the largest gradient, and the most conflicting pair."""
    random = numpy.random.default_rng(seed)
    vectors = [
        random.normal(size=(len(weights), 16)) * random.lognormal(0, 2, (len(weights), 1)) for _ in range(batches)
    ]
    names = NAMES[: len(weights)]
    reading = read_probe([norms_of(v, weights) for v in vectors], dict(zip(names, weights, strict=True)), {})
    weighted = [numpy.linalg.norm(v, axis=1) * weights for v in vectors]

    def ratio(a: int, b: int) -> float:
        return float(median(p[a] / p[b] for p in weighted))

    largest = max(ratio(a, b) for a in range(len(names)) for b in range(len(names)))
    if batches % 2:  # the median of an even number is a mean of two, and its inverse is not the inverses' median
        assert isclose(reading.pairs[0].weighted.median, largest, rel_tol=1e-9)
        assert reading.within == (largest <= 8)
    dominant = names[int(numpy.argmax([median(p[k] for p in weighted) for k in range(len(names))]))]
    first = reading.sentences[0]
    assert f"{dominant} has the largest gradient" in first or first.startswith(f"{dominant} has the largest weighted")
    cosine = {
        frozenset((a, b)): median(
            float(v[i] @ v[j] / numpy.linalg.norm(v[i]) / numpy.linalg.norm(v[j])) for v in vectors
        )
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if i < j
    }
    least = min(cosine, key=lambda pair: cosine[pair])
    sentence = next(line for line in reading.sentences if "conflict" in line).rpartition("; ")[2]
    assert all(name in sentence for name in least)
    assert ("do not conflict" in sentence or "no two conflict" in sentence) == (cosine[least] > -0.1)
    for pair in reading.pairs:
        assert isclose(pair.cosine.median, cosine[frozenset((pair.stronger, pair.weaker))], abs_tol=1e-9)
        assert pair.weighted.median >= 1 or batches % 2 == 0
        assert pair.weighted.low <= pair.weighted.median <= pair.weighted.high


def two(ratio: float, cosine: float = 0.0) -> Gradients:
    norms = {"ce": 1.0, "crf": ratio}
    return Gradients(step=0, raw=norms, weighted=norms, cosines={"ce/crf": cosine})


@pytest.mark.parametrize(
    ("ratio", "words", "within"),
    [
        (
            20.0,
            [
                "the gradient of crf is 20x that of ce: crf dominates",
                "with a weight of 0.05 instead of 1",
                "train on ce alone",
            ],
            False,
        ),
        (0.005, ["the gradient of crf is 0.005x that of ce: crf has almost no effect on training", "remove it"], False),
        (1.5, ["balanced", "capacity, data, learning rate"], True),
        (5.0, ["crf has the larger influence, but does not dominate (that starts at 8x)"], True),
    ],
)
def test_each_kind_of_ratio_has_its_meaning_and_advice(ratio: float, words: list[str], within: bool) -> None:
    reading = read_probe([two(ratio)], {"ce": 1.0, "crf": 1.0}, {})
    text = "\n".join(reading.sentences)
    assert [word for word in words if word not in text] == []
    assert reading.within is within


def test_declared_bounds_replace_the_default() -> None:
    weights = {"ce": 1.0, "crf": 1.0}
    assert read_probe([two(20.0)], weights, {"crf/ce": [0.01, 30]}).within
    assert not read_probe([two(1.5)], weights, {"crf/ce": [0.01, 1]}).within


def test_a_non_finite_gradient_is_named_and_the_other_batches_are_read() -> None:
    bad = Gradients(step=1, raw={"ce": 1.0, "crf": inf}, weighted={"ce": 1.0, "crf": inf}, cosines={"ce/crf": nan})
    reading = read_probe([two(1.0), bad, two(1.0)], {"ce": 1.0, "crf": 1.0}, {})
    assert reading.sentences[0] == "the gradient of crf is not finite on 1 of 3 batches"
    assert not reading.within
    assert reading.pairs[0].weighted.median == 1.0
    assert not read_probe([bad], {"ce": 1.0, "crf": 1.0}, {}).within


def test_a_negligible_gradient_is_named_with_its_cause() -> None:
    """A weight of 0 is the user's choice and violates no bound."""
    raw = {"a": 1.0, "b": 100.0, "c": 0.0, "d": 1e-4}
    weighted = {**raw, "b": 0.0}
    pairs = {f"{x}/{y}": nan for x, y in ("ab", "ac", "ad", "bc", "bd", "cd")}
    probe = Gradients(step=0, raw=raw, weighted=weighted, cosines=pairs)
    reading = read_probe([probe], {"a": 1.0, "b": 0.0, "c": 1.0, "d": 1.0}, {})
    text = "negligible gradient: b (its weight is 0), c (its gradient is 0) and d (0.0001x the largest)"
    assert text in reading.sentences
    alone = Gradients(step=0, raw={"a": 1.0, "b": 9.0}, weighted={"a": 1.0, "b": 0.0}, cosines={"a/b": 0.0})
    assert read_probe([alone], {"a": 1.0, "b": 0.0}, {}).within


@pytest.mark.parametrize(("bounds", "suggested"), [([0.01, 2], True), ([None, 0.1], False), ([0, 0.1], False)])
def test_equal_norms_are_not_suggested_where_the_recipe_wants_them_unequal(
    bounds: list[float | None], suggested: bool
) -> None:
    probe = norms_of(numpy.array([[20.0, 0.0], [0.0, 1.0]]), [1.0, 1.0])
    reading = read_probe([probe], {"term0": 1.0, "term1": 1.0}, {"term0/term1": bounds})
    assert not reading.within
    assert any(sentence.startswith("suggestion: ") for sentence in reading.sentences) == suggested
