"""The trough engine: the newest span of blocks against the lowest earlier one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import median

BLOCKS = 80
MIN_BLOCKS_WANTED = 30
MIN_BLOCK = 5
CLIP_MADS = 5.0
SPANS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
NOISE_BLOCKS = 16
SIGMAS = 4.5
LEVEL_GATE = 0.02
PROGRESS_GATE = 0.01
GATE_CAP = 1.0
GATE_FLOOR = 0.001
TOPB = 0
POWER = 1.25
SEEN_LEVEL = 0.10
SEEN_PROGRESS = 0.10
MAD_SD = 1.4826
LOG = True
OWN = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    first: int
    last: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    trough: Span
    offence: Span
    sigmas: float


class Blocks:
    """Block means on one scale and their noise."""

    def __init__(self, spans=None) -> None:
        self.spans = spans or SPANS
        self.means: list[float] = []
        self.errors: list[float] = []
        self.troughs: dict[int, tuple[float, int]] = {}
        self.noise = float("inf")

    def close(self, values: list[float]) -> None:
        """values sorted."""
        n = len(values)
        mid = values[n // 2] if n % 2 else (values[n // 2 - 1] + values[n // 2]) / 2
        mad = sorted([abs(v - mid) for v in values])[n // 2]
        top = mid + CLIP_MADS * mad
        if values[-1] > top and n > 3:
            values = [v if v < top else top for v in values]
        mean = sum(values) / n
        error = sqrt(sum([(v - mean) ** 2 for v in values]) / max(n - 1, 1) / n)
        self.means.append(mean)
        self.errors.append(error)
        recent = self.means[-NOISE_BLOCKS:]
        noise = median(self.errors[-NOISE_BLOCKS:])
        for lag in (1, 2):
            diffs = [b - a for a, b in zip(recent, recent[lag:])]
            if len(diffs) >= 2:
                m = median(diffs)
                noise = max(noise, MAD_SD * median([abs(d - m) for d in diffs]) / sqrt(2))
        self.noise = noise

    def rms(self, at: int, span: int) -> float:
        return sqrt(sum([e * e for e in self.errors[at : at + span]]) / span)

    def test(self):
        """Yields (span, trough, at, new, sigma)"""
        means = self.means
        count = len(means)
        for span in self.spans:
            if count < 2 * span:
                break
            old = sum(means[count - 2 * span : count - span]) / span
            if span not in self.troughs or old < self.troughs[span][0]:
                self.troughs[span] = (old, count - 2 * span)
            trough, at = self.troughs[span]
            new = sum(means[count - span :]) / span
            if new <= trough:
                continue
            if OWN:
                a = max(self.noise, self.rms(count - span, span))
                b = max(self.noise, self.rms(at, span))
                sigma = sqrt((a * a + b * b) / span)
            else:
                sigma = self.noise * sqrt(2 / span)
            yield span, trough, at, new, sigma


class Trend:
    def __init__(self, planned: int, blocks=None, min_block=None, spans=None, gates=1.0, sigmas=None) -> None:
        self._sigmas = sigmas or SIGMAS
        self._gates = gates
        self.size = max(min_block or min(MIN_BLOCK, max(2, planned // MIN_BLOCKS_WANTED)), round(planned / (blocks or BLOCKS)))
        self._values: list[float] = []
        self._first_step = 0
        self._linear = Blocks(spans)
        self._log: Blocks | None = Blocks(spans) if LOG else None
        self._steps: list[tuple[int, int]] = []
        self.top = float("nan")
        self.low = float("inf")
        self.progress = 0.0

    @property
    def blocks(self) -> int:
        return len(self._linear.means)

    def add(self, step: int, value: float) -> Rise | None:
        values = self._values
        if not values:
            self._first_step = step
        values.append(value)
        if len(values) < self.size:
            return None
        values.sort()
        self._values = []
        self._steps.append((self._first_step, step))
        self._linear.close(values)
        mean = self._linear.means[-1]
        if len(self._steps) == 1:
            self.top = mean
        if TOPB and len(self._steps) <= TOPB:
            self.top = median(self._linear.means)
        self.low = min(self.low, mean)
        self.progress = self.top - self.low
        rise = self._test(self._linear, False)
        if self._log:
            if values[0] <= 0:
                self._log = None
            else:
                self._log.close([log(v) for v in values])
                rise = rise or self._test(self._log, True)
        return rise

    def _test(self, blocks: Blocks, logs: bool) -> Rise | None:
        found = None
        count = len(blocks.means)
        for span, trough, at, new, sigma in blocks.test():
            rise = new - trough
            if rise <= self._sigmas * (1 + 2 / count) * sigma:
                continue
            if logs:
                trough, new = exp(trough), exp(new)
            if new - trough > self.gate(trough):
                sigmas = rise / sigma if sigma else float("inf")
                if found is None or sigmas > found.sigmas:
                    found = Rise(
                        trough=Span(first=self._steps[at][0], last=self._steps[at + span - 1][1], value=trough),
                        offence=Span(first=self._steps[count - span][0], last=self._steps[-1][1], value=new),
                        sigmas=sigmas,
                    )
        return found

    def gate(self, trough: float) -> float:
        return self._gates * max(LEVEL_GATE * abs(trough), min(PROGRESS_GATE * self.progress, (GATE_CAP if self._gates == 1 else 1e99) * (abs(trough)+1e-99)), GATE_FLOOR * self.progress)

    def seen(self) -> float:
        """Smallest sustained rise that would have been seen, over what must be seen."""
        count = self.blocks
        best = float("inf")
        for span in self._linear.spans:
            if count < 2 * span:
                break
            need = POWER * self._sigmas * (1 + 2 / count) * sqrt(2 / span)
            best = min(best, need * self._linear.noise / max(SEEN_LEVEL * abs(self.low), SEEN_PROGRESS * self.progress, 1e-300))
            if self._log:
                level = exp(min(self._log.means))
                best = min(best, level * (exp(min(need * self._log.noise, 50)) - 1) / max(SEEN_LEVEL * level, SEEN_PROGRESS * self.progress, 1e-300))
        return best
