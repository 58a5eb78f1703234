"""What kinds of mistakes a tagger makes, for scripts: `report = diagnose(rows)`, `compare(old, new)`.

A row is `{"raw": text, "gold": VALUES, "pred": VALUES}` with VALUES a list of `{"tag", "start", "end"}` or
`[start, end, tag]`, or a mapping of tags to a value, a list of values or None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_smoke.errors import ExamplesError
from pytest_smoke.ner.buckets import BUCKETS, classify_error, matching_buckets
from pytest_smoke.ner.comparison import Change, Comparison, compare
from pytest_smoke.ner.examples import read_rows, trim_predictions
from pytest_smoke.ner.report_text import comparison_text, report_text
from pytest_smoke.ner.tally import Errors, Report, Sample, TagReport, report_of

__all__ = [
    "BUCKETS",
    "Change",
    "Comparison",
    "Errors",
    "ExamplesError",
    "Report",
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
) -> Report:
    """The errors of the rows by tag and bucket, with the first `samples` of each bucket.

    `trim` shrinks every predicted span with `trim_boundary` first and drops what trims to nothing.
    Raises `ExamplesError`, a ValueError with a line for each row that cannot be read.
    """
    examples = read_rows(rows)
    if trim:
        examples = [trim_predictions(example, keep_full_stop=keep_full_stop) for example in examples]
    return report_of(examples, samples=samples)
