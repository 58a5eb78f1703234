"""The `grad-ratio` check, and what a gradient probe says in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import Gradients
from pytest_smoke.judge.checks.grad_ratio import describe_postmortem, describe_ratio, grad_ratio
from pytest_smoke.outcome import Finding

TERMS = ("ce", "crf")
BOUNDS = {"crf/ce": [0.01, 8]}


def probe(step: int, *, ce: float = 1.0, crf: float = 1.0, weight: float = 1.0) -> Gradients:
    return Gradients(step=step, raw={"ce": ce, "crf": crf}, weighted={"ce": ce, "crf": crf * weight}, cosines={})


def ce_alone(step: int = 0) -> Gradients:
    return Gradients(step=step, raw={"ce": 1.0}, weighted={"ce": 1.0}, cosines={})


def finding_of(probes: Sequence[Gradients], bounds: dict[str, Any], **options: Any) -> Finding:
    finding = grad_ratio(probes, bounds, **{"terms": TERMS, **options})
    assert finding is not None
    return finding


@pytest.mark.parametrize(
    ("ratio", "meaning"),
    [
        (20.0, "crf dominates"),
        (8.0, "crf dominates"),
        (math.inf, "crf dominates"),
        (0.009, "crf has almost no effect on training"),
        (0.5, "the two are balanced"),
        (1.0, "Look for the cause elsewhere"),
        (2.0, "the two are balanced"),
        (4.0, "crf has the larger influence, but does not dominate (that starts at 8x)"),
        (0.1, "crf has the smaller influence, but is not negligible (that is below 0.01x)"),
    ],
)
def test_a_ratio_is_described_by_what_it_means(ratio: float, meaning: str) -> None:
    """8 and more dominates, below 0.01 has no influence, 0.5 to 2 is balanced."""
    assert meaning in describe_ratio("crf", "ce", ratio)


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=30), st.floats(0.01, 10), st.floats(10, 100))
def test_the_median_of_the_raw_ratio_must_be_within_inclusive_bounds(
    ratios: list[float], low: float, high: float
) -> None:
    """Compared with an independent median."""
    finding = finding_of([probe(i, crf=ratio) for i, ratio in enumerate(ratios)], {"crf/ce": [low, high]})
    ordered = sorted(ratios)
    n = len(ordered)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    assert finding.observed["crf/ce"] == pytest.approx(middle)
    assert (finding.status == "pass") == (low <= finding.observed["crf/ce"] <= high)


@pytest.mark.parametrize(
    ("bounds", "ratio", "status", "fragment"),
    [
        ([0, 0.1], 0.05, "pass", "at most the limit 0.1"),
        ([0, 0.1], 0.0, "pass", "at most the limit 0.1"),
        ([0, 0.1], 2.43, "fail", "above the limit 0.1"),
        ([None, 8], 8.0, "pass", "at most the limit 8"),
        ([None, 8], 9.0, "fail", "above the limit 8"),
        ([0.01, None], 1e9, "pass", "at least the limit 0.01"),
        ([0.01, None], 0.0, "fail", "below the limit 0.01"),
        ([0.01, None], math.nan, "not-checked", ""),
    ],
)
def test_a_side_without_a_bound_is_open(bounds: list[float | None], ratio: float, status: str, fragment: str) -> None:
    finding = finding_of([probe(1, crf=ratio)], {"crf/ce": bounds})
    assert (finding.status, fragment in finding.text) == (status, True), finding.text


@pytest.mark.parametrize(
    ("bounds", "ratio", "advice"),
    [
        ([None, 0.1], 2.43, "above the recipe's limit of 0.1. Scale crf down in losses()"),
        ([10, None], 9.0, "below the recipe's limit of 10. Scale crf up in losses()"),
        ([None, 0.1], 20.0, "crf dominates"),
        ([10, None], 0.001, "almost no effect"),
    ],
)
def test_the_advice_follows_the_declared_limit_not_the_usual_balance(
    bounds: list[float | None], ratio: float, advice: str
) -> None:
    """A ratio of 2.43 is usually balanced, but not where the recipe allows 0.1."""
    assert advice in finding_of([probe(1, crf=ratio)], {"crf/ce": bounds}).hint


def test_only_probes_near_the_peak_learning_rate_count_if_there_are_any() -> None:
    probes = [probe(0, crf=100), probe(1, crf=100), probe(50, crf=1), probe(60, crf=2)]
    assert finding_of(probes, BOUNDS, from_step=40).status == "pass"
    assert finding_of(probes[:2], BOUNDS, from_step=40).status == "fail"


def test_a_probe_of_a_step_that_a_loss_scaler_skipped_does_not_count() -> None:
    """Its norms are not finite."""
    skipped = probe(0, crf=math.inf)
    assert finding_of([skipped, probe(1, crf=2)], BOUNDS).observed == {"crf/ce": 2}
    finding = finding_of([skipped], BOUNDS)
    assert (finding.status, finding.reason) == ("not-checked", "no-gradient-probe")
    assert finding.text == "the only gradient probe was not finite"


def test_an_unknown_term_fails_and_lists_the_terms_of_the_task() -> None:
    """Also for a task with one term, which makes no gradient probes at all."""
    finding = finding_of([], BOUNDS, terms=["ce"])
    assert (finding.status, finding.reason) == ("fail", "unknown-term")
    finding = finding_of([probe(0)], {"crv/ce": [0.01, 8]})
    assert (finding.status, finding.reason) == ("fail", "unknown-term")
    assert finding.text == "checks.grad_ratio names crv, but the task's loss terms are ce and crf"


def test_undeclared_ratios_warn_about_weighted_norms() -> None:
    """A large gradient of little weight does not dominate."""
    assert finding_of([probe(0, crf=50, weight=0.02)], {}).status == "pass"
    finding = finding_of([probe(0, crf=50)], {})
    assert (finding.status, finding.reason) == ("warn", "dominant-term")
    assert "crf dominates" in finding.hint


STORY = {"tf": 3.0, "first": 40.0, "kce": 9.0, "kd": 5.0, "state": 0.2, "align": 0.1, "latent": 2.0, "prefix": 2.0}
"""Weighted gradient norms of eight terms."""


def eight(step: int, *, conflict: float = -0.62) -> Gradients:
    cosines = {f"{a}/{b}": 0.3 for a, b in combinations(STORY, 2)} | {"first/kd": conflict, "tf/align": math.nan}
    return Gradients(step=step, raw=STORY, weighted=STORY, cosines=cosines)


def test_of_eight_terms_the_largest_the_negligible_and_the_conflicting_are_named() -> None:
    """All pairs are in the data, except those with a zero gradient, which has no direction."""
    finding = finding_of([eight(0, conflict=0.9), eight(1), eight(2, conflict=-0.7)], {}, terms=list(STORY))
    assert finding.text.endswith(
        "of 8 terms first has the largest gradient (65 % of the sum), negligible: state, align; "
        "most conflicting: first/kd (median cosine -0.62)"
    )
    assert len(finding.data["cosines"]) == 8 * 7 / 2 - 1
    assert finding.data["weighted_norms"] == STORY
    calm = finding_of([eight(0, conflict=0.05)], {"first/kce": [0.01, 8]}, terms=list(STORY))
    assert "no two conflict, least aligned: first/kd (median cosine 0.05)" in calm.text


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(0, 1e6), min_size=2, max_size=8))
def test_the_sentence_names_the_largest_norm_of_three_terms_or_more(norms: dict[str, float]) -> None:
    """Nothing is divided by zero if no term has a gradient."""
    terms = list(norms)
    finding = finding_of([Gradients(step=0, raw=norms, weighted=norms, cosines={})], {}, terms=terms)
    if len(norms) == 2:
        assert "terms" not in finding.text
    elif max(norms.values()) > 0:
        named = finding.text.partition(" terms ")[2].partition(" has the largest gradient")[0]
        assert norms[named] == max(norms.values())
    else:
        assert finding.text.endswith(f"none of {len(norms)} terms has a gradient")


def test_a_single_term_has_no_ratio() -> None:
    assert grad_ratio([ce_alone()], {}, terms=["ce"]) is None
    assert describe_postmortem(ce_alone()) == ""


def test_the_postmortem_probe_names_its_step_the_norms_and_the_dominant_term() -> None:
    assert describe_postmortem(probe(700, ce=0.5, crf=7)).startswith(
        "on the last good checkpoint (step 700) the weighted gradient norms are ce 0.5, crf 7; the gradient of crf is "
        "14x that of ce: crf dominates"
    )
    without_crf = describe_postmortem(probe(7, ce=0.5, crf=0.0))
    assert without_crf.endswith("ce 0.5, crf 0; only ce has a gradient")  # not "reduce the weight of ce"
    assert describe_postmortem(probe(7, ce=0.5, crf=0.7)).endswith("ce 0.5, crf 0.7; no term dominates")
    assert describe_postmortem(probe(7, ce=0.0, crf=0.0)).endswith("; no term has a gradient")
    assert describe_postmortem(probe(7, crf=math.nan)) == (
        "the gradient of crf was not finite on the last good checkpoint (step 7)"
    )


def test_a_probe_counts_for_the_pairs_whose_terms_it_has() -> None:
    """Phases of a stage may have different terms."""
    text = [ce_alone(n) for n in range(3)]
    both = [probe(3, crf=2.0), probe(4, crf=4.0)]
    finding = finding_of([*text, *both], BOUNDS, finding_id="grad-ratio[A]")
    assert (finding.id, finding.status, finding.observed) == ("grad-ratio[A]", "pass", {"crf/ce": 3.0})
    none = finding_of(text, BOUNDS)
    assert (none.status, none.reason) == ("not-checked", "no-gradient-probe")
    assert "no gradient probe has both terms of crf/ce" in none.text
    assert finding_of([*text, *both], {}).observed == pytest.approx(1 / ((1 / 2 + 1 / 4) / 2))
    assert grad_ratio(text, {}, terms=TERMS) is None
