"""Reports and comparisons as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_smoke.ner.buckets import BUCKETS
from pytest_smoke.ner.comparison import BucketChange, ErrorComparison
from pytest_smoke.ner.tally import ErrorReport, Sample, TagReport
from pytest_smoke.text import count, percent, table

_TEXT_WIDTH = 100
"""Characters of an example's text that are printed."""
_HEADER = ("bucket", "FN", "share of FN", "share of gold", "FP", "share of FP", "share of predicted", "FN also in")
_CHANGE_HEADER = ("bucket", "FN, share of gold", "95 % interval", "FP, share of predicted", "95 % interval")
_MEANINGS = {
    "non_latin": "the text has a letter of another script than Latin",
    "case_only": "only upper and lower case differ",
    "bio_slip": "the span has wrong boundaries: one value contains the other",
    "empty_pred": "nothing was predicted",
    "num_confused": "the numbers differ",
    "other": "any other error",
}


def report_text(report: ErrorReport) -> str:
    """Render one table for all tags, then one per tag, each with examples, then what the buckets mean."""
    blocks = [_block(tag) for tag in (report.total, *report.tags)]
    if legend := [f"  {bucket}: {_MEANINGS[bucket]}" for bucket in BUCKETS if _has_errors(report.total, bucket)]:
        blocks.append(
            ["FN: false negatives, FP: false positives; an error counts in the first bucket it fits", *legend]
        )
    return "\n\n".join([count(report.examples, "example"), *("\n".join(block) for block in blocks)])


def comparison_text(comparison: ErrorComparison) -> str:
    """Render the changes of all tags, then per tag those of buckets whose counts changed.

    Lines below a table name the buckets that changed only among errors that an earlier bucket
    counts, too.
    """
    lines = [
        "shares before -> after, and the 95 % interval of the change in percentage points; "
        "* marks changes beyond chance",
        "",
    ]
    lines += _changes_of("", [change for change in comparison.changes if not change.tag])
    for name in dict.fromkeys(change.tag for change in comparison.changes if change.tag):
        of_tag = [change for change in comparison.changes if change.tag == name]
        changed = {change.bucket for change in of_tag if change.before.count != change.after.count}
        lines += ["", *_changes_of(name, [change for change in of_tag if change.bucket in changed])] if changed else []
    if tags := comparison.tags_with_other_gold:
        lines += ["", f"the number of gold values differs between the runs: {', '.join(map(_name, tags))}"]
    return "\n".join(lines)


def _block(report: TagReport) -> list[str]:
    fn, fp = report.fn, report.fp
    title = f"{_name(report.tag)}: {fn.spans} gold, {fp.spans} predicted, {report.correct} correct"
    rows = [
        (
            bucket,
            str(fn.first[bucket]),
            _percent(fn.share_of_errors(bucket)),
            _percent(fn.share_of_spans(bucket)),
            str(fp.first[bucket]),
            _percent(fp.share_of_errors(bucket)),
            _percent(fp.share_of_spans(bucket)),
            ", ".join(f"{later} {amount}" for later, amount in fn.also.get(bucket, {}).items()),
        )
        for bucket in BUCKETS
        if _has_errors(report, bucket)
    ]
    if not rows:
        return [title]
    samples = [line for bucket, found in report.samples.items() for line in _samples(bucket, found)]
    return [title, *table([_HEADER, *rows], right=range(1, len(_HEADER) - 1), indent="  "), *samples]


def _has_errors(report: TagReport, bucket: str) -> bool:
    return bool(report.fn.first[bucket] or report.fp.first[bucket])


def _samples(bucket: str, samples: Sequence[Sample]) -> Iterator[str]:
    yield f"  {bucket}, for example:"
    for sample in samples:
        if sample.gold is None:
            yield f"    {sample.place}: {sample.pred!r} predicted, gold has none"
        else:
            pred = "nothing" if sample.pred is None else repr(sample.pred)
            yield f"    {sample.place}: {sample.gold!r} predicted as {pred}"
        yield f"      in {_shortened(sample.raw)}"


def _changes_of(tag: str, changes: Sequence[BucketChange]) -> Iterator[str]:
    yield _name(tag)
    by_key = {
        (change.bucket, change.measure): change for change in changes if change.before.count or change.after.count
    }
    rows = [
        (bucket, *_change(by_key.get((bucket, "fn"))), *_change(by_key.get((bucket, "fp"))))
        for bucket in BUCKETS
        if (bucket, "fn") in by_key or (bucket, "fp") in by_key
    ]
    if rows:
        yield from table([_CHANGE_HEADER, *rows], indent="  ")
    else:
        yield "  no errors"
    for bucket in BUCKETS:
        first, matching = by_key.get((bucket, "fn")), by_key.get((bucket, "matching"))
        if matching and matching.beyond_noise and not (first and first.beyond_noise):
            yield f"  {bucket}, including errors counted under an earlier bucket: {'  '.join(_change(matching))}"


def _change(change: BucketChange | None) -> tuple[str, str]:
    """Return the shares and the interval of a change."""
    if change is None:
        return "", ""
    shares = f"{_percent(change.before.value)} -> {_percent(change.after.value)}"
    if change.interval is None:
        return shares, ""
    low, high = (f"{100 * bound:+.1f}" for bound in change.interval)
    return shares, f"({low} to {high}){' *' if change.beyond_noise else ''}"


def _name(tag: str) -> str:
    return (tag if tag.isprintable() else repr(tag)) or "all tags"


def _percent(share: float | None) -> str:
    return "-" if share is None else percent(share, decimals=1)


def _shortened(text: str) -> str:
    return repr(text if len(text) <= _TEXT_WIDTH else f"{text[:_TEXT_WIDTH]}...")
