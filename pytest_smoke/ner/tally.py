"""How many of a tagger's errors fall into which bucket, per tag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_smoke.ner.buckets import BUCKETS, matching_buckets
from pytest_smoke.ner.examples import Example
from pytest_smoke.ner.pairing import Pair, pairs_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """The false negatives among gold spans, or the false positives among predicted ones."""

    spans: int
    """Gold spans (false negatives), predicted spans (false positives)."""
    first: Mapping[str, int]
    """Errors by the first bucket that matches; every bucket is a key."""
    also: Mapping[str, Mapping[str, int]]
    """Of the errors of a bucket, how many match a later one too; buckets without any are no keys."""

    @property
    def count(self) -> int:
        """All errors."""
        return sum(self.first.values())

    def matching(self, bucket: str) -> int:
        """Errors that match a bucket, first or not: what they are whatever the order."""
        return self.first[bucket] + sum(later.get(bucket, 0) for later in self.also.values())

    def share_of_errors(self, bucket: str) -> float | None:
        """Share of the errors whose first bucket it is; None without errors."""
        return self.first[bucket] / self.count if self.count else None

    def share_of_spans(self, bucket: str) -> float | None:
        """Share of the gold (false negatives) or predicted (false positives) spans; None without spans."""
        return self.first[bucket] / self.spans if self.spans else None

    def to_json(self) -> dict[str, Any]:
        """Plain data: counts, shares from 0 to 1, null where there is nothing to share."""
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
    """One error as it stands in the file."""

    place: str
    raw: str
    gold: str | None
    pred: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"place": self.place, "raw": self.raw, "gold": self.gold, "pred": self.pred}


@dataclass(frozen=True, slots=True, kw_only=True)
class TagReport:
    """The errors of one tag, or of all."""

    tag: str
    """Empty: all tags."""
    fn: Errors
    fp: Errors
    samples: Mapping[str, tuple[Sample, ...]]
    """The first errors of each bucket, in the input's order. A wrong value, both an FN and an FP, is one sample."""

    @property
    def right(self) -> int:
        """Gold spans that were predicted exactly."""
        return self.fn.spans - self.fn.count

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        samples = {bucket: [sample.to_json() for sample in self.samples[bucket]] for bucket in self.samples}
        return {"right": self.right, "fn": self.fn.to_json(), "fp": self.fp.to_json(), "examples": samples}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The errors of one run."""

    examples: int
    total: TagReport
    tags: tuple[TagReport, ...]
    """In order of their names."""

    def tag(self, name: str) -> TagReport:
        """The report of a tag; all zeros for a tag that does not occur."""
        return next((report for report in self.tags if report.tag == name), _Count(name, 0).report())

    def to_json(self) -> dict[str, Any]:
        """Plain data, strict JSON."""
        tags = {report.tag: report.to_json() for report in self.tags}
        return {"examples": self.examples, "all": self.total.to_json(), "tags": tags}


def report_of(examples: Iterable[Example], *, samples: int = 3) -> Report:
    """Count every error of every tag; keep the first `samples` of each bucket.

    A wrong value counts twice, as in span-wise precision and recall: as a false negative and as a false positive.
    """
    if samples < 0:
        raise ValueError(f"samples is {samples}; it must be 0 or more")
    total, tags, seen = _Count("", 0), dict[str, _Count](), 0
    for example in examples:
        seen += 1
        for tag, pair in pairs_of(example):
            if tag not in tags:
                tags[tag] = _Count(tag, samples)
            buckets = () if pair.right else matching_buckets(example.raw, *pair.values, tag)
            for count in (total, tags[tag]):
                count.add(example, pair, buckets)
    return Report(examples=seen, total=total.report(), tags=tuple(tags[name].report() for name in sorted(tags)))


class _Count:
    """A `TagReport` in the making."""

    def __init__(self, tag: str, samples: int) -> None:
        self._tag, self._wanted = tag, samples
        self._spans: Counter[str] = Counter()
        self._first: dict[str, Counter[str]] = {"gold": Counter(), "pred": Counter()}
        self._also: dict[str, Counter[tuple[str, str]]] = {"gold": Counter(), "pred": Counter()}
        self._samples: dict[str, list[Sample]] = {}

    def add(self, example: Example, pair: Pair, buckets: tuple[str, ...]) -> None:
        """Count a pair with the buckets it matches, none if it is right."""
        for side, entity in (("gold", pair.gold), ("pred", pair.pred)):
            if entity is None:
                continue
            self._spans[side] += 1
            if buckets:
                self._first[side][buckets[0]] += 1
                self._also[side].update((buckets[0], later) for later in buckets[1:])
        if buckets and len(kept := self._samples.setdefault(buckets[0], [])) < self._wanted:
            gold, pred = pair.values
            kept.append(Sample(place=example.place, raw=example.raw, gold=gold, pred=pred))

    def report(self) -> TagReport:
        """The counts so far."""
        samples = {bucket: tuple(self._samples[bucket]) for bucket in BUCKETS if self._samples.get(bucket)}
        return TagReport(tag=self._tag, fn=self._errors("gold"), fp=self._errors("pred"), samples=samples)

    def _errors(self, side: str) -> Errors:
        also: dict[str, dict[str, int]] = {}
        for first in BUCKETS:
            later = {bucket: self._also[side][first, bucket] for bucket in BUCKETS if self._also[side][first, bucket]}
            also |= {first: later} if later else {}
        first_of = {bucket: self._first[side][bucket] for bucket in BUCKETS}
        return Errors(spans=self._spans[side], first=first_of, also=also)
