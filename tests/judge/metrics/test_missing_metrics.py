"""Names in a recipe that the smoke run never recorded."""

from __future__ import annotations

from pytest_smoke.judge.metrics import advisories
from pytest_smoke.judge.metrics.missing_metrics import missing_metrics
from pytest_smoke.recipe.model import MetricSpec


def test_a_declared_metric_or_reference_that_evaluate_never_returned_warns() -> None:
    findings = advisories({"val_f1": [(1, 0.5)]}, {"val_f": MetricSpec(chance=0.0, against="tset_f1")}, full_steps=9)
    assert [(f.id, f.status, f.reason) for f in findings] == [("metrics", "warn", "missing-metric")]
    assert "names val_f and tset_f1, but evaluate() returned val_f1" in findings[0].text
    assert findings[0].hint.startswith("did you mean val_f1")


def test_a_full_run_criterion_on_an_unrecorded_metric_warns() -> None:
    assert missing_metrics(["f1 > 0.5", "max(loss) < 3"], ["loss", "f1"]) == []
    (finding,) = missing_metrics(["goal: val_ac > 0.9"], ["loss", "val_acc"])
    assert (finding.id, finding.status, finding.hint) == ("full-accept", "warn", "did you mean val_acc?")
    assert "checks.full_accept names val_ac, which this smoke run never recorded" in finding.text
    assert finding.text.endswith("it recorded loss and val_acc")
