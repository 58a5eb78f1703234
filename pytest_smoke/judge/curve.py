"""A judge of one short training run: points in, one verdict out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log
from typing import Any, Literal
from statistics import median

from pytest_smoke.judge.spike import Spike
from pytest_smoke.judge import trend as T
from pytest_smoke.judge.trend import Trend
MIN_BLOCKS=16
EARLY=1000
SPIKE=True
DIV=True
DIVMAX=False
HEAD_MIN=5
HEAD_DIV=40
HEAD_LOG=True
HEAD_Z=3
PROBE_SIZE=1
PROBE_BLOCKS=400
PROBE_GATES=5.0
PROBE_SIGMAS=4.5
PROBE_SPANS=(3,6,12,24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    verdict: Literal["promote", "unstable", "invalid", "inconclusive"]
    reason: str
    step: int | None
    text: str
    series: str
    points: int
    notes: tuple[str, ...]
    data: dict[str, Any]


class CurveJudge:
    def __init__(
        self,
        *,
        planned_points: int,
        from_scratch: bool = False,
        edges: Sequence[int] = (),
        peak_lr: float | None = None,
        evidence_needed: int | None = None,
    ) -> None:
        self._latched: Judgement | None = None
        self._planned = planned_points
        self._trends = [Trend(planned_points)]
        if planned_points >= EARLY:
            self._trends.append(Trend(planned_points // 10))
        self._probe = None
        self._spike = Spike(planned_points)
        self._points = 0
        self._heads: list[float] = []
        self._head = max(HEAD_MIN, min(25, planned_points // HEAD_DIV))
        self._high = float("inf")
        self._bits = 0
        self._three = 0
        self._mask = (1 << self._head) - 1
        self._level = 0.0
        self._probe_count = 0

    def _unstable(self, reason: str, step: int, text: str, series: str) -> Judgement:
        self._latched = Judgement(
            verdict="unstable", reason=reason, step=step, text=text, series=series, points=self._points, notes=(), data={}
        )
        return self._latched

    def add(
        self,
        step: int,
        loss: float,
        *,
        probe_loss: float | None = None,
        lr: float | None = None,
        grad_norm: float | None = None,
        terms: Mapping[str, float] | None = None,
    ) -> Judgement | None:
        if self._latched:
            return self._latched
        self._points += 1
        if not isfinite(loss):
            return self._unstable("non-finite", step, "loss is not finite", "loss")
        if self._points <= self._head:
            self._heads.append(loss)
            if self._points == self._head:
                self._level = median(self._heads)
                mad = median([abs(v - self._level) for v in self._heads])
                z = HEAD_Z * 1.4826 * 1.2533 * (2 / self._head) ** 0.5
                self._div = self._level + max(0.3 * abs(self._level), z * mad)
                if HEAD_LOG and min(self._heads) > 0:
                    mad = median([abs(log(v / self._level)) for v in self._heads])
                    self._div = max(self._div, self._level * exp(min(z * mad, 50)))
        else:
            self._bits = (self._bits << 1 | (DIV and loss > self._div)) & self._mask
            self._three = self._three + 1 if DIV and loss > max(3 * self._level, max(self._heads) if DIVMAX else 0) else 0
            if self._bits.bit_count() * 2 > self._head or self._three >= 3:
                return self._unstable("divergence", step, "", "loss")
        if SPIKE and self._spike.add(loss, self._trends[0].progress):
            return self._unstable("spike", step, "", "loss")
        rise = self._trends[0].add(step, loss)
        if rise:
            return self._unstable("rise", step, "", "loss")
        if len(self._trends) > 1 and self._points <= self._planned // 10:
            rise = self._trends[1].add(step, loss)
            if rise:
                return self._unstable("rise", step, "early", "loss")
        if probe_loss is not None:
            self._probe_count += 1
            if self._probe_count == 1:
                self._probe_first = (self._points, step, probe_loss)
            else:
                if self._probe is None:
                    gap = self._points - self._probe_first[0]
                    self._probe = Trend(max(1, self._planned // gap), PROBE_BLOCKS, PROBE_SIZE, PROBE_SPANS, PROBE_GATES, PROBE_SIGMAS)
                    self._probe.add(*self._probe_first[1:])
                rise = self._probe.add(step, probe_loss)
                if rise:
                    return self._unstable("rise", step, "", "probe_loss")
        return None

    def finish(self, *, cut: bool = False) -> Judgement:
        if self._latched:
            return self._latched
        verdict, reason = "promote", ""
        t = self._trends[0]
        seen = t.seen()
        if self._probe and self._probe.blocks >= MIN_BLOCKS:
            seen = min(seen, self._probe.seen())
        if t.blocks < MIN_BLOCKS:
            verdict, reason = "inconclusive", "too-short"
        elif seen > 1:
            verdict, reason = "inconclusive", "too-noisy"
        return Judgement(
            verdict=verdict, reason=reason, step=None, text="", series="loss", points=self._points, notes=(), data={}
        )
