"""What is sampled against what was meant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.mix import audit_mix, sampled_shares
from pytest_smoke.recipe.model import Mix


def mix(sources: dict[str, dict[str, Any]], **settings: Any) -> Mix:
    return Mix.model_validate({"sources": sources, **settings})


def test_one_source_of_35_percent_that_was_meant_to_be_20_is_named() -> None:
    """The footgun this check comes from."""
    found = audit_mix(
        mix(
            {
                "nad": {"rows": 700_000, "weight": 0.5, "share": 0.2},
                "osm": {"rows": 300_000},
                "gn": {"rows": 350_000},
            }
        )
    )
    assert (found.status, found.reason) == ("fail", "share")
    assert "source 'nad' is 35.0 % of the sampled mix (700000 rows x weight 0.5), not the intended 20.0 %" in found.text


@pytest.mark.parametrize(
    ("rows", "reason"), [((45, 35, 20), "dominant"), ((38, 22, 20, 20), "lead"), ((30, 25, 25, 20), ""), ((100,), "")]
)
def test_dominance_and_lead(rows: tuple[int, ...], reason: str) -> None:
    """Over 40 % dominates; more than 1.5 times the next leads; a single source can do neither."""
    found = audit_mix(mix({f"s{i}": {"rows": n} for i, n in enumerate(rows)}))
    assert (found.status, found.reason) == ("fail" if reason else "pass", reason)


@given(st.dictionaries(st.text(min_size=1), st.tuples(st.integers(1, 10**9), st.floats(0.01, 100)), min_size=1))
def test_shares_are_rows_times_weight_and_sum_to_one(sources: dict[str, tuple[int, float]]) -> None:
    """Whatever the names."""
    shares = sampled_shares(mix({name: {"rows": rows, "weight": weight} for name, (rows, weight) in sources.items()}))
    total = sum(rows * weight for rows, weight in sources.values())
    assert sum(shares.values()) == pytest.approx(1)
    for name, (rows, weight) in sources.items():
        assert shares[name] == pytest.approx(rows * weight / total)
