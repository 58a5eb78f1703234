"""Tail probabilities against published tables and independent sums."""

from __future__ import annotations

import math
import random
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.metrics.distributions import (
    best_of_survival,
    binomial_survival,
    hits_of,
    normal_survival,
    t_quantile,
    t_survival,
)


@given(st.floats(-8, 8))
def test_normal_survival_matches_the_standard_library(z: float) -> None:
    assert normal_survival(z) == pytest.approx(1 - NormalDist().cdf(z), abs=1e-12)


@pytest.mark.parametrize(
    ("tail", "freedom", "quantile"),
    [(0.05, 1, 6.314), (0.05, 3, 2.353), (0.025, 10, 2.228), (0.01, 30, 2.457), (0.05, math.inf, 1.645)],
)
def test_students_t_matches_published_tables(tail: float, freedom: float, quantile: float) -> None:
    assert t_quantile(tail, freedom) == pytest.approx(quantile, abs=1e-3)
    assert t_survival(quantile, freedom) == pytest.approx(tail, rel=2e-3)


@pytest.mark.parametrize(("others", "freedom", "critical"), [(1, 10, 1.81), (3, 10, 2.34), (9, math.inf, 2.42)])
def test_best_of_survival_matches_dunnetts_table(others: int, freedom: float, critical: float) -> None:
    """One-sided 5 % points of table 1a, which divides by the deviation of a difference, sqrt(2)."""
    assert best_of_survival(critical * math.sqrt(2), others, freedom) == pytest.approx(0.05, abs=6e-4)


def test_best_of_survival_matches_20000_random_samples() -> None:
    draw = random.Random(0)
    leads = [max(draw.gauss(0, 1) for _ in range(8)) - draw.gauss(0, 1) for _ in range(20_000)]
    for lead in (0.0, 1.0, 2.5, 4.0):
        share = sum(value > lead for value in leads) / len(leads)
        assert best_of_survival(lead, 8, math.inf) == pytest.approx(share, abs=0.012)


@given(st.integers(0, 60), st.integers(1, 60), st.floats(0.0, 1.0))
def test_binomial_survival_matches_a_sum_of_products(hits: int, items: int, chance: float) -> None:
    expected = sum(math.comb(items, n) * chance**n * (1 - chance) ** (items - n) for n in range(hits, items + 1))
    assert binomial_survival(hits, items, chance) == pytest.approx(expected, abs=1e-9)


def test_the_gaussian_approximation_continues_the_exact_tail() -> None:
    exact, approximate = binomial_survival(540, 2_000, 0.25), binomial_survival(541, 2_004, 0.25)
    assert approximate == pytest.approx(exact, rel=0.03)


def test_hits_of_allows_for_single_precision_rounding() -> None:
    for items in (24, 200, 2000):
        for hits in range(items + 1):
            assert hits_of(hits / items - 1e-7, items) == hits
            assert hits_of(hits / items + 1e-7, items) == hits
    assert hits_of(0.9 / 24, 24) == 0
