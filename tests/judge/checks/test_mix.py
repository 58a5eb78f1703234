"""The checks `mix` and `mix-drawn`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.judge.checks.mix import audit_mix, mix_drawn
from pytest_smoke.judge.verdict import decide
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.model import MixSpec


def mix(sources: dict[str, dict[str, Any]], **settings: Any) -> MixSpec:
    return MixSpec.model_validate({"sources": sources, **settings})


def test_a_source_of_35_percent_that_was_meant_to_be_20_is_named() -> None:
    finding = audit_mix(
        mix(
            {
                "nad": {"rows": 700_000, "weight": 0.5, "share": 0.2},
                "osm": {"rows": 300_000},
                "gn": {"rows": 350_000},
            }
        )
    )
    assert (finding.status, finding.reason) == ("fail", "share-off-target")
    assert finding.text == (
        "source 'nad' is 35.0 % of the estimated mix (700,000 rows x weight 0.5), not the intended 20.0 %; "
        "all shares: nad 35.0 %, gn 35.0 %, osm 30.0 %"
    )
    assert finding.hint == "change the weights in mix.sources"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ((45, 35, 20), "dominant-source"),
        ((38, 22, 20, 20), "leading-source"),
        ((30, 25, 25, 20), ""),
        ((100,), ""),
    ],
)
def test_a_source_over_40_percent_dominates_and_one_with_1_5_times_the_next_leads(
    rows: tuple[int, ...], reason: str
) -> None:
    """A single source does neither."""
    finding = audit_mix(mix({f"s{i}": {"rows": n} for i, n in enumerate(rows)}))
    assert (finding.status, finding.reason) == ("fail" if reason else "pass", reason)


def test_the_rows_of_a_corpus_are_counted_and_compared_with_the_stated_ones(tmp_path: Path) -> None:
    for name, rows in {"nad": 35, "osm": 33, "gn": 32}.items():
        (tmp_path / f"{name}-00000-of-00001.jsonl").write_text("{}\n" * rows)
    sources: dict[str, dict[str, Any]] = {"nad": {"share": 0.35}, "osm": {}, "gn": {"rows": 32}}
    finding = audit_mix(mix(sources, corpus=str(tmp_path)))
    assert (finding.status, finding.data["shares"]) == ("pass", {"nad": 0.35, "osm": 0.33, "gn": 0.32})
    sources["gn"] = {"rows": 40}
    finding = audit_mix(mix(sources, corpus=str(tmp_path)))
    assert (finding.status, finding.reason) == ("warn", "stale-row-count")
    assert finding.text.startswith("source 'gn' has 32 rows, the recipe states 40; estimated mix: ")
    (tmp_path / "wiki.csv").write_text("text\nhello\n")
    finding = audit_mix(mix(sources, corpus=str(tmp_path)))
    assert (finding.status, finding.reason) == ("fail", "unknown-source")
    assert "source 'wiki' has 1 row, but is not in the mix (nad, osm, gn)" in finding.text


def test_a_corpus_that_cannot_be_counted_fails_the_check_and_does_not_raise(tmp_path: Path) -> None:
    finding = audit_mix(mix({"nad": {}}, corpus=str(tmp_path / "absent")))
    assert (finding.status, finding.reason) == ("fail", "corpus-unreadable")
    assert finding.text.startswith("the corpus cannot be counted: ")
    assert f"{tmp_path}/absent" in finding.text


MIX = mix({"nad": {"rows": 350}, "osm": {"rows": 330}, "gn": {"rows": 320}})
EXPECTED = {"nad": 0.35, "osm": 0.33, "gn": 0.32}


@dataclass(frozen=True)
class Sampled:
    """Samples that a sampler drew, by source."""

    counts: dict[str, int]
    design_effect: float = 1.0

    @property
    def samples(self) -> int:
        return sum(self.counts.values())


def test_a_sampled_mix_as_declared_passes_with_its_shares() -> None:
    finding = mix_drawn(Sampled({"nad": 4200, "osm": 4000, "gn": 3800}), EXPECTED, MIX, step=93)
    assert (finding.status, finding.step) == ("pass", 93)
    assert finding.text == "sampled in the first 94 steps (12,000 samples): nad 35.0 %, osm 33.3 %, gn 31.7 %"


def test_a_sampled_mix_that_is_not_the_declared_one_is_invalid_whatever_the_loss_does() -> None:
    finding = mix_drawn(Sampled({"nad": 6200, "osm": 3000, "gn": 2800}), EXPECTED, MIX, step=93)
    assert (finding.status, finding.reason, finding.bound) == ("fail", "sampled-share-off", EXPECTED)
    assert finding.text.startswith(
        "source 'nad' is 51.7 % of the first 12,000 samples, not the expected 35.0 %: more than the tolerance of 2.0 %"
        ", and more than chance explains"
    )
    unstable = Finding(id="loss-trend", status="fail", reason="rise", text="")
    assert decide([unstable, finding]).word == "invalid"


@pytest.mark.parametrize(
    ("counts", "expected", "status", "reason"),
    [
        ({"nad": 6000, "osm": 5000, "wiki": 1000}, EXPECTED, "fail", "source-never-sampled"),
        ({"nad": 3500, "osm": 3300, "gn": 3200, "wiki": 3000}, EXPECTED, "fail", "unknown-source"),
        ({"nad": 35000, "osm": 33000, "gn": 32000, "wiki": 50}, EXPECTED, "warn", "unknown-source"),
        (
            {"nad": 50000, "osm": 49000, "gn": 0},
            {"nad": 0.5, "osm": 0.49, "gn": 0.01},
            "warn",
            "source-never-sampled",
        ),
        ({"nad": 35, "osm": 33, "gn": 32}, EXPECTED, "warn", "too-few-samples"),
    ],
)
def test_an_unexpected_or_missing_source_fails_beyond_the_tolerance_and_warns_within_it(
    counts: dict[str, int], expected: dict[str, float], status: str, reason: str
) -> None:
    finding = mix_drawn(Sampled(counts), expected, MIX, step=9)
    assert (finding.status, finding.reason) == (status, reason), finding.text


def test_without_a_declared_mix_a_dominant_source_only_warns() -> None:
    skewed = mix_drawn(Sampled({"nad": 9000, "osm": 3000}), None, None, step=9)
    assert (skewed.status, skewed.reason) == ("warn", "dominant-source")
    even = mix_drawn(Sampled({"nad": 4000, "osm": 4000, "gn": 4000}), None, None, step=9)
    assert (even.status, even.bound) == ("pass", None)
