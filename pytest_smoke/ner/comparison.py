"""Two runs' errors side by side, and which of the changes is more than noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, Literal

from pytest_smoke.ner.buckets import BUCKETS
from pytest_smoke.ner.tally import Errors, Report

_Z = NormalDist().inv_cdf(0.975)
"""95 %, both sides."""

Measure = Literal["fn", "fp", "matching"]
"""fn: false negatives of gold spans; fp: false positives of predicted spans; matching: false negatives that match the
bucket, first or not, of gold spans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So many of so many."""

    count: int
    of: int

    @property
    def value(self) -> float | None:
        """From 0 to 1; None of nothing."""
        return self.count / self.of if self.of else None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"count": self.count, "of": self.of, "share": self.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A bucket's share before and after."""

    tag: str
    """Empty: all tags."""
    bucket: str
    measure: Measure
    before: Share
    after: Share

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of after - before; None where one of both has no spans."""
        return difference_interval(self.before, self.after) if self.before.of and self.after.of else None

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "bucket": self.bucket,
            "measure": self.measure,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "interval": list(self.interval) if self.interval else None,
            "beyond_noise": self.beyond_noise,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs."""

    before: Report
    after: Report
    changes: tuple[Change, ...]
    """All tags first, then tags by name; in each the buckets in their order, and `fn`, `fp`, `matching` of each."""

    @property
    def other_gold(self) -> tuple[str, ...]:
        """Tags whose gold spans are not equally many: the runs were not evaluated on the same examples."""
        names = sorted({report.tag for report in (*self.before.tags, *self.after.tags)})
        return tuple(tag for tag in names if self.before.tag(tag).fn.spans != self.after.tag(tag).fn.spans)

    def to_json(self) -> dict[str, Any]:
        """Plain data, strict JSON."""
        tags: dict[str, list[dict[str, Any]]] = {}
        for change in self.changes:
            tags.setdefault(change.tag, []).append(change.to_json())
        everything = tags.pop("", [])
        return {"all": everything, "tags": tags, "other_gold": list(self.other_gold)}


def compare(before: Report, after: Report) -> Comparison:
    """Every bucket of every tag that either run has."""
    names = sorted({report.tag for report in (*before.tags, *after.tags)})
    changes = [*_changes("", before, after), *(change for name in names for change in _changes(name, before, after))]
    return Comparison(before=before, after=after, changes=tuple(changes))


def difference_interval(before: Share, after: Share) -> tuple[float, float]:
    """95 % interval of the difference of two independent proportions, after - before; both of at least one.

    Newcombe's hybrid score interval, method 10 of Interval estimation for the difference between independent
    proportions, Statistics in Medicine 17 (1998) 873-890: from each proportion p its Wilson bounds l, u;
    d - sqrt((p2 - l2)^2 + (u1 - p1)^2) to d + sqrt((u2 - p2)^2 + (p1 - l1)^2). It holds at 0 and 1 and for few spans.
    Two runs on the same examples are not independent but alike, so their difference is less noisy than this says.
    """
    (p1, l1, u1), (p2, l2, u2) = _wilson(before), _wilson(after)
    return p2 - p1 - sqrt((p2 - l2) ** 2 + (u1 - p1) ** 2), p2 - p1 + sqrt((u2 - p2) ** 2 + (p1 - l1) ** 2)


def _wilson(share: Share) -> tuple[float, float, float]:
    """The proportion and its score interval (Wilson, Journal of the American Statistical Association 22 (1927) 209)."""
    p, n = share.count / share.of, share.of
    centre = p + _Z**2 / (2 * n)
    spread = _Z * sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    # At 0 and n of n a bound is the proportion itself; rounding would leave it on the wrong side.
    low = 0.0 if share.count == 0 else (centre - spread) / scale
    high = 1.0 if share.count == n else (centre + spread) / scale
    return p, low, high


def _changes(tag: str, before: Report, after: Report) -> Iterator[Change]:
    old, new = (report.tag(tag) if tag else report.total for report in (before, after))
    for bucket in BUCKETS:
        sides: tuple[tuple[Measure, Errors, Errors], ...] = (("fn", old.fn, new.fn), ("fp", old.fp, new.fp))
        for measure, was, now in sides:
            shares = (Share(count=errors.first[bucket], of=errors.spans) for errors in (was, now))
            yield Change(tag=tag, bucket=bucket, measure=measure, before=next(shares), after=next(shares))
        yield Change(
            tag=tag,
            bucket=bucket,
            measure="matching",
            before=Share(count=old.fn.matching(bucket), of=old.fn.spans),
            after=Share(count=new.fn.matching(bucket), of=new.fn.spans),
        )
