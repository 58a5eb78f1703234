"""The gradient ratio's bounds, and its reading in words."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.checks.grad_ratio import TermNorms, grad_ratio, postmortem, read

TERMS = ("ce", "crf")


def probe(step: int, *, ce: float = 1.0, crf: float = 1.0, weight: float = 1.0) -> TermNorms:
    return TermNorms(step=step, raw={"ce": ce, "crf": crf}, weighted={"ce": ce, "crf": crf * weight}, cosines={})


@pytest.mark.parametrize(
    ("ratio", "word"),
    [
        (20.0, "dominates"),
        (8.0, "dominates"),
        (math.inf, "dominates"),
        (0.009, "collapsed"),
        (0.5, "balanced"),
        (1.0, "the cause is elsewhere"),
        (2.0, "balanced"),
        (4.0, "neither balanced (0.5 to 2) nor dominated"),
        (0.1, "neither"),
    ],
)
def test_the_reading_is_the_seeds_table(ratio: float, word: str) -> None:
    """Over 8 dominated, under 0.01 collapsed, 0.5 to 2 balanced."""
    assert word in read("crf", "ce", ratio)


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=30), st.floats(0.01, 10), st.floats(10, 100))
def test_the_median_of_the_raw_ratio_is_held_against_inclusive_bounds(
    ratios: list[float], low: float, high: float
) -> None:
    """With an independent median."""
    found = grad_ratio([probe(i, crf=r) for i, r in enumerate(ratios)], {"crf/ce": [low, high]}, terms=TERMS)
    ordered = sorted(ratios)
    n = len(ordered)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    assert found is not None
    assert found.observed["crf/ce"] == pytest.approx(middle)
    assert (found.status == "pass") == (low <= found.observed["crf/ce"] <= high)


def test_only_probes_at_the_peak_count() -> None:
    """Ratios of the warm-up are another question's answer; where there are no others they are better than none."""
    probes = [probe(0, crf=100), probe(1, crf=100), probe(50, crf=1), probe(60, crf=2)]
    at_peak = grad_ratio(probes, {"crf/ce": [0.01, 8]}, terms=TERMS, from_step=40)
    assert at_peak is not None
    assert at_peak.status == "pass"
    early = grad_ratio(probes[:2], {"crf/ce": [0.01, 8]}, terms=TERMS, from_step=40)
    assert early is not None
    assert early.status == "fail"


def test_a_step_that_a_loss_scaler_skipped_does_not_count() -> None:
    """Its norms are not finite; if none is left, nothing was checked."""
    bad = probe(0, crf=math.inf)
    found = grad_ratio([bad, probe(1, crf=2)], {"crf/ce": [0.01, 8]}, terms=TERMS)
    assert found is not None
    assert found.observed == {"crf/ce": 2}
    none = grad_ratio([bad], {"crf/ce": [0.01, 8]}, terms=TERMS)
    assert none is not None
    assert none.status == "not-checked"


def test_a_pair_nobody_reported_fails_and_names_what_there_is() -> None:
    """A missing metric never promotes; a task of one term takes no probes at all."""
    none = grad_ratio([], {"crf/ce": [0.01, 8]}, terms=["ce"])
    assert none is not None
    assert (none.status, none.reason) == ("fail", "unknown-term")
    found = grad_ratio([probe(0)], {"crv/ce": [0.01, 8]}, terms=TERMS)
    assert found is not None
    assert (found.status, found.reason) == ("fail", "unknown-term")
    assert "crv" in found.text
    assert "ce, crf" in found.text


def test_undeclared_ratios_warn_about_what_pulls() -> None:
    """A stronger term of little weight is no warning; one that really pulls is."""
    weaker = grad_ratio([probe(0, crf=50, weight=0.02)], {}, terms=TERMS)
    assert weaker is not None
    assert weaker.status == "pass"
    stronger = grad_ratio([probe(0, crf=50)], {}, terms=TERMS)
    assert stronger is not None
    assert stronger.status == "warn"
    assert "crf dominates" in stronger.hint


STORY = {"tf": 3.0, "first": 40.0, "kce": 9.0, "kd": 5.0, "state": 0.2, "align": 0.1, "latent": 2.0, "prefix": 2.0}
"""Eight terms, as stronger as their weights make them."""


