"""The registry of checks: its rows, and the checks that plugins add to it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from pytest_smoke.errors import SmokeError
from pytest_smoke.events import Event, Metrics
from pytest_smoke.judge.checks.check import Check, Reason, RunView, When
from pytest_smoke.judge.checks.registry import CHECK_FAILED, CHECKS, DEFAULT, Registry
from pytest_smoke.judge.verdict import decide, verdict_of
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe
from tests.judge.checks.cases import case
from tests.judge.checks.findings import FakeRun, FakeStage, findings
from tests.judge.registered import is_registered

KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def repeated(seen: Sequence[object]) -> list[object]:
    return [item for item, amount in Counter(seen).items() if amount > 1]


# rows


def test_check_ids_are_unique_kebab_case_phrases() -> None:
    assert repeated([check.id for check in CHECKS]) == []
    assert [check.id for check in CHECKS if not KEBAB.fullmatch(check.id)] == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_row_says_what_it_asks_when_and_every_reason(check: Check) -> None:
    assert check.question.endswith("?")
    assert check.when in get_args(When)
    assert check.reasons
    assert repeated([(reason.id, reason.status) for reason in check.reasons]) == []
    for reason in check.reasons:
        assert KEBAB.fullmatch(reason.id), reason.id
        assert reason.when, reason.id
        assert not reason.when.endswith("."), reason.when
        assert reason.verdict is None or reason.status == "fail"
        assert reason.status != "fail" or check.id not in reason.yields_to


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_that_can_fail_has_a_verdict_and_a_key_and_an_advisory_has_no_failure(check: Check) -> None:
    can_fail = any(reason.status == "fail" for reason in check.reasons)
    assert can_fail == (check.verdict is not None)
    assert check.key or not can_fail
    assert check.verdict is not None or not (check.stops_run or check.decides_first)


def test_every_key_is_one_that_a_recipe_can_have() -> None:
    sections = set(Recipe.model_fields)
    assert [check.id for check in CHECKS if check.key and check.key.partition(".")[0] not in sections] == []


def test_every_reason_yields_to_checks_that_exist() -> None:
    known = {check.id for check in CHECKS} | {"*"}
    assert [reason.id for check in CHECKS for reason in check.reasons if not known >= set(reason.yields_to)] == []


def test_one_reason_means_one_thing_in_all_checks() -> None:
    """No reason is a failure that leads to two verdicts, except those that say what is missing or not finite."""
    verdicts: dict[str, set[str]] = {}
    for check in CHECKS:
        for reason in check.reasons:
            if reason.status == "fail":
                verdicts.setdefault(reason.id, set()).add(reason.verdict or check.verdict or "")
    ambiguous = {reason for reason, words in verdicts.items() if len(words) > 1}
    assert ambiguous == {
        "non-finite",  # of the loss: unstable; of a criterion's metric, or after training: hold
        "missing-metric",  # in the baseline: invalid; before the first step: error; later: hold
        "missing-baseline",  # the same
        *("exception", "out-of-memory", "invalid-task", "crash"),  # during training: error; in the pipeline: hold
    }


# findings


def test_every_finding_is_in_its_row_and_leads_to_the_verdict_of_the_row(tmp_path: Path) -> None:
    stable = Finding(id="loss-trend", status="pass", text="no rise")
    for finding in findings(tmp_path):
        assert is_registered(finding), f"{finding.id}, {finding.status}, {finding.reason!r}"
        row = DEFAULT.row(finding)
        assert row is not None
        reason = row.reason(finding.reason, finding.status)
        expected = {
            "pass": None,
            "warn": None,
            "fail": (reason.verdict if reason else None) or row.verdict,
            "not-checked": "inconclusive",
        }[finding.status]
        assert verdict_of(finding, [finding]) == expected, finding
        others = [stable] if finding.check != "loss-trend" else []
        assert decide([*others, finding]).word == (expected or "promote")


def test_a_reason_that_the_row_does_not_have_is_found() -> None:
    assert not is_registered(Finding(id="schedule", status="fail", reason="unheard-of", text=""))
    assert not is_registered(Finding(id="schedule", status="warn", reason="masked", text=""))
    assert not is_registered(Finding(id="schedule", status="fail", text=""))
    assert not is_registered(Finding(id="unknown", status="pass", text=""))


def test_a_finding_without_a_key_gets_that_of_its_check_and_keeps_its_own() -> None:
    own = Finding(id="schedule", status="fail", reason="masked", text="", key="smoke.lr_schedule")
    without = replace(own, key="")
    assert [finding.key for finding in DEFAULT.completed([own])] == ["smoke.lr_schedule"]
    assert [finding.key for finding in DEFAULT.completed([without])] == ["smoke"]


def test_findings_are_listed_in_the_order_of_the_checks_and_stage_by_stage() -> None:
    ids = ["loss-trend[B]", "run", "finite[A]", "updates[A]", "finite[B]", "updates[B]", "loss-trend[A]", "schedule"]
    listed = DEFAULT.completed([Finding(id=id_, status="pass", text="") for id_ in ids])
    assert [finding.id for finding in listed] == [
        "schedule",
        "run",
        *("finite[A]", "loss-trend[A]", "finite[B]", "loss-trend[B]"),
        *("updates[A]", "updates[B]"),
    ]


# checks of plugins


def too_slow(case: Case) -> Iterator[Finding]:
    """Fail if the learning rate is below 1e-3."""
    if case.settings.learning_rate < 1e-3:
        yield Finding(id="team-rate", status="fail", reason="rate-too-low", text="the team's rule is 0.001 or more")
    else:
        yield Finding(id="team-rate", status="pass", text="the learning rate is 0.001 or more")


TEAM_RATE = Check(
    id="team-rate",
    question="Is the learning rate one that the team uses?",
    when="preflight",
    verdict="invalid",
    key="full.learning_rate",
    reasons=(Reason(id="rate-too-low", status="fail", when="it is below 0.001"),),
    before_run=too_slow,
)


def explode(*_: Any) -> Iterator[Finding]:
    raise RuntimeError("no such file: limits.json")
    yield


def test_the_check_of_a_plugin_decides_like_any_other() -> None:
    registry = Registry([TEAM_RATE])
    made = registry.completed(registry.before_run(case()))
    verdict = decide(made, registry)
    assert (verdict.word, verdict.reason, verdict.decided_by) == ("invalid", "rate-too-low", "team-rate")
    assert made[-1].key == "full.learning_rate"
    assert [finding.status for finding in registry.before_run(case(full={"learning_rate": 2e-3}))][-1] == "pass"


def run_view(*events: Event) -> RunView:
    run = FakeRun(case(), [FakeStage(case().stages[0])], complete=True)
    run.events = lambda kind: [event for event in events if isinstance(event, kind)]  # type: ignore[method-assign]
    return run


@pytest.mark.parametrize("when", ["before_run", "on_event", "at_end"])
@pytest.mark.parametrize("broken", [explode, lambda *_: None, lambda *_: ["not a finding"]])
def test_a_check_of_a_plugin_that_raises_or_yields_no_finding_is_not_checked(when: str, broken: Any) -> None:
    makes = {"before_run": None} | {when: (Metrics, broken) if when == "on_event" else broken}
    check = replace(TEAM_RATE, **makes)
    registry = Registry([check])
    event = Metrics(3, {"f1": 0.5})
    made = {
        "before_run": lambda: registry.before_run(case()),
        "on_event": lambda: registry.on_event(event, run_view(event)),
        "at_end": lambda: registry.at_end(run_view(event), when=[check.when]),
    }[when]()
    (finding,) = [finding for finding in made if finding.check == "team-rate"]
    assert (finding.status, finding.reason) == ("not-checked", CHECK_FAILED.id)
    assert finding.text.startswith("the check raised ")
    stable = Finding(id="loss-trend", status="pass", text="no rise")
    verdict = decide([stable, finding], registry)
    assert (verdict.word, verdict.reason) == ("inconclusive", "check-raised")


def test_the_sentence_of_a_check_that_raised_has_the_exception() -> None:
    registry = Registry([replace(TEAM_RATE, before_run=explode)])
    assert registry.before_run(case())[-1].text == "the check raised RuntimeError: no such file: limits.json"


def test_a_check_of_the_package_that_raises_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (replace(CHECKS[0], before_run=explode), *CHECKS[1:])
    monkeypatch.setattr("pytest_smoke.judge.checks.registry.CHECKS", broken)
    with pytest.raises(RuntimeError, match="no such file"):
        Registry().before_run(case())


def test_an_id_that_is_taken_is_refused_with_its_name() -> None:
    with pytest.raises(SmokeError, match="'schedule', which exists already"):
        Registry([replace(TEAM_RATE, id="schedule")])
    with pytest.raises(SmokeError, match="'team-rate', which exists already"):
        Registry([TEAM_RATE, TEAM_RATE])


def test_a_finding_under_the_id_of_another_check_is_not_accepted() -> None:
    """It would decide as that check does."""

    def disguised(_: Case) -> Iterator[Finding]:
        yield Finding(id="schedule", status="fail", reason="masked", text="")

    registry = Registry([replace(TEAM_RATE, before_run=disguised)])
    finding = registry.before_run(case())[-1]
    assert (finding.id, finding.status, finding.reason) == ("team-rate", "not-checked", "check-raised")
    assert finding.text == "the check raised ValueError: it made a finding with the id 'schedule', not 'team-rate'"
