"""A probe's reading against figures that are worked out another way."""

from __future__ import annotations

from math import inf, isclose, nan
from statistics import median
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.checks.grad_ratio import TermNorms
from pytest_smoke.judge.gradient_probe import read_probe

NAMES = [f"term{n}" for n in range(8)]


def norms_of(gradients: Any, weights: list[float], step: int = 0) -> TermNorms:
    """From real vectors [terms, parameters]."""
    raw = numpy.linalg.norm(gradients, axis=1)
    names = NAMES[: len(weights)]
    cosines = {
        f"{names[a]}/{names[b]}": float(gradients[a] @ gradients[b] / (raw[a] * raw[b]))
        for a in range(len(names))
        for b in range(a + 1, len(names))
    }
    weighted = {name: float(norm * abs(w)) for name, norm, w in zip(names, raw, weights, strict=True)}
    return TermNorms(step=step, raw=dict(zip(names, map(float, raw), strict=True)), weighted=weighted, cosines=cosines)


@given(
    seed=st.integers(0, 10**6),
    weights=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=8),
    batches=st.integers(1, 6),
)
def test_pairs_and_names_are_those_of_the_vectors(seed: int, weights: list[float], batches: int) -> None:
    """The widest pair, the loudest term and the most opposed pair, found by brute force."""
    random = numpy.random.default_rng(seed)
    vectors = [
        random.normal(size=(len(weights), 16)) * random.lognormal(0, 2, (len(weights), 1)) for _ in range(batches)
    ]
    names = NAMES[: len(weights)]
    found = read_probe([norms_of(v, weights) for v in vectors], dict(zip(names, weights, strict=True)), {})
    pulled = [numpy.linalg.norm(v, axis=1) * weights for v in vectors]

    def ratio(a: int, b: int) -> float:
        return float(median(p[a] / p[b] for p in pulled))

    widest = max(ratio(a, b) for a in range(len(names)) for b in range(len(names)))
    if batches % 2:  # of an even number of ratios the median is no ratio, and its inverse is not that of the inverses
        assert isclose(found.pairs[0].weighted.median, widest, rel_tol=1e-9)
        assert found.within == (widest <= 8)
    loudest = names[int(numpy.argmax([median(p[k] for p in pulled) for k in range(len(names))]))]
    assert f"{loudest} pulls hardest" in found.sentences[0] or found.sentences[0].startswith(f"loudest: {loudest}, ")
    cosine = {
        frozenset((a, b)): median(
            float(v[i] @ v[j] / numpy.linalg.norm(v[i]) / numpy.linalg.norm(v[j])) for v in vectors
        )
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if i < j
    }
    least = min(cosine, key=lambda pair: cosine[pair])
    said = next(line for line in found.sentences if "opposed" in line).rpartition("; ")[2]
    assert all(name in said for name in least)
    assert ("are not opposed" in said or "no two are opposed" in said) == (cosine[least] > -0.1)
    for pair in found.pairs:
        assert isclose(pair.cosine.median, cosine[frozenset((pair.stronger, pair.weaker))], abs_tol=1e-9)
        assert pair.weighted.median >= 1 or batches % 2 == 0
        assert pair.weighted.low <= pair.weighted.median <= pair.weighted.high


def two(ratio: float, cosine: float = 0.0) -> TermNorms:
    norms = {"ce": 1.0, "crf": ratio}
    return TermNorms(step=0, raw=norms, weighted=norms, cosines={"ce/crf": cosine})


@pytest.mark.parametrize(
    ("ratio", "words", "within"),
    [
        (20.0, ["crf dominates: its gradient is 20x that of ce", "at weight 0.05 (now 1)", "train on ce alone"], False),
        (0.005, ["crf has collapsed: its gradient is 0.005x that of ce", "separate optimizers"], False),
        (1.5, ["balanced", "capacity, data, LR schedule"], True),
        (5.0, ["neither balanced (0.5 to 2) nor dominated (over 8)"], True),
    ],
)
def test_a_ratio_is_read_in_words_with_its_repair(ratio: float, words: list[str], within: bool) -> None:
    """The four readings."""
    found = read_probe([two(ratio)], {"ce": 1.0, "crf": 1.0}, {})
    text = "\n".join(found.sentences)
    assert [word for word in words if word not in text] == []
    assert found.within is within


def test_declared_bounds_decide_over_the_default() -> None:
    """They are on raw norms, either way."""
    weights = {"ce": 1.0, "crf": 1.0}
    assert read_probe([two(20.0)], weights, {"crf/ce": [0.01, 30]}).within
    assert not read_probe([two(1.5)], weights, {"crf/ce": [0.01, 1]}).within


def test_a_gradient_that_is_not_finite_is_named_with_its_share_of_the_batches() -> None:
    """And the rest is read all the same."""
    bad = TermNorms(step=1, raw={"ce": 1.0, "crf": inf}, weighted={"ce": 1.0, "crf": inf}, cosines={"ce/crf": nan})
    found = read_probe([two(1.0), bad, two(1.0)], {"ce": 1.0, "crf": 1.0}, {})
    assert found.sentences[0] == "the gradient of crf is not finite on 1 of 3 batches"
    assert not found.within
    assert found.pairs[0].weighted.median == 1.0
    assert not read_probe([bad], {"ce": 1.0, "crf": 1.0}, {}).within


def test_what_does_not_pull_is_called_silent_with_why() -> None:
    """A weight of 0 is a choice and breaks no bound; no gradient at all is named."""
    raw = {"a": 1.0, "b": 100.0, "c": 0.0, "d": 1e-4}
    weighted = {**raw, "b": 0.0}
    pairs = {f"{x}/{y}": nan for x, y in ("ab", "ac", "ad", "bc", "bd", "cd")}
    probe = TermNorms(step=0, raw=raw, weighted=weighted, cosines=pairs)
    found = read_probe([probe], {"a": 1.0, "b": 0.0, "c": 1.0, "d": 1.0}, {})
    assert "silent: b (its weight is 0), c (no gradient at all), d (0.0001x the loudest)" in found.sentences
    alone = TermNorms(step=0, raw={"a": 1.0, "b": 9.0}, weighted={"a": 1.0, "b": 0.0}, cosines={"a/b": 0.0})
    assert read_probe([alone], {"a": 1.0, "b": 0.0}, {}).within
