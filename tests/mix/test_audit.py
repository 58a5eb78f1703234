"""Estimate shares of a mix, and compare them with exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.audit import PlainMix, PlainSource, audit
from pytest_smoke.recipe.model import MixSpec

WEIGHTS = st.floats(0, 1e6) | st.floats(0, allow_infinity=False, allow_nan=False)
SOURCES = st.dictionaries(st.text(min_size=1), st.tuples(st.integers(0, 10**12), WEIGHTS), min_size=1, max_size=6)


def mix_of(weights: dict[str, float]) -> PlainMix:
    return PlainMix(sources={name: PlainSource(weight=weight) for name, weight in weights.items()})


def test_a_source_with_35_percent_of_the_samples_instead_of_20_is_named() -> None:
    shards = {"nad": 42, "osm": 40, "gn": 38}
    sources = {"nad": PlainSource(weight=1.0, share=0.2), "osm": PlainSource(weight=1.0), "gn": PlainSource(weight=1.0)}
    found = audit(shards, PlainMix(sources=sources), unit="shards")
    assert [(fault.reason, fault.source) for fault in found.faults] == [("share-off-target", "nad")]
    assert found.faults[0].text == (
        "source 'nad' is 35.0 % of the estimated mix (42 shards x weight 1), not the intended 20.0 %"
    )
    assert found.table == "nad 35.0 %, osm 33.3 %, gn 31.7 %"


@given(SOURCES)
def test_shares_are_rows_times_weight_over_their_sum(sources: dict[str, tuple[int, float]]) -> None:
    shares = audit(
        {name: rows for name, (rows, _) in sources.items()}, mix_of({n: weight for n, (_, weight) in sources.items()})
    ).shares
    mass = {name: rows * Fraction(weight) for name, (rows, weight) in sources.items()}
    total = sum(mass.values())
    assert shares.keys() == sources.keys()
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    for name, part in mass.items():
        assert shares[name] == pytest.approx(float(part / total) if total else 0.0, rel=1e-9, abs=1e-300)


@given(SOURCES)
def test_a_fault_is_found_exactly_if_a_rule_is_broken(sources: dict[str, tuple[int, float]]) -> None:
    rows = {name: count for name, (count, _) in sources.items()}
    found = audit(rows, mix_of({name: weight for name, (_, weight) in sources.items()}))
    reasons = {fault.reason for fault in found.faults}
    mass = sorted((count * Fraction(weight) for count, weight in sources.values()), reverse=True)
    total = sum(mass)
    if not total or len(mass) < 2:
        assert not reasons & {"dominant-source", "leading-source"}
        return
    dominates, leads = mass[0] / total - Fraction(2, 5), (mass[0] - mass[1] * 3 / 2) / total
    # Two equal sources have more than 0.4 each, so one of them must lead to be dominant.
    for reason, excess in (
        ("dominant-source", min(dominates, leads) if len(mass) == 2 else dominates),
        ("leading-source", leads),
    ):
        if abs(excess) > 1e-6:
            assert (reason in reasons) == (excess > 0)
    names = [(n, c, w) for n, (c, w) in sources.items()]
    assert {fault.source for fault in found.faults if fault.reason == "source-without-rows"} == {
        n for n, c, w in names if w and not c
    }


@pytest.mark.parametrize(
    ("rows", "share", "faults"),
    [
        ({"a": 40, "b": 30, "c": 30}, None, []),
        ({"a": 45, "b": 30, "c": 25}, None, ["dominant-source"]),  # 0.45 is exactly 1.5 x 0.3
        ({"a": 22, "b": 26, "c": 26, "d": 26}, 0.2, []),  # exactly the tolerance away
        ({"a": 23, "b": 26, "c": 26, "d": 25}, 0.2, ["share-off-target"]),
        ({"a": 1}, None, []),
        ({"a": 50, "b": 50}, None, []),  # two sources cannot both have 0.4 or less
        ({"a": 60, "b": 40}, None, []),
        ({"a": 61, "b": 39}, None, ["dominant-source", "leading-source"]),
    ],
)
def test_a_share_at_its_bound_is_allowed(rows: dict[str, int], share: float | None, faults: list[str]) -> None:
    sources = {name: PlainSource(share=share if name == "a" else None) for name in rows}
    assert [fault.reason for fault in audit(rows, PlainMix(sources=sources)).faults] == faults


def test_sources_in_only_the_mix_or_only_the_corpus_are_reported() -> None:
    found = audit({"osm": 10, "gn": 9, "wiki": 50}, mix_of({"osm": 1, "gn": 1, "nad": 2, "off": 0}))
    assert [(fault.reason, fault.source) for fault in found.faults][:2] == [
        ("source-without-rows", "nad"),
        ("unknown-source", "wiki"),
    ]
    assert "wiki" not in found.shares
    assert found.shares["osm"] == pytest.approx(10 / 19)


def test_a_mix_without_anything_to_sample_is_a_fault() -> None:
    assert [fault.reason for fault in audit({"a": 5}, mix_of({"a": 0})).faults] == ["no-weight"]
    assert [fault.reason for fault in audit({}, mix_of({"a": 1})).faults] == ["source-without-rows"]


def test_the_defaults_equal_those_of_a_recipe() -> None:
    recipe = MixSpec.model_validate({"sources": {"a": {"rows": 1}}})
    ours = PlainMix(sources={})
    for name in ("dominant_share", "lead_ratio", "tolerance"):
        assert getattr(ours, name) == getattr(recipe, name)
    assert recipe.sources["a"].weight == PlainSource().weight
