"""The `supervised-tokens` check."""

from __future__ import annotations

import pytest

from pytest_smoke.events import SupervisedItems
from pytest_smoke.judge.checks.supervised_tokens import supervised_tokens
from pytest_smoke.outcome import Finding
from tests.judge.checks.cases import case
from tests.judge.checks.findings import FakeRun, FakeStage


def finding_of(counts: dict[str, float] | None = None, **sources: dict[str, int]) -> Finding | None:
    one = case()
    names = ("samples", "empty", "items", "labelled")
    figures = {name: {source: seen[name] for source, seen in sources.items()} for name in names}
    event = SupervisedItems(step=0, counts=counts or {}, **figures)
    found = list(supervised_tokens(FakeRun(one, [FakeStage(one.stages[0])]), [event] * 2))
    return found[0] if found else None


def labels(**changes: int) -> dict[str, int]:
    return {"samples": 100, "empty": 0, "items": 2000, "labelled": 300, **changes}


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (labels(), ""),
        (labels(labelled=2000), ""),
        (labels(labelled=19), "few-labels"),
        (labels(labelled=0, empty=100), "few-labels"),
        (labels(empty=5), "samples-without-label"),
        (labels(empty=4), ""),
        (labels(samples=5, empty=1), None),
    ],
)
def test_labels_near_zero_and_samples_without_any_are_warned_about(seen: dict[str, int], reason: str | None) -> None:
    finding = finding_of(web=seen)
    assert (finding.reason if finding else None) == reason
    assert finding is None or finding.status in ("pass", "warn")


def test_a_source_without_labels_is_named_even_if_the_others_have_enough() -> None:
    finding = finding_of(web=labels(labelled=1000), code=labels(labelled=2))
    assert finding is not None
    assert (finding.reason, finding.text) == (
        "few-labels",
        "hardly any item has a label: 0.1 % of source 'code' in the first 2 steps",
    )
    finding = finding_of(web=labels(), code=labels(empty=50))
    assert finding is not None
    assert "100 of 200 of source 'code'" in finding.text


@pytest.mark.parametrize(("counts", "reason"), [(5.0, ""), (100.0, ""), (120.0, ""), (1500.0, "")])
def test_a_count_of_at_most_one_item_a_sample_is_the_default(counts: float, reason: str) -> None:
    finding = finding_of({"ce": counts}, web=labels(items=10**4, labelled=3000))
    assert finding is not None
    assert finding.reason == reason


def test_counts_show_another_ignored_label_than_that_of_torch() -> None:
    """All labels count as labels then, but the term is a mean over few of them."""
    finding = finding_of({"ce": 150.0}, web=labels(items=10**5, labelled=10**5))
    assert finding is not None
    assert (finding.reason, "0.1 % for the term ce" in finding.text or finding.text) == ("few-labels", True)