def eight(step: int, *, opposed: float = -0.62) -> TermNorms:
    cosines = {f"{a}/{b}": 0.3 for a, b in combinations(STORY, 2)} | {"first/kd": opposed, "tf/align": math.nan}
    return TermNorms(step=step, raw=STORY, weighted=STORY, cosines=cosines)


def test_of_eight_terms_the_loud_the_silent_and_the_opposed_are_named() -> None:
    """In the sentence, and all pairs in the data; a term without direction has no cosine."""
    found = grad_ratio([eight(0, opposed=0.9), eight(1), eight(2, opposed=-0.7)], {}, terms=list(STORY))
    assert found is not None
    assert found.text.endswith(
        "of 8 terms first pulls hardest (65 % of the sum of weighted norms), silent: state, align; "
        "most opposed: first/kd (median cosine -0.62)"
    )
    assert len(found.data["cosines"]) == 8 * 7 / 2 - 1
    assert found.data["weighted_norms"] == STORY
    calm = grad_ratio([eight(0, opposed=0.05)], {"first/kce": [0.01, 8]}, terms=list(STORY))
    assert calm is not None
    assert "no two are opposed, the least aligned are: first/kd (median cosine 0.05)" in calm.text


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(0, 1e6), min_size=2, max_size=8))
def test_the_sentence_names_the_largest_norm_whatever_the_terms(norms: dict[str, float]) -> None:
    """None for two terms, of which the ratio says all; and a model that no term pulls at is no fault of division."""
    terms = list(norms)
    probes = [TermNorms(step=0, raw=norms, weighted=norms, cosines={})]
    found = grad_ratio(probes, {}, terms=terms)
    assert found is not None
    if len(norms) == 2:
        assert "terms" not in found.text
    elif max(norms.values()) > 0:
        named = found.text.partition(" terms ")[2].partition(" pulls hardest")[0]
        assert norms[named] == max(norms.values())
    else:
        assert found.text.endswith(f"none of {len(norms)} terms pulls at all")


def test_one_term_has_no_ratio() -> None:
    """Nothing to compare is no finding."""
    assert grad_ratio([TermNorms(step=0, raw={"ce": 1}, weighted={"ce": 1}, cosines={})], {}, terms=["ce"]) is None
    assert postmortem(TermNorms(step=0, raw={"ce": 1}, weighted={"ce": 1}, cosines={})) == ""


def test_the_autopsy_names_the_step_the_norms_and_who_pulls() -> None:
    """In one sentence; a norm that is not finite is said to be so."""
    assert postmortem(probe(700, ce=0.5, crf=7)).startswith(
        "on the last good checkpoint (step 700) the weighted gradient norms are ce 0.5, crf 7: crf dominates"
    )
    silent = postmortem(probe(7, ce=0.5, crf=0.0))
    assert silent.endswith("ce 0.5, crf 0: ce alone pulls")  # not "reduce the weight of ce"
    assert postmortem(probe(7, ce=0.0, crf=0.0)).endswith(": none pulls")
    assert postmortem(probe(7, crf=math.nan)) == (
        "already on the last good checkpoint (step 7) the gradient of crf is not finite"
    )


def test_a_probe_counts_for_the_pairs_whose_terms_it_has() -> None:
    """Phases of a stage may differ in their terms; a pair that no probe has is not checked."""
    text = [TermNorms(step=n, raw={"ce": 1.0}, weighted={"ce": 1.0}, cosines={}) for n in range(3)]
    both = [probe(3, crf=2.0), probe(4, crf=4.0)]
    found = grad_ratio([*text, *both], {"crf/ce": [0.01, 8]}, terms=TERMS, id="grad-ratio[A]")
    assert found is not None
    assert (found.id, found.status, found.observed) == ("grad-ratio[A]", "pass", {"crf/ce": 3.0})
    none = grad_ratio(text, {"crf/ce": [0.01, 8]}, terms=TERMS)
    assert none is not None
    assert (none.status, none.reason) == ("not-checked", "no-probe")
    assert "no gradient probe has both terms of crf/ce" in none.text
    undeclared = grad_ratio([*text, *both], {}, terms=TERMS)
    assert undeclared is not None
    assert undeclared.observed == pytest.approx(1 / ((1 / 2 + 1 / 4) / 2))
    assert grad_ratio(text, {}, terms=TERMS) is None
