"""The `metric-names` check: what criteria name must exist before the first step."""

from __future__ import annotations

import pytest

from pytest_smoke.events import InitialMetrics
from pytest_smoke.judge.checks.accept import metric_names
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.recipe.case import Case
from tests.judge.checks.findings import FakeRun, FakeStage, staged_case, with_checks


def status_of(case: Case, *, values: tuple[str, ...] = ("val_f1",), terms: tuple[str, ...] = ("ce",)) -> str:
    event = InitialMetrics(values=dict.fromkeys(values, 0.1), terms=terms)
    found = list(metric_names(FakeRun(case, [FakeStage(case.stages[0])]), [event]))
    return found[0].status if found else "none"


@pytest.mark.parametrize(
    ("criterion", "status"),
    [
        ("val_f1 > 0.6", "pass"),
        ("val_f > 0.6", "fail"),
        ("max(ce) < 9", "pass"),
        ("max(loss - val_f1) < 9 by step 20", "pass"),
        ("max(loss - val_fl) < 9 by step 20", "fail"),
        ("last(probe_loss) < first(grad_norm)", "pass"),
        ("health: last(lr) > 0", "pass"),
    ],
)
def test_a_name_is_looked_up_among_metrics_terms_and_recorded_series(criterion: str, status: str) -> None:
    assert status_of(with_checks(accept=[criterion])) == status


def test_a_recipe_without_criteria_has_no_finding() -> None:
    assert status_of(with_checks()) == "none"


def test_of_stages_only_the_first_is_looked_at_because_later_ones_may_bring_metrics_and_terms() -> None:
    assert status_of(staged_case()) == "pass"
    assert status_of(staged_case(), values=("val_acc",)) == "fail"
    assert status_of(staged_case(checks={"accept": ["val_bleu > 0.1"]})) == "pass"


def test_the_values_of_the_untrained_model_are_in_no_criterion() -> None:
    """`min(val_f1)` and `val_f1 > 0.2 by step 10` are about the training, not about what came before it."""
    monitor = RunMonitor(with_checks(accept=["min(val_f1) > 0.2"]), early_stop=True)
    monitor.on_events([InitialMetrics(values={"val_f1": 0.9}, terms=("ce",))])
    assert "val_f1" not in monitor.series()
    assert monitor.trace.initial_metrics == {"val_f1": 0.9}
    assert not monitor.stopped_because


def test_a_misspelt_metric_stops_the_run() -> None:
    monitor = RunMonitor(with_checks(accept=["val_f > 0.2"]), early_stop=True)
    monitor.on_events([InitialMetrics(values={"val_f1": 0.9}, terms=("ce",))])
    assert monitor.stopped_because == "the check metric-names failed"
