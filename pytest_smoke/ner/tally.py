"""Counts of a tagger's errors by bucket and tag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_smoke.ner.buckets import BUCKETS, matching_buckets
from pytest_smoke.ner.examples import Example
from pytest_smoke.ner.pairing import Pair, pairs_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCounts:
    """The false negatives among gold spans, or the false positives among predicted spans."""

    spans: int
    """Number of gold spans (for false negatives) or predicted spans (for false positives)."""
    first: Mapping[str, int]
    """Number of errors by the first bucket that they match; every bucket is a key."""
    also: Mapping[str, Mapping[str, int]]
    """Number of errors of a bucket that also match a later one, by bucket and later bucket; without zeros."""

    @property
    def count(self) -> int:
        """Number of all errors."""
        return sum(self.first.values())

    def matching(self, bucket: str) -> int:
        """Return the number of errors that match a bucket, as the first or a later one."""
        return self.first[bucket] + sum(later.get(bucket, 0) for later in self.also.values())

    def share_of_errors(self, bucket: str) -> float | None:
        """Return the share of a bucket in all errors; None without errors."""
        return self.first[bucket] / self.count if self.count else None

    def share_of_spans(self, bucket: str) -> float | None:
        """Return the errors of a bucket per gold or predicted span; None without spans."""
        return self.first[bucket] / self.spans if self.spans else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; shares go from 0 to 1, and are None if their denominator is 0."""
        return {
            "spans": self.spans,
            "errors": self.count,
            "buckets": {
                bucket: {
                    "count": self.first[bucket],
                    "matching": self.matching(bucket),
                    "also": dict(self.also.get(bucket, {})),
                    "share_of_errors": self.share_of_errors(bucket),
                    "share_of_spans": self.share_of_spans(bucket),
                }
                for bucket in BUCKETS
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One error, as an example for a reader."""

    place: str
    """Position of the example in the input."""
    raw: str
    """The whole text of the example."""
    gold: str | None
    """The correct value; None if there is none."""
    pred: str | None
    """The predicted value; None if there is none."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"place": self.place, "raw": self.raw, "gold": self.gold, "pred": self.pred}


@dataclass(frozen=True, slots=True, kw_only=True)
class TagReport:
    """The errors of one tag, or of all tags."""

    tag: str
    """Empty for all tags."""
    fn: ErrorCounts
    """False negatives."""
    fp: ErrorCounts
    """False positives."""
    samples: Mapping[str, tuple[Sample, ...]]
    """The first errors of each bucket, in input order. A wrong value, which is an FN and an FP, is one sample."""

    @property
    def correct(self) -> int:
        """Number of gold spans that were predicted exactly."""
        return self.fn.spans - self.fn.count

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        samples = {bucket: [sample.to_dict() for sample in self.samples[bucket]] for bucket in self.samples}
        return {"correct": self.correct, "fn": self.fn.to_dict(), "fp": self.fp.to_dict(), "examples": samples}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReport:
    """The errors of one run."""

    examples: int
    """Number of examples."""
    total: TagReport
    """The errors of all tags."""
    tags: tuple[TagReport, ...]
    """Sorted by name."""

    def tag(self, name: str) -> TagReport:
        """Return the report of a tag; all zeros for a tag that does not occur."""
        return next((report for report in self.tags if report.tag == name), _TagCounter(name, 0).report())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        tags = {report.tag: report.to_dict() for report in self.tags}
        return {"examples": self.examples, "all": self.total.to_dict(), "tags": tags}


def report_of(examples: Iterable[Example], *, samples: int = 3) -> ErrorReport:
    """Count the errors of every tag, and keep the first `samples` of each bucket.

    A wrong value counts as a false negative and as a false positive, as in precision and recall of spans. Raises
    ValueError for a negative number of samples.
    """
    if samples < 0:
        raise ValueError(f"samples is {samples}; must be 0 or more")
    total, tags, amount = _TagCounter("", 0), dict[str, _TagCounter](), 0
    for example in examples:
        amount += 1
        for tag, pair in pairs_of(example):
            if tag not in tags:
                tags[tag] = _TagCounter(tag, samples)
            buckets = () if pair.correct else matching_buckets(example.raw, *pair.values, tag)
            for counter in (total, tags[tag]):
                counter.add(example, pair, buckets)
    return ErrorReport(examples=amount, total=total.report(), tags=tuple(tags[name].report() for name in sorted(tags)))


class _TagCounter:
    """Counts the errors of one tag."""

    def __init__(self, tag: str, samples: int) -> None:
        self._tag, self._max_samples = tag, samples
        self._spans: Counter[str] = Counter()
        self._first: dict[str, Counter[str]] = {"gold": Counter(), "pred": Counter()}
        self._also: dict[str, Counter[tuple[str, str]]] = {"gold": Counter(), "pred": Counter()}
        self._samples: dict[str, list[Sample]] = {}

    def add(self, example: Example, pair: Pair, buckets: tuple[str, ...]) -> None:
        """Count a pair with the buckets that it matches; none if it is correct."""
        for side, entity in (("gold", pair.gold), ("pred", pair.pred)):
            if entity is None:
                continue
            self._spans[side] += 1
            if buckets:
                self._first[side][buckets[0]] += 1
                self._also[side].update((buckets[0], later) for later in buckets[1:])
        if buckets and len(samples := self._samples.setdefault(buckets[0], [])) < self._max_samples:
            gold, pred = pair.values
            samples.append(Sample(place=example.place, raw=example.raw, gold=gold, pred=pred))

    def report(self) -> TagReport:
        """Return the counts so far."""
        samples = {bucket: tuple(self._samples[bucket]) for bucket in BUCKETS if self._samples.get(bucket)}
        return TagReport(tag=self._tag, fn=self._errors("gold"), fp=self._errors("pred"), samples=samples)

    def _errors(self, side: str) -> ErrorCounts:
        also: dict[str, dict[str, int]] = {}
        for first in BUCKETS:
            later = {bucket: self._also[side][first, bucket] for bucket in BUCKETS if self._also[side][first, bucket]}
            also |= {first: later} if later else {}
        first_of = {bucket: self._first[side][bucket] for bucket in BUCKETS}
        return ErrorCounts(spans=self._spans[side], first=first_of, also=also)
