"""The reading of a tagger's errors: which kinds, how many."""

from __future__ import annotations

from pytest_smoke.ner.tally import Errors, Report
from pytest_smoke.outcome import Finding

ERRORS = "errors"
"""The finding's id. It decides nothing: what must hold is a criterion."""


def errors(report: Report) -> Finding:
    """What was missed and what was invented, by bucket, largest first; the whole report in the data."""
    total = report.total
    examples = f"{report.examples} example{'s' * (report.examples != 1)}"
    text = f"{examples}: {_said(total.fn, 'gold spans missed')}; {_said(total.fp, 'predicted wrongly')}"
    return Finding(id=ERRORS, status="pass", text=text, data=report.to_json())


def unreadable(why: str) -> Finding:
    """Predictions in no form that is known."""
    hint = "rows are {'raw': text, 'gold': spans, 'pred': spans}, as `python -m pytest_smoke diagnose` takes them"
    return Finding(id=ERRORS, status="warn", reason="malformed", text=why, hint=hint)


def _said(errors: Errors, what: str) -> str:
    if not errors.count:
        return f"none of {errors.spans} {what}"
    largest = sorted(((count, bucket) for bucket, count in errors.first.items() if count), key=lambda one: -one[0])
    parts = ", ".join(f"{bucket} {100 * count / errors.spans:.1f} %" for count, bucket in largest)
    return f"{errors.count} of {errors.spans} {what} ({100 * errors.count / errors.spans:.1f} %: {parts})"
