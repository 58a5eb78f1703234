"""Block means of one series on one scale, their noise, and the lowest span seen so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

NOISE_BLOCKS = 20
"""Blocks from which noise is estimated: 8 are themselves too noisy, 32 remember an earlier, calmer phase."""
LAGS = (1, 2, 4)
"""Differences of block means at these lags measure the noise and slow wandering: without lag 4, and at 4.25 sigma,
healthy labelled windows failed four times as often."""
CLIP_MADS = 5.0
"""Points above local median + 5 MAD (3.4 sigma of a gaussian) are clipped: one outlier must not lift a block."""
CHUNK_POINTS = 64
"""Points clipped together; a block of more is the sum of its chunks, so memory does not grow with the window."""
MAD_SD = 1.4826
"""Standard deviation of a gaussian over its median absolute deviation: 1 / Phi^-1(3/4)."""


def middle(ordered: list[float]) -> float:
    """Median of a sorted, non-empty list."""
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def spread(values: list[float]) -> float:
    """Robust standard deviation: 1.4826 times the median absolute deviation from the median."""
    mid = middle(sorted(values))
    return MAD_SD * middle(sorted([abs(value - mid) for value in values]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """The newest span of blocks against the lowest earlier one of the same length."""

    span: int
    """Length of both, in blocks."""
    at: int
    """Index of the trough's first block."""
    low_span: float
    newest: float
    sigma: float
    """Standard deviation of the difference of two such means."""


class Blocks:
    """Means and standard errors of consecutive blocks; `edge` starts a segment that earlier blocks do not speak of."""

    def __init__(self, spans: tuple[int, ...]) -> None:
        self.means: list[float] = []
        self.start = 0
        self._spans = spans
        self._errors: list[float] = []
        self._lows: list[float] = []
        self._places: list[int] = []
        self._origin = 0.0
        self._sums = [0.0]
        self._error_squares = [0.0]
        self._earlier_noise = 0.0
        self._count = 0
        self._sum = 0.0
        self._squares = 0.0

    @property
    def count(self) -> int:
        """Blocks in the current segment."""
        return len(self.means) - self.start

    def chunk(self, ordered: list[float]) -> None:
        """Add sorted points to the open block, clipped above their own median + 5 MAD."""
        size = len(ordered)
        if size == 1 and not self._count:
            self._count, self._sum = 1, ordered[0]
            return
        mid = middle(ordered)
        if size > 3:
            top = mid + CLIP_MADS * sorted([abs(value - mid) for value in ordered])[size // 2]
            if ordered[-1] > top:
                ordered = [value if value < top else top for value in ordered]
        mean = sum(ordered) / size
        shift = mean - self._sum / self._count if self._count else 0.0
        self._squares += sum([(value - mean) ** 2 for value in ordered])
        self._squares += shift * shift * size * self._count / (size + self._count)  # Chan et al. 1979, eq. 2.1
        self._count += size
        self._sum += mean * size

    def close(self) -> float:
        """End the open block and return its mean."""
        mean, count = self._sum / self._count, self._count
        self.means.append(mean)
        if len(self._sums) == 1:
            self._origin = mean  # sums are kept from the segment's own level: rounding stays far below any gate
        self._sums.append(self._sums[-1] + mean - self._origin)
        square = self._squares / (count - 1) / count if count > 1 else 0.0
        self._errors.append(sqrt(square))
        self._error_squares.append(self._error_squares[-1] + square)
        self._count, self._sum, self._squares = 0, 0.0, 0.0
        return mean

    def edge(self) -> None:
        """Forget the trough: what follows is another loss or other data. The noise is kept until it can be measured."""
        if self.count:
            self._earlier_noise = self.noise()
        self.start = len(self.means)
        self._lows, self._places, self._sums, self._error_squares = [], [], [0.0], [0.0]
        self._count, self._sum, self._squares = 0, 0.0, 0.0

    def noise(self, blocks: int = 0) -> float:
        """Standard deviation of one block mean, from the newest `blocks` (default: `NOISE_BLOCKS`).

        The largest of: the median within-block standard error, and, for each lag, the robust deviation of differences
        of block means over sqrt 2, which also sees noise that outlives a block.
        """
        first = max(self.start, len(self.means) - (blocks or NOISE_BLOCKS))
        recent = self.means[first:]
        noise = middle(sorted(self._errors[first:]))
        measured = False
        for lag in LAGS:
            steps = [new - old for old, new in zip(recent, recent[lag:], strict=False)]
            if len(steps) >= 2:
                noise = max(noise, spread(steps) / sqrt(2))
                measured = True
        return noise if measured else max(noise, self._earlier_noise)

    def contrasts(self, gate: float, sigmas: float) -> Iterator[Contrast]:
        """Spans whose newest mean exceeds the trough by `gate` and by `sigmas`. Call once after each `close`."""
        sums, squares, count = self._sums, self._error_squares, self.count
        lows, places = self._lows, self._places
        end, noise = sums[-1], -1.0
        for place, span in enumerate(self._spans):
            at = count - 2 * span
            if at < 0:
                return
            middle_sum = sums[at + span]
            earlier = (middle_sum - sums[at]) / span
            if place == len(lows):
                lows.append(earlier)
                places.append(at)
            elif earlier < lows[place]:
                lows[place] = earlier
                places[place] = at
            rise = (end - middle_sum) / span - lows[place]
            if rise <= gate:
                continue
            # Variance of one block of a span: its own within-block error, where that exceeds the noise of late.
            at = places[place]
            newest, low_span = (squares[-1] - squares[count - span]) / span, (squares[at + span] - squares[at]) / span
            least = (rise / sigmas) ** 2 * span
            if newest + low_span >= least:
                continue
            if noise < 0:
                noise = self.noise() ** 2
            variance = max(newest, noise) + max(low_span, noise)
            if variance < least:
                low = lows[place] + self._origin
                sigma = sqrt(variance / span)
                yield Contrast(span=span, at=at + self.start, low_span=low, newest=low + rise, sigma=sigma)

    def lowest(self, span: int) -> float:
        """Lowest mean of `span` consecutive blocks of the segment."""
        sums = self._sums
        fallen = min(sums[at + span] - sums[at] for at in range(self.count - span + 1))
        return self._origin + fallen / span
