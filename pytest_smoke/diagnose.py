"""The kinds of errors that a tagger makes, for scripts: `report = diagnose(rows)`, `compare(old, new)`.

A row is `{"raw": text, "gold": VALUES, "pred": VALUES}`. VALUES is a list of `{"tag", "start", "end"}` or
`[start, end, tag]`, or a mapping from tags to a value, a list of values or None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_smoke.errors import ExamplesError
from pytest_smoke.ner.buckets import BUCKETS, classify_error, matching_buckets
from pytest_smoke.ner.comparison import BucketChange, ErrorComparison, compare
from pytest_smoke.ner.examples import read_rows, trim_predictions
from pytest_smoke.ner.report_text import comparison_text, report_text
from pytest_smoke.ner.tally import ErrorCounts, ErrorReport, Sample, TagReport, report_of

__all__ = [
    "BUCKETS",
    "BucketChange",
    "ErrorComparison",
    "ErrorCounts",
    "ErrorReport",
    "ExamplesError",
    "Sample",
    "TagReport",
    "classify_error",
    "compare",
    "comparison_text",
    "diagnose",
    "matching_buckets",
    "report_text",
]


def diagnose(
    rows: Iterable[Mapping[str, Any]], *, samples: int = 3, trim: bool = False, keep_full_stop: bool = False
) -> ErrorReport:
    """Count the errors of all rows by tag and bucket, and keep the first `samples` of each bucket.

    `trim` shrinks each predicted span with `trim_boundary` first, and drops spans that have no letters and numbers;
    `keep_full_stop` is passed on to it. Raises ExamplesError, a ValueError with one line per faulty row.
    """
    examples = read_rows(rows)
    if trim:
        examples = [trim_predictions(example, keep_full_stop=keep_full_stop) for example in examples]
    return report_of(examples, samples=samples)
