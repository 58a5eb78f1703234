"""Count errors by tag and bucket."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.diagnose import BUCKETS, ErrorReport, diagnose, matching_buckets, report_text

ROWS: list[dict[str, Any]] = [
    {
        "raw": "76470 Paris",
        "gold": {"postcode": "76470", "city": "Paris"},
        "pred": {"postcode": "7647", "city": "PARIS"},
    },
    {"raw": "улица 5", "gold": {"number": "5"}, "pred": {}},
    {"raw": "75008 Paris", "gold": {"postcode": "75008"}, "pred": {"postcode": "75008", "city": "Paris"}},
    {"raw": "12 rue 21", "gold": {"number": "12"}, "pred": {"number": "21"}},
    {"raw": "улица 5, 6", "gold": {"number": "5"}, "pred": {"number": "6"}},
]


def test_counts_of_a_small_run_match_those_made_by_hand() -> None:
    report = diagnose(ROWS)
    assert (report.examples, [tag.tag for tag in report.tags]) == (5, ["city", "number", "postcode"])
    total, number = report.total, report.tag("number")
    assert (total.fn.spans, total.fp.spans, total.correct, total.fn.count, total.fp.count) == (6, 6, 1, 5, 5)
    assert total.fn.first == {
        **dict.fromkeys(BUCKETS, 0),
        "non_latin": 2,
        "case_only": 1,
        "bio_slip": 1,
        "num_confused": 1,
    }
    assert total.fp.first["other"] == 1
    assert number.fn.also == {"non_latin": {"empty_pred": 1, "num_confused": 1}}
    assert number.fp.also == {"non_latin": {"num_confused": 1}}
    assert total.fn.also["bio_slip"] == {"num_confused": 1}
    assert (number.fn.first["num_confused"], number.fn.matching("num_confused")) == (1, 2)
    assert (number.fn.share_of_errors("non_latin"), number.fn.share_of_spans("non_latin")) == (2 / 3, 2 / 3)
    assert (total.fn.share_of_errors("bio_slip"), total.fn.share_of_spans("bio_slip")) == (1 / 5, 1 / 6)


def test_a_share_of_zero_spans_is_none() -> None:
    report = diagnose([{"raw": "a", "gold": {}, "pred": {"t": "a"}}])
    assert report.tag("t").fn.share_of_spans("other") is None
    assert report.tag("t").fn.share_of_errors("other") is None
    assert report.tag("t").fp.share_of_spans("other") == 1.0
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize("samples", [0, 1, 2])
def test_the_first_examples_of_a_bucket_are_kept(samples: int) -> None:
    kept = diagnose(ROWS, samples=samples).tag("number").samples.get("non_latin", ())
    assert [(sample.place, sample.gold, sample.pred) for sample in kept] == [
        ("example 2", "5", None),
        ("example 5", "5", "6"),
    ][:samples]


def test_a_negative_number_of_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="samples is -1; must be 0 or more"):
        diagnose(ROWS, samples=-1)


def test_trimming_corrects_slips_at_punctuation_and_drops_empty_predictions() -> None:
    rows = [{"raw": "Paris, 75008", "gold": [[7, 12, "p"]], "pred": [[5, 12, "p"], [5, 7, "p"]]}]
    before, after = diagnose(rows).tag("p"), diagnose(rows, trim=True).tag("p")
    assert (before.correct, before.fn.first["bio_slip"], before.fp.count) == (0, 1, 2)
    assert (after.correct, after.fp.spans, after.fp.count) == (1, 1, 0)


def test_the_text_has_counts_shares_overlaps_and_examples() -> None:
    text = report_text(diagnose(ROWS, samples=1))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "5 examples"
    assert "all tags: 6 gold, 6 predicted, 1 correct" in lines
    assert "bio_slip 1 20.0 % 16.7 % 1 20.0 % 16.7 % num_confused 1" in lines
    assert "non_latin 2 66.7 % 66.7 % 1 50.0 % 50.0 % empty_pred 1, num_confused 1" in lines
    assert "example 1: '76470' predicted as '7647'" in lines
    assert "example 2: '5' predicted as nothing" in lines
    assert "example 3: 'Paris' predicted, gold has none" in lines
    assert "in 'улица 5'" in lines
    assert "example 5" not in text


WORDS = st.sampled_from(["12", "21", "1", "Paris", "PARIS", "Paris,", "улица", "76470", ","])
TAGGED = st.dictionaries(st.sampled_from(["a", "b"]), st.lists(WORDS, max_size=3))
ROW = st.fixed_dictionaries({"raw": WORDS, "gold": TAGGED, "pred": TAGGED})


def recount(rows: list[dict[str, Any]], tag: str, side: str) -> tuple[int, int]:
    """Return the number of values of a tag on one side, and how many of them the other side does not have."""
    spans = errors = 0
    for row in rows:
        gold, pred = Counter(row["gold"].get(tag, [])), Counter(row["pred"].get(tag, []))
        mine, other = (gold, pred) if side == "fn" else (pred, gold)
        spans, errors = spans + mine.total(), errors + (mine - other).total()
    return spans, errors


@given(st.lists(ROW, max_size=6))
def test_every_value_is_correct_or_in_one_bucket(rows: list[dict[str, Any]]) -> None:
    report = diagnose(rows)
    for tag in "ab":
        counted = report.tag(tag)
        assert (counted.fn.spans, counted.fn.count) == recount(rows, tag, "fn")
        assert (counted.fp.spans, counted.fp.count) == recount(rows, tag, "fp")
        assert counted.correct == counted.fp.spans - counted.fp.count
    for side in ("fn", "fp"):
        sums = Counter[str]()
        for counted in report.tags:
            sums.update(getattr(counted, side).first)
        assert {**dict.fromkeys(BUCKETS, 0), **sums} == getattr(report.total, side).first


@given(st.lists(ROW.filter(lambda row: all(len(v) < 2 for s in ("gold", "pred") for v in row[s].values())), max_size=6))
def test_matches_are_counted_independently_of_the_bucket_order(rows: list[dict[str, Any]]) -> None:
    matching = Counter[str]()
    for row in rows:
        for tag in row["gold"]:
            gold, pred = ((row[side].get(tag) or [None])[0] for side in ("gold", "pred"))
            if gold is not None and gold != pred:
                matching.update(matching_buckets(row["raw"], gold, pred, tag))
    fn = diagnose(rows).total.fn
    assert {bucket: fn.matching(bucket) for bucket in BUCKETS} == {**dict.fromkeys(BUCKETS, 0), **matching}


@given(st.lists(ROW, max_size=4))
def test_any_report_is_strict_json_and_reproducible(rows: list[dict[str, Any]]) -> None:
    first, second = diagnose(rows), diagnose(rows)
    assert isinstance(first, ErrorReport)
    assert json.dumps(first.to_dict(), allow_nan=False) == json.dumps(second.to_dict(), allow_nan=False)
    assert report_text(first) == report_text(second)
