"""Reports and comparisons as a person reads them in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_smoke.ner.buckets import BUCKETS
from pytest_smoke.ner.comparison import Change, Comparison
from pytest_smoke.ner.tally import Report, Sample, TagReport

_TEXT_WIDTH = 100
"""Characters of an example's text that are shown."""
_HEADER = ("", "FN", "of FN", "of gold", "FP", "of FP", "of predicted", "its FN also match")


def report_text(report: Report) -> str:
    """The table of all tags, then each tag's with its examples."""
    blocks = [_block(tag) for tag in (report.total, *report.tags)]
    count = report.examples
    return "\n\n".join([f"{count} example{'' if count == 1 else 's'}", *("\n".join(block) for block in blocks)])


def comparison_text(comparison: Comparison) -> str:
    """All tags, then each tag's buckets whose counts changed; below, shifts that the order of the buckets hides."""
    lines = ["before -> after, in brackets the 95 % interval of the change, * where it leaves 0 out", ""]
    lines += _changes_of("", [change for change in comparison.changes if not change.tag])
    for name in dict.fromkeys(change.tag for change in comparison.changes if change.tag):
        of_tag = [change for change in comparison.changes if change.tag == name]
        changed = {change.bucket for change in of_tag if change.before.count != change.after.count}
        lines += ["", *_changes_of(name, [change for change in of_tag if change.bucket in changed])] if changed else []
    if other := comparison.other_gold:
        lines += ["", f"not as many gold values before as after: {', '.join(map(_name, other))}"]
    return "\n".join(lines)


def _block(report: TagReport) -> list[str]:
    fn, fp = report.fn, report.fp
    title = f"{_name(report.tag)}: {fn.spans} gold, {fp.spans} predicted, {report.right} right"
    rows = [
        (
            bucket,
            str(fn.first[bucket]),
            _percent(fn.share_of_errors(bucket)),
            _percent(fn.share_of_spans(bucket)),
            str(fp.first[bucket]),
            _percent(fp.share_of_errors(bucket)),
            _percent(fp.share_of_spans(bucket)),
            ", ".join(f"{later} {count}" for later, count in fn.also.get(bucket, {}).items()),
        )
        for bucket in BUCKETS
        if fn.first[bucket] or fp.first[bucket]
    ]
    if not rows:
        return [title]
    samples = [line for bucket, kept in report.samples.items() for line in _samples(bucket, kept)]
    return [title, *_table([_HEADER, *rows]), *samples]


def _samples(bucket: str, samples: Sequence[Sample]) -> Iterator[str]:
    yield f"  {bucket}, for example"
    for sample in samples:
        if sample.gold is None:
            yield f"    {sample.place}: {sample.pred!r}, where there is none"
        else:
            pred = "nothing" if sample.pred is None else repr(sample.pred)
            yield f"    {sample.place}: {sample.gold!r} predicted as {pred}"
        yield f"      in {_cut(sample.raw)}"


def _changes_of(tag: str, changes: Sequence[Change]) -> Iterator[str]:
    yield _name(tag)
    of = {(change.bucket, change.measure): change for change in changes if change.before.count or change.after.count}
    rows = [
        (bucket, *_change(of.get((bucket, "fn"))), *_change(of.get((bucket, "fp"))))
        for bucket in BUCKETS
        if (bucket, "fn") in of or (bucket, "fp") in of
    ]
    if rows:
        yield from _table([("", "FN of gold", "", "FP of predicted", ""), *rows], right=False)
    else:
        yield "  no errors"
    for bucket in BUCKETS:
        first, hidden = of.get((bucket, "fn")), of.get((bucket, "matching"))
        if hidden and hidden.beyond_noise and not (first and first.beyond_noise):
            yield f"  {bucket}, with those counted under an earlier bucket: {'  '.join(_change(hidden))}"


def _change(change: Change | None) -> tuple[str, str]:
    """The shares and the interval."""
    if change is None:
        return "", ""
    shares = f"{_percent(change.before.value)} -> {_percent(change.after.value)}"
    if change.interval is None:
        return shares, ""
    low, high = (f"{100 * bound:+.1f}" for bound in change.interval)
    return shares, f"({low} to {high}){' *' if change.beyond_noise else ''}"


def _table(rows: Sequence[Sequence[str]], *, right: bool = True) -> list[str]:
    """Columns of text; the first and the last are flush left, those between flush right where `right`."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    middle = range(1, len(widths) - 1) if right else range(0)
    lines = (
        "  ".join(
            cell.rjust(width) if column in middle else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return [f"  {line}".rstrip() for line in lines]


def _name(tag: str) -> str:
    return (tag if tag.isprintable() else repr(tag)) or "all tags"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _cut(text: str) -> str:
    return repr(text if len(text) <= _TEXT_WIDTH else f"{text[:_TEXT_WIDTH]}...")
