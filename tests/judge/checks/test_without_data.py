"""Checks that what trains gives no data for: which of them stand against a promotion."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from pytest_smoke.events import Ended, NotChecked, Step
from pytest_smoke.judge.checks.registry import CHECKS, DEFAULT
from pytest_smoke.judge.verdict import decide
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.model import Checks
from tests.judge.checks.findings import with_checks

STABLE = Finding(id="loss-trend", status="pass", text="no rise")


def without_data(check_id: str, **checks: Any) -> Finding:
    """Return the finding of a check for which the run reported that it has no data."""
    monitor = RunMonitor(with_checks(**checks), early_stop=True)
    monitor.on_events([NotChecked(reasons={check_id: "the log does not show it"})])
    (finding,) = DEFAULT.without_data(monitor)
    assert finding.id == check_id
    return finding


@pytest.mark.parametrize("check_id", ["updates", "learning", "batch-drawn", "grad-ratio", "resume", "pipeline"])
def test_a_check_without_data_says_why_and_leaves_a_promotion_possible(check_id: str) -> None:
    finding = without_data(check_id)
    assert (finding.status, finding.reason) == ("not-checked", "no-data")
    assert finding.text == "not checked: the log does not show it"
    assert decide([STABLE, finding]).word == "promote"


@pytest.mark.parametrize(
    ("check_id", "checks"),
    [
        ("schedule", {}),
        ("finite", {}),
        ("accept", {}),
        ("grad-ratio", {"grad_ratio": {"a/b": [0.1, 8]}}),
        ("resume", {"resume": True}),
    ],
)
def test_a_check_that_a_promotion_needs_or_the_recipe_asks_for_is_inconclusive_without_data(
    check_id: str, checks: dict[str, Any]
) -> None:
    finding = without_data(check_id, **checks)
    assert (finding.status, finding.reason) == ("not-checked", "unverified")
    verdict = decide([STABLE, finding])
    assert (verdict.word, verdict.decided_by) == ("inconclusive", check_id)


def test_the_recipe_can_accept_an_unverified_schedule() -> None:
    finding = without_data("schedule", accept_unverified=["schedule"])
    assert (finding.status, finding.reason) == ("warn", "accepted-unverified")
    assert finding.text == "not checked: the log does not show it; checks.accept_unverified accepts it"
    assert decide([STABLE, finding]).word == "promote"


def test_only_checks_that_a_promotion_needs_can_be_accepted_unverified() -> None:
    """Any other one leaves a promotion possible anyway."""
    (choices,) = get_args(Checks.model_fields["accept_unverified"].annotation)
    needed = {check.id for check in CHECKS if check.needed is not None and check.needed(with_checks())}
    assert set(get_args(choices)) <= needed


def test_a_check_without_data_is_not_made_at_the_end_and_reasons_of_several_events_add_up() -> None:
    monitor = RunMonitor(with_checks(), early_stop=True)
    monitor.on_events([NotChecked(reasons={"updates": "first"})])
    monitor.on_events([Step(0, 1.0, {}, 1.0, 0.0), NotChecked(reasons={"learning": "second"}), Ended(1, 1.0, None)])
    assert not {"updates", "learning"} & {finding.check for finding in DEFAULT.at_end(monitor)}
    assert [(one.id, one.text) for one in DEFAULT.without_data(monitor)] == [
        ("learning", "not checked: second"),
        ("updates", "not checked: first"),
    ]
