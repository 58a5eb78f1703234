"""The `prediction-errors` report: which kinds of mistakes a tagger's predictions contain. It never fails."""

from __future__ import annotations

from pytest_smoke.judge.checks.check import Check, Reason
from pytest_smoke.ner.tally import ErrorCounts, ErrorReport
from pytest_smoke.outcome import Finding
from pytest_smoke.text import count, percent


def prediction_errors(report: ErrorReport) -> Finding:
    """Count missed and wrong spans by bucket, largest first; the whole report is in the data."""
    total = report.total
    missed, wrong = _shares(total.fn, "gold spans missed"), _shares(total.fp, "predicted spans wrong")
    text = f"{count(report.examples, 'example')}: {missed}; {wrong}"
    return Finding(id=CHECK.id, status="pass", text=text, data=report.to_dict())


def unreadable_predictions(problem: str) -> Finding:
    """Return the finding of predictions in an unknown form."""
    hint = (
        "predictions(model) must yield rows {'raw': text, 'gold': spans, 'pred': spans}, as "
        "`python -m pytest_smoke diagnose` reads them"
    )
    return Finding(id=CHECK.id, status="warn", reason="unreadable-predictions", text=problem, hint=hint)


def _shares(errors: ErrorCounts, what: str) -> str:
    if not errors.count:
        return f"none of {errors.spans:,} {what}"
    largest = sorted(((amount, bucket) for bucket, amount in errors.first.items() if amount), key=lambda one: -one[0])
    parts = ", ".join(f"{bucket} {percent(amount / errors.spans)}" for amount, bucket in largest)
    return f"{errors.count:,} of {errors.spans:,} {what} ({percent(errors.count / errors.spans)}: {parts})"


CHECK = Check(
    id="prediction-errors",
    question="Which kinds of mistakes do the task's predictions contain?",
    when="after training",
    verdict=None,
    reasons=(Reason(id="unreadable-predictions", status="warn", when="the predictions have an unknown form"),),
)
