"""What is sampled against what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.judge.checks.mix import audit_mix
from pytest_smoke.recipe.model import MixSpec


def mix(sources: dict[str, dict[str, Any]], **settings: Any) -> MixSpec:
    return MixSpec.model_validate({"sources": sources, **settings})


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


def test_the_rows_of_a_corpus_are_counted(tmp_path: Path) -> None:
    """And what the recipe states of them, where it does, is told apart."""
    for name, rows in {"nad": 35, "osm": 33, "gn": 32}.items():
        (tmp_path / f"{name}-00000-of-00001.jsonl").write_text("{}\n" * rows)
    sources: dict[str, dict[str, Any]] = {"nad": {"share": 0.35}, "osm": {}, "gn": {"rows": 32}}
    found = audit_mix(mix(sources, corpus=str(tmp_path)))
    assert (found.status, found.data["shares"]) == ("pass", {"nad": 0.35, "osm": 0.33, "gn": 0.32})
    sources["gn"] = {"rows": 40}
    found = audit_mix(mix(sources, corpus=str(tmp_path)))
    assert (found.status, found.reason) == ("warn", "rows")
    assert "source 'gn' has 32 rows, not the 40 that the recipe states" in found.text
    (tmp_path / "wiki.csv").write_text("text\nhello\n")
    found = audit_mix(mix(sources, corpus=str(tmp_path)))
    assert (found.status, found.reason) == ("fail", "unnamed")
    assert "source 'wiki' has 1 rows, but the mix does not name it (named: nad, osm, gn)" in found.text


def test_a_corpus_that_cannot_be_counted_fails_the_check(tmp_path: Path) -> None:
    """It is no crash of the session."""
    found = audit_mix(mix({"nad": {}}, corpus=str(tmp_path / "absent")))
    assert (found.status, found.reason) == ("fail", "corpus")
    assert f"{tmp_path}/absent: there is no such file or folder" in found.text
