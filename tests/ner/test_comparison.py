"""Compare the errors of two runs: shares before and after, and changes beyond noise."""

from __future__ import annotations

from math import comb
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.diagnose import BUCKETS, ErrorComparison, compare, comparison_text, diagnose
from pytest_smoke.ner.comparison import Share, difference_interval


@pytest.mark.parametrize(
    ("one", "two", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_the_interval_equals_the_published_one(
    one: tuple[int, int], two: tuple[int, int], low: float, high: float
) -> None:
    """Newcombe 1998, table II, method 10: the interval of p1 - p2, to four places."""
    found = difference_interval(Share(count=two[0], of=two[1]), Share(count=one[0], of=one[1]))
    assert found == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("n1", "n2", "p1", "p2"), [(30, 30, 0.1, 0.1), (60, 40, 0.05, 0.05), (50, 50, 0.2, 0.05)])
def test_the_interval_covers_the_true_difference_in_95_percent(n1: int, n2: int, p1: float, p2: float) -> None:

    def chance(n: int, p: float, k: int) -> float:
        return comb(n, k) * p**k * (1 - p) ** (n - k)

    covered = 0.0
    for before in range(n1 + 1):
        for after in range(n2 + 1):
            low, high = difference_interval(Share(count=before, of=n1), Share(count=after, of=n2))
            covered += (low <= p2 - p1 <= high) * chance(n1, p1, before) * chance(n2, p2, after)
    assert 0.94 <= covered <= 0.995


SHARES = st.integers(1, 500).flatmap(lambda of: st.builds(Share, count=st.integers(0, of), of=st.just(of)))


@given(SHARES, SHARES)
def test_the_interval_contains_the_difference_and_is_mirrored_for_swapped_runs(before: Share, after: Share) -> None:
    low, high = difference_interval(before, after)
    assert before.value is not None
    assert after.value is not None
    assert -1 - 1e-12 <= low <= after.value - before.value <= high <= 1 + 1e-12
    assert difference_interval(after, before) == pytest.approx((-high, -low))


@given(SHARES)
def test_no_change_is_never_beyond_noise(share: Share) -> None:
    low, high = difference_interval(share, share)
    assert low <= 0 <= high


def run(*, slips: int, right: int, raw: str = "Paris, 75008", tag: str = "p") -> list[dict[str, Any]]:
    """Return examples whose postcode is predicted with the comma before it (`slips`), and correct ones (`right`)."""
    gold = [[7, 12, tag]]
    slip, fine = ({"raw": raw, "gold": gold, "pred": [[start, 12, tag]]} for start in (5, 7))
    return [slip] * slips + [fine] * right


def changes(comparison: ErrorComparison, tag: str, bucket: str) -> dict[str, Any]:
    return {c.measure: c for c in comparison.changes if (c.tag, c.bucket) == (tag, bucket)}


def test_a_change_beyond_noise_is_marked() -> None:
    comparison = compare(diagnose(run(slips=12, right=188)), diagnose(run(slips=2, right=198)))
    found = changes(comparison, "p", "bio_slip")
    assert (found["fn"].before, found["fn"].after) == (Share(count=12, of=200), Share(count=2, of=200))
    assert found["fn"].beyond_noise
    lines = [" ".join(line.split()) for line in comparison_text(comparison).splitlines()]
    line = "bio_slip 6.0 % -> 1.0 % (-9.3 to -1.4) * 6.0 % -> 1.0 % (-9.3 to -1.4) *"
    assert lines.count(line) == 2
    assert lines[lines.index(line) - 2] == "all tags"


def test_a_change_within_noise_is_not_marked() -> None:
    comparison = compare(diagnose(run(slips=3, right=47)), diagnose(run(slips=1, right=49)))
    assert not changes(comparison, "p", "bio_slip")["fn"].beyond_noise
    assert "*" not in comparison_text(comparison).partition("\n")[2]


def test_a_change_hidden_by_the_bucket_order_gets_a_line() -> None:
    raw = "Париж, 75008"
    before = diagnose(run(slips=40, right=60, raw=raw))
    missed = [{"raw": raw, "gold": [[7, 12, "p"]], "pred": []}] * 40
    after = diagnose(missed + run(slips=0, right=60, raw=raw))
    comparison = compare(before, after)
    slips = changes(comparison, "p", "bio_slip")
    assert (slips["fn"].before.count, slips["fn"].after.count) == (0, 0)
    assert (slips["matching"].before.count, slips["matching"].after.count) == (40, 0)
    text = comparison_text(comparison)
    assert "bio_slip, including errors counted under an earlier bucket: 40.0 % -> 0.0 %" in text
    assert "empty_pred, including errors counted under an earlier bucket: 0.0 % -> 40.0 %" in text


def test_a_tag_of_only_one_run_has_no_interval_and_is_named() -> None:
    comparison = compare(diagnose(run(slips=1, right=1, tag="old")), diagnose(run(slips=1, right=1, tag="new")))
    assert [c.tag for c in comparison.changes[:: 3 * len(BUCKETS)]] == ["", "new", "old"]
    assert changes(comparison, "new", "bio_slip")["fn"].interval is None
    assert comparison.tags_with_other_gold == ("new", "old")
    text = comparison_text(comparison)
    assert "- -> 50.0 %" in text
    assert text.endswith("the number of gold values differs between the runs: new, old")


def test_equal_runs_have_no_changes() -> None:
    report = diagnose(run(slips=1, right=3))
    comparison = compare(report, report)
    assert not any(change.beyond_noise for change in comparison.changes)
    assert comparison.tags_with_other_gold == ()
    assert [line for line in comparison_text(comparison).splitlines() if line and line[0] != " "][1:] == ["all tags"]
