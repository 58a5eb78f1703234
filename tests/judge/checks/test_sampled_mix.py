"""The `mix-drawn` finding and the verdict it causes."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_smoke.judge.checks.sampled_mix import mix_drawn
from pytest_smoke.judge.verdict import decide
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.model import MixSpec

MIX = MixSpec.model_validate({"sources": {"nad": {"rows": 350}, "osm": {"rows": 330}, "gn": {"rows": 320}}})
EXPECTED = {"nad": 0.35, "osm": 0.33, "gn": 0.32}


@dataclass(frozen=True)
class Seen:
    counts: dict[str, int]
    design_effect: float = 1.0

    @property
    def samples(self) -> int:
        return sum(self.counts.values())


def test_a_mix_that_is_drawn_passes_with_its_shares() -> None:
    """And says in how many steps and samples."""
    found = mix_drawn(Seen({"nad": 4200, "osm": 4000, "gn": 3800}), EXPECTED, MIX, step=93)
    assert (found.status, found.step) == ("pass", 93)
    assert found.text == "drawn in the first 94 steps (12000 samples): nad 35.0 %, osm 33.3 %, gn 31.7 %"


def test_a_mix_that_is_not_drawn_is_no_fair_rehearsal() -> None:
    """`invalid`, before anything the loss says."""
    found = mix_drawn(Seen({"nad": 6200, "osm": 3000, "gn": 2800}), EXPECTED, MIX, step=93)
    assert (found.status, found.reason, found.bound) == ("fail", "drawn", EXPECTED)
    assert found.text.startswith("source 'nad' is 51.7 % of the 12000 samples drawn, not the expected 35.0 %")
    unstable = Finding(id="loss-trend", status="fail", reason="rise", text="")
    assert decide([unstable, found]).word == "invalid"


def test_without_a_mix_a_dominant_source_only_warns() -> None:
    """And the shares are told where none dominates."""
    skewed = mix_drawn(Seen({"nad": 9000, "osm": 3000}), None, None, step=9)
    assert (skewed.status, skewed.reason) == ("warn", "dominant")
    even = mix_drawn(Seen({"nad": 4000, "osm": 4000, "gn": 4000}), None, None, step=9)
    assert (even.status, even.bound) == ("pass", None)
