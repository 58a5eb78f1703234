"""The arithmetic of the mix, against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.audit import Mix, Source, audit
from pytest_smoke.recipe.model import Mix as RecipeMix

WEIGHTS = st.floats(0, 1e6) | st.floats(0, allow_infinity=False, allow_nan=False)
SOURCES = st.dictionaries(st.text(min_size=1), st.tuples(st.integers(0, 10**12), WEIGHTS), min_size=1, max_size=6)


def mix_of(weights: dict[str, float]) -> Mix:
    return Mix(sources={name: Source(weight=weight) for name, weight in weights.items()})


def test_a_source_that_is_35_percent_of_the_effective_sample_and_was_meant_to_be_less_is_named() -> None:
    """The footgun this audit comes from: 42 shards of 120 look like a third of nothing much until they are weighed."""
    shards = {"nad": 42, "osm": 40, "gn": 38}
    sources = {"nad": Source(weight=1.0, share=0.2), "osm": Source(weight=1.0), "gn": Source(weight=1.0)}
    found = audit(shards, Mix(sources=sources), unit="shards")
    assert [(fault.reason, fault.source) for fault in found.faults] == [("share", "nad")]
    assert found.faults[0].text == (
        "source 'nad' is 35.0 % of the sampled mix (42 shards x weight 1), not the intended 20.0 %"
    )
    assert found.table == "nad 35.0 %, osm 33.3 %, gn 31.7 %"


@given(SOURCES)
def test_shares_are_rows_times_weight_over_their_sum(sources: dict[str, tuple[int, float]]) -> None:
    """Exactly as fractions say, largest first, and nothing is lost; extreme weights overflow nothing."""
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
def test_a_fault_is_found_exactly_where_a_rule_is_broken(sources: dict[str, tuple[int, float]]) -> None:
    """Dominance and lead, recomputed without floats, at a distance from the edge that no rounding reaches."""
    rows = {name: count for name, (count, _) in sources.items()}
    found = audit(rows, mix_of({name: weight for name, (_, weight) in sources.items()}))
    reasons = {fault.reason for fault in found.faults}
    mass = sorted((count * Fraction(weight) for count, weight in sources.values()), reverse=True)
    total = sum(mass)
    if not total or len(mass) < 2:
        assert not reasons & {"dominant", "lead"}
        return
    dominates, leads = mass[0] / total - Fraction(2, 5), (mass[0] - mass[1] * 3 / 2) / total
    # Half of two sources is more than two fifths: one of them must lead to dominate.
    for reason, excess in (("dominant", min(dominates, leads) if len(mass) == 2 else dominates), ("lead", leads)):
        if abs(excess) > 1e-6:
            assert (reason in reasons) == (excess > 0)
    names = [(n, c, w) for n, (c, w) in sources.items()]
    assert {fault.source for fault in found.faults if fault.reason == "missing"} == {
        n for n, c, w in names if w and not c
    }


@pytest.mark.parametrize(
    ("rows", "share", "faults"),
    [
        ({"a": 40, "b": 30, "c": 30}, None, []),
        ({"a": 45, "b": 30, "c": 25}, None, ["dominant"]),  # 0.45 is 1.5 x 0.3, no more
        ({"a": 22, "b": 26, "c": 26, "d": 26}, 0.2, []),  # exactly the tolerance away
        ({"a": 23, "b": 26, "c": 26, "d": 25}, 0.2, ["share"]),
        ({"a": 1}, None, []),
        ({"a": 50, "b": 50}, None, []),  # nobody could make them two fifths each
        ({"a": 60, "b": 40}, None, []),
        ({"a": 61, "b": 39}, None, ["dominant", "lead"]),
    ],
)
def test_a_bound_itself_is_allowed(rows: dict[str, int], share: float | None, faults: list[str]) -> None:
    """Though its decimals have no exact float."""
    sources = {name: Source(share=share if name == "a" else None) for name in rows}
    assert [fault.reason for fault in audit(rows, Mix(sources=sources)).faults] == faults


def test_names_that_stand_on_one_side_only_are_each_reported() -> None:
    """A source without a weight counts in no share; one of weight 0 may be absent."""
    found = audit({"osm": 10, "gn": 9, "wiki": 50}, mix_of({"osm": 1, "gn": 1, "nad": 2, "off": 0}))
    assert [(fault.reason, fault.source) for fault in found.faults][:2] == [("missing", "nad"), ("unnamed", "wiki")]
    assert "wiki" not in found.shares
    assert found.shares["osm"] == pytest.approx(10 / 19)


def test_a_mix_of_which_nothing_can_be_drawn_is_a_fault_and_no_crash() -> None:
    """Neither with weights of 0 nor without a row."""
    assert [fault.reason for fault in audit({"a": 5}, mix_of({"a": 0})).faults] == ["empty"]
    assert [fault.reason for fault in audit({}, mix_of({"a": 1})).faults] == ["missing"]


def test_the_defaults_are_a_recipes() -> None:
    """They are written twice, so that this room needs no pydantic."""
    recipe = RecipeMix.model_validate({"sources": {"a": {"rows": 1}}})
    ours = Mix(sources={})
    for name in ("dominant_share", "lead_ratio", "tolerance"):
        assert getattr(ours, name) == getattr(recipe, name)
    assert recipe.sources["a"].weight == Source().weight
