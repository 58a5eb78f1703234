"""The errors of two runs, and which changes are larger than chance explains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, Literal

from pytest_smoke.ner.buckets import BUCKETS
from pytest_smoke.ner.tally import ErrorCounts, ErrorReport

_Z = NormalDist().inv_cdf(0.975)
"""Two-sided 95 %."""

Measure = Literal["fn", "fp", "matching"]
"""`fn`: false negatives per gold span. `fp`: false positives per predicted span. `matching`: false negatives per gold
span that match the bucket, as the first or a later one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A count and its total."""

    count: int
    of: int

    @property
    def value(self) -> float | None:
        """From 0 to 1; None if the total is 0."""
        return self.count / self.of if self.of else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"count": self.count, "of": self.of, "share": self.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketChange:
    """The share of one bucket before and after."""

    tag: str
    """Empty for all tags."""
    bucket: str
    """One of `BUCKETS`."""
    measure: Measure
    """`fn`: false negatives per gold span. `fp`: false positives per predicted span. `matching`: false negatives per
    gold span that match the bucket, as the first or a later one."""
    before: Share
    """Errors and spans of the first run."""
    after: Share
    """Errors and spans of the second run."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of after - before; None if one of the two has no spans."""
        return difference_interval(self.before, self.after) if self.before.of and self.after.of else None

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval does not contain 0."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "bucket": self.bucket,
            "measure": self.measure,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "interval": list(self.interval) if self.interval else None,
            "beyond_noise": self.beyond_noise,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorComparison:
    """The errors of two runs."""

    before: ErrorReport
    """Errors of the first run."""
    after: ErrorReport
    """Errors of the second run."""
    changes: tuple[BucketChange, ...]
    """For all tags, then by sorted tag: each bucket in order, with `fn`, `fp` and `matching`."""

    @property
    def tags_with_other_gold(self) -> tuple[str, ...]:
        """Tags with another number of gold spans: the runs were not evaluated on the same examples."""
        names = sorted({report.tag for report in (*self.before.tags, *self.after.tags)})
        return tuple(tag for tag in names if self.before.tag(tag).fn.spans != self.after.tag(tag).fn.spans)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        tags: dict[str, list[dict[str, Any]]] = {}
        for change in self.changes:
            tags.setdefault(change.tag, []).append(change.to_dict())
        all_tags = tags.pop("", [])
        return {"all": all_tags, "tags": tags, "tags_with_other_gold": list(self.tags_with_other_gold)}


def compare(before: ErrorReport, after: ErrorReport) -> ErrorComparison:
    """Compare every bucket of every tag that at least one run has."""
    names = sorted({report.tag for report in (*before.tags, *after.tags)})
    changes = [*_changes("", before, after), *(change for name in names for change in _changes(name, before, after))]
    return ErrorComparison(before=before, after=after, changes=tuple(changes))


def difference_interval(before: Share, after: Share) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two independent proportions, after - before.

    Newcombe's hybrid score interval, method 10 of Interval estimation for the difference between independent
    proportions, Statistics in Medicine 17 (1998) 873-890: from each proportion p its Wilson bounds l, u;
    d - sqrt((p2 - l2)^2 + (u1 - p1)^2) to d + sqrt((u2 - p2)^2 + (p1 - l1)^2). It is also valid near 0 and 1 and for
    few spans. Both totals must be at least 1. Two runs on the same examples are correlated, so the interval is too wide
    for them.
    """
    (p1, l1, u1), (p2, l2, u2) = _wilson(before), _wilson(after)
    return p2 - p1 - sqrt((p2 - l2) ** 2 + (u1 - p1) ** 2), p2 - p1 + sqrt((u2 - p2) ** 2 + (p1 - l1) ** 2)


def _wilson(share: Share) -> tuple[float, float, float]:
    """Return a proportion and its score interval (Wilson, J. American Statistical Association 22 (1927) 209)."""
    p, n = share.count / share.of, share.of
    centre = p + _Z**2 / (2 * n)
    spread = _Z * sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    # At 0 and at n of n, one bound is the proportion itself; rounding could put it on the wrong side.
    low = 0.0 if share.count == 0 else (centre - spread) / scale
    high = 1.0 if share.count == n else (centre + spread) / scale
    return p, low, high


def _changes(tag: str, before: ErrorReport, after: ErrorReport) -> Iterator[BucketChange]:
    old, new = (report.tag(tag) if tag else report.total for report in (before, after))
    for bucket in BUCKETS:
        sides: tuple[tuple[Measure, ErrorCounts, ErrorCounts], ...] = (("fn", old.fn, new.fn), ("fp", old.fp, new.fp))
        for measure, old_errors, new_errors in sides:
            first, second = (Share(count=errors.first[bucket], of=errors.spans) for errors in (old_errors, new_errors))
            yield BucketChange(tag=tag, bucket=bucket, measure=measure, before=first, after=second)
        yield BucketChange(
            tag=tag,
            bucket=bucket,
            measure="matching",
            before=Share(count=old.fn.matching(bucket), of=old.fn.spans),
            after=Share(count=new.fn.matching(bucket), of=new.fn.spans),
        )
