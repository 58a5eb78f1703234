"""Detection of a lasting rise: the newest span of a series against the lowest earlier span of the same length.

A series is cut into blocks of consecutive points, and a span is a number of consecutive blocks. Two scales are tested.
The mean of the losses is what training minimises. The mean of their logarithms detects a rise in noise that is
multiplicative and heavy-tailed: small batches, losses that fall by decades.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, log, log1p, sqrt

from pytest_smoke.judge.curve.correlation import Correlation

BLOCKS = 120
"""Blocks in the planned curve. 80 detected 1-3 % fewer of the labelled instabilities, 160 raised more false alarms."""
MIN_BLOCK_POINTS = 5
"""Points in a block, provided that `MIN_BLOCKS` fit: a standard error from fewer points is meaningless."""
MIN_BLOCKS = 30
"""Short logs get smaller blocks, down to 2 points, before they get fewer blocks than this."""
SPANS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
"""Lengths of the spans in blocks; longer ones detect smaller rises. Powers of 2 alone left twice as many curves too
noisy to judge."""
MIN_SIGMAS = 4.5
"""Standard deviations that a rise must exceed, times 1 + 2 / blocks because the noise is estimated from few blocks."""
WEAK_SIGMAS = 3.3
"""Standard deviations of a rise that counts only if the probe batch, whose noise is another, shows one as well: by
chance, both exceed them more rarely (2e-7) than one exceeds `MIN_SIGMAS` (3e-6)."""
POWER_FACTOR = 1.25
"""A rise at the threshold is detected half the time; one of 1.25 times that in 86 % of runs, of 1.15 times in 77 %."""
LIMIT_NOISE_BLOCKS = 60
"""Blocks whose noise enters the detection limit: three times those of a test, since it describes the whole curve."""
LEVEL_BLOCKS = 4
"""Blocks in the span whose lowest mean is the level of the detection limit: the lowest single block is mostly noise."""
CLAIMED_SHARE = 0.10
"""A promotion claims that a lasting rise by 10 % of the level, or by 10 % of the progress, would have been detected."""
MIN_FALL_SIGMAS = 3.0
"""Standard deviations from which a fall counts as progress. Fewer than for a rise, since `no-progress` is a claim."""
ROUNDING = 1e-12
"""Relative rounding error of a block mean: smaller noise comes from arithmetic, not from the data."""
NOISE_BLOCKS = 20
"""Blocks from which noise is estimated: 8 give a noisy estimate, 32 still include an earlier, calmer phase."""
MIN_BLOCKS_TESTED = 8
"""Blocks before which no rise is tested: the differences of fewer do not tell the noise."""
LAGS = (1, 2, 4)
"""Lags of the differences of block means that measure noise and slow wandering. For a training loss they are second
differences: a steep descent, which is close to a straight line over nine blocks, has none. For a probe loss, which is
wandering only, they are first differences."""
LONG_LAG_BLOCKS = 15
"""Blocks per lag from which second differences are taken: a step of the level is in 2 x lag of them, and must be in few
for a median not to see it ..."""
MIN_LAG_BLOCKS = 12
"""... so in a curve with fewer blocks per lag, longer lags than 1 are those of first differences. They are left out
where a probe batch tells wandering noise from a rise."""
LARGE_LEVEL_SHARE, LARGE_PROGRESS_SHARE = 1.0, 0.1
"""A rise that doubles the level and loses a tenth of the progress. In a curve with too few blocks for second
differences, first differences would take such a rise for noise; no noise of block means makes one."""
CLIP_MADS = 5.0
"""Points above local median + 5 MAD (3.4 standard deviations of a Gaussian) are clipped, so that one outlier does not
raise the mean of its block."""
CHUNK_POINTS = 64
"""Points clipped together; a longer block is the sum of its chunks, so memory does not grow with the curve."""
MAD_TO_SD = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation: 1 / Phi^-1(3/4)."""


def median_of_sorted(values: list[float]) -> float:
    """Return the median of a sorted, non-empty list."""
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def robust_deviation(values: list[float]) -> float:
    """Estimate the standard deviation: 1.4826 times the median absolute deviation from the median."""
    median = median_of_sorted(sorted(values))
    return MAD_TO_SD * median_of_sorted(sorted([abs(value - median) for value in values]))


LOST_DECADES = 0.75
"""A rise that loses this share of the decades of a fall matters, however small a share of the fall it is: 1e-8 to 0.01
of a loss that began at 1e4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimumRise:
    """The smallest rise that matters, however significant a smaller one may be."""

    level: float
    """Share of the lowest level."""
    progress: float
    """Share of the progress: the fall from the first block mean to the lowest."""

    def above(self, lowest: float, progress: float) -> float:
        """Return the smallest rise above `lowest` that matters, in units of the loss."""
        return max(self.level * abs(lowest), min(self.progress * progress, lost_progress(lowest, progress)))


def lost_progress(lowest: float, progress: float) -> float:
    """Return the rise that loses `LOST_DECADES` of a fall by `progress` to `lowest`, counted in decades."""
    if lowest <= 0 or progress <= 0:
        return inf
    return float(lowest * (((lowest + progress) / lowest) ** LOST_DECADES - 1))


LOSS_MINIMUM_RISE = MinimumRise(level=0.02, progress=0.01)
"""The limit by which the curves were labelled: no engineer acts on a smaller rise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanMean:
    """Mean of a span of blocks; a geometric mean if the rise was detected on the logarithmic scale."""

    first_step: int
    last_step: int
    mean: float


@dataclass(frozen=True, slots=True)
class EarlierLow:
    """A low span seen in shorter blocks."""

    span: SpanMean
    deviation: float
    """Standard deviation of its mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """A significant rise from the lowest earlier span to the newest one."""

    low_span: SpanMean
    high_span: SpanMean
    points: int
    """Points that are certainly high: the first and the last block of the high span may be so in part only."""
    sigmas: float
    """The rise in standard deviations of the difference of two such means; infinite in a series without noise."""
    is_weak: bool = False
    """Whether it counts only if another series shows it as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionLimit:
    """The smallest lasting rise that would have been detected, and the quantities to compare it with."""

    rise: float
    """In units of the loss."""
    level: float
    """Magnitude of the lowest level."""
    progress: float
    """Fall from the first block mean to the lowest level."""

    @property
    def ratio_to_claim(self) -> float:
        """The limit over the rise that a promotion claims to detect; above 1, the curve is too noisy to promote."""
        claimed = CLAIMED_SHARE * max(self.level, self.progress)
        return self.rise / claimed if claimed else 0.0

    @property
    def share_of_level(self) -> float | None:
        """The limit as a share of the lowest level; None if that is 0."""
        return self.rise / self.level if self.level else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmDistance:
    """How far a loss is from what would be reported as a rise."""

    level: float
    """Lowest level so far: the mean of the lowest span of blocks."""
    rise: float
    """How far the newest span of the same length is above it, in units of the loss; 0 if it is the lowest itself."""
    alarm: float
    """The rise above which it is detected: the smallest that matters, or more if the loss is noisy."""

    @property
    def share(self) -> float:
        """The rise as a share of what is detected; from 1 on, it is."""
        return self.rise / self.alarm if self.alarm else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """The progress of a series since its last expected jump."""

    initial: float
    """Level at which it began: an overshoot of the first steps does not count."""
    lowest: float
    is_significant: bool
    """Whether some span fell by more than the minimum rise's share of the level and by more than its noise."""

    @property
    def share(self) -> float:
        """The fall as a share of the initial level; infinite for levels of 0 or less, which have no shares."""
        return (self.initial - self.lowest) / self.initial if self.initial > 0 < self.lowest else inf


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanContrast:
    """The newest span of blocks against the lowest earlier one of the same length, on one scale."""

    blocks: int
    """Length of both spans."""
    low_start: int
    """Index of the low span's first block."""
    low_mean: float
    newest_mean: float
    deviation: float
    """Standard deviation of the difference of two such means."""


class BlockMeans:
    """Means and standard errors of consecutive blocks on one scale, and the lowest span so far for each length."""

    def __init__(
        self, spans: tuple[int, ...], correlation: Correlation | None = None, *, removes_drift: bool = True
    ) -> None:
        self._correlation = correlation or Correlation()
        self._removes_drift = removes_drift
        self.means: list[float] = []
        self.segment_start = 0
        """Index of the first block after the last expected jump."""
        self._spans = spans
        self._errors: list[float] = []
        self._lowest_sums: list[float] = []
        self._lowest_starts: list[int] = []
        self._origin = 0.0
        self._sums = [0.0]
        self._error_squares = [0.0]
        self._earlier_noise = 0.0
        self._count = 0
        self._pairs = 0
        self._sum = 0.0
        self._squares = 0.0
        """Sum of the squared differences of neighbouring points: unlike that around the mean, it has no trend in it."""

    @property
    def count(self) -> int:
        """Number of blocks in the current segment."""
        return len(self.means) - self.segment_start

    def add_chunk(self, values: list[float]) -> None:
        """Add consecutive points to the open block, clipped above their own median + 5 MAD."""
        size = len(values)
        if size == 1 and not self._count:
            self._count, self._sum = 1, values[0]
            return
        if size > 3:
            median = median_of_sorted(sorted(values))
            top = median + CLIP_MADS * sorted([abs(value - median) for value in values])[size // 2]
            values = [value if value < top else top for value in values]
        self._squares += sum([(new - old) ** 2 for old, new in pairwise(values)])
        self._pairs += size - 1
        self._count += size
        self._sum += sum(values)

    def close_block(self) -> float:
        """Close the open block and return its mean."""
        mean, count = self._sum / self._count, self._count
        self.means.append(mean)
        if len(self._sums) == 1:
            self._origin = mean  # sums relative to the segment's level keep rounding far below any threshold
        self._sums.append(self._sums[-1] + mean - self._origin)
        square = self._squares / (2 * self._pairs * count) if self._pairs else 0.0
        square *= self._correlation.inflation
        self._errors.append(sqrt(square))
        self._error_squares.append(self._error_squares[-1] + square)
        self._count, self._pairs, self._sum, self._squares = 0, 0, 0.0, 0.0
        return mean

    def start_segment(self) -> None:
        """Forget the lowest spans: the data or the loss change here. The noise is kept until it can be measured."""
        if self.count:
            self._earlier_noise = self.noise()
        self.segment_start = len(self.means)
        self._lowest_sums, self._lowest_starts, self._sums, self._error_squares = [], [], [0.0], [0.0]
        self._count, self._pairs, self._sum, self._squares = 0, 0, 0.0, 0.0

    def noise(self, blocks: int = NOISE_BLOCKS, *, without_trend: bool = False) -> float:
        """Estimate the standard deviation of one block mean from the newest `blocks` blocks.

        Return the largest of the median standard error within blocks and, for each lag, the robust standard deviation
        of the differences of block means, scaled to one mean: it includes noise that lasts longer than a block.
        `without_trend` leaves out first differences, which a rise is in as well.
        """
        first = max(self.segment_start, len(self.means) - blocks)
        recent = self.means[first:]
        noise = median_of_sorted(sorted(self._errors[first:]))
        is_measured = False
        for lag in LAGS:
            # A step is in 2 x lag of the second differences, so they must be several times as many for a median.
            longer = self.means[max(self.segment_start, len(self.means) - max(blocks, LONG_LAG_BLOCKS * lag)) :]
            if self._removes_drift and (lag == 1 or len(longer) >= MIN_LAG_BLOCKS * lag):
                earlier, middle, later = longer, longer[lag:], longer[2 * lag :]
                differences = [new - 2 * mid + old for old, mid, new in zip(earlier, middle, later, strict=False)]
                scale = 6
            elif self._removes_drift and (without_trend or self._correlation.is_ignored):
                break
            else:
                differences = [new - old for old, new in zip(recent, recent[lag:], strict=False)]
                scale = 2
            if len(differences) >= 2:
                noise = max(noise, robust_deviation(differences) / sqrt(scale))
                is_measured = True
        return noise if is_measured else max(noise, self._earlier_noise)

    def contrasts(
        self, min_rise: float, min_sigmas: float, is_large: Callable[[float, float], bool] = lambda low, high: False
    ) -> Iterator[SpanContrast]:
        """Iterate over the lengths whose newest span exceeds the lowest by `min_rise` and `min_sigmas`.

        `is_large` tells of the means of the two spans whether the rise itself would be taken for noise.
        This also updates the lowest spans: call it once after each `close_block`.
        """
        sums, squares, count = self._sums, self._error_squares, self.count
        lowest, starts = self._lowest_sums, self._lowest_starts
        end, variances = sums[-1], dict[bool, float]()
        for index, span in enumerate(self._spans):
            start = count - 2 * span
            if start < 0:
                return
            middle_sum = sums[start + span]
            earlier = (middle_sum - sums[start]) / span
            if index == len(lowest):
                lowest.append(earlier)
                starts.append(start)
            elif earlier < lowest[index]:
                lowest[index] = earlier
                starts[index] = start
            rise = (end - middle_sum) / span - lowest[index]
            if rise <= min_rise:
                continue
            # Variance of one block in each span: its own error within blocks, if that exceeds the recent noise.
            start = starts[index]
            newest, low = (squares[-1] - squares[count - span]) / span, (squares[start + span] - squares[start]) / span
            max_variance = (rise / min_sigmas) ** 2 * span
            if newest + low >= max_variance:
                continue
            low_mean = lowest[index] + self._origin
            without_trend = is_large(low_mean, low_mean + rise)
            if without_trend not in variances:
                variances[without_trend] = self.noise(without_trend=without_trend) ** 2
            noise = variances[without_trend]
            variance = max(newest, noise) + max(low, noise)
            if variance < max_variance:
                yield SpanContrast(
                    blocks=span,
                    low_start=start + self.segment_start,
                    low_mean=low_mean,
                    newest_mean=low_mean + rise,
                    deviation=sqrt(variance / span),
                )

    def lowest_span(self) -> tuple[int, int, float, float] | None:
        """Return start, length, mean and standard deviation of the mean of the lowest span; None without two blocks.

        Of all lengths it is the one whose mean plus two standard deviations is the lowest: a certain low level.
        """
        noise, best = self.noise() ** 2, None
        for index, (start, lowest) in enumerate(zip(self._lowest_starts, self._lowest_sums, strict=True)):
            span = self._spans[index]
            own = (self._error_squares[start + span] - self._error_squares[start]) / span
            deviation = sqrt(max(own, noise) / span)
            if best is None or lowest + 2 * deviation < best[0]:
                best = lowest + 2 * deviation, start, span, lowest + self._origin, deviation
        return None if best is None else (best[1] + self.segment_start, *best[2:])

    def contrasts_with(
        self, low: float, low_variance: float, min_rise: float, min_sigmas: float
    ) -> Iterator[tuple[int, float, float]]:
        """Iterate over the lengths whose newest span exceeds an earlier level `low`.

        Yield length, mean, and standard deviation of the difference.
        """
        count, end = self.count, self._sums[-1]
        noise = -1.0
        for span in self._spans:
            if span > count:
                return
            mean = (end - self._sums[count - span]) / span + self._origin
            if mean - low <= min_rise:
                continue
            if noise < 0:
                noise = self.noise() ** 2
            newest = (self._error_squares[-1] - self._error_squares[count - span]) / span
            variance = max(newest, noise) / span + low_variance
            if (mean - low) ** 2 > min_sigmas**2 * variance:
                yield span, mean, sqrt(variance)

    def distances(self, min_rise: float, min_sigmas: float) -> Iterator[AlarmDistance]:
        """Iterate over the lengths of spans: how far the newest one is from the lowest, and from `contrasts`."""
        sums, squares, count = self._sums, self._error_squares, self.count
        noise = self.noise() ** 2
        for span, lowest, start in zip(self._spans, self._lowest_sums, self._lowest_starts, strict=False):
            if 2 * span > count:
                return
            newest, low = (squares[-1] - squares[count - span]) / span, (squares[start + span] - squares[start]) / span
            alarm = min_sigmas * sqrt((max(newest, noise) + max(low, noise)) / span)
            rise = (sums[-1] - sums[count - span]) / span - lowest
            yield AlarmDistance(level=lowest + self._origin, rise=max(rise, 0.0), alarm=max(alarm, min_rise))

    def lowest_mean(self, span: int) -> float:
        """Return the lowest mean of `span` consecutive blocks of the segment."""
        sums = self._sums
        lowest = min(sums[start + span] - sums[start] for start in range(self.count - span + 1))
        return self._origin + lowest / span


class Trend:
    """Detect lasting rises of one series.

    `planned_points` sets the length of a block. With `lasting_blocks`, each of so many newest blocks must be half a
    minimum rise above the lowest span. The other arguments default to the constants of this module.
    """

    def __init__(
        self,
        planned_points: int,
        *,
        blocks: int = BLOCKS,
        min_block_points: int | None = None,
        spans: tuple[int, ...] = SPANS,
        minimum_rise: MinimumRise = LOSS_MINIMUM_RISE,
        min_sigmas: float = MIN_SIGMAS,
        lasting_blocks: int = 0,
        correlation: Correlation | None = None,
        removes_drift: bool = True,
    ) -> None:
        smallest = min_block_points or min(MIN_BLOCK_POINTS, max(2, planned_points // MIN_BLOCKS))
        self.block_points = max(smallest, round(planned_points / blocks))
        self.progress = 0.0
        """Fall from the first block mean of the segment to the lowest."""
        self._minimum_rise = minimum_rise
        self._min_sigmas = min_sigmas
        self._spans = spans
        self._lasting_blocks = lasting_blocks
        self._linear = BlockMeans(spans, correlation, removes_drift=removes_drift)
        self._log: BlockMeans | None = BlockMeans(spans, correlation, removes_drift=removes_drift)
        """None after a value of 0 or less."""
        self._chunk: list[float] = []
        self._flushed_points = 0
        self._block_start = 0
        self._block_steps: list[tuple[int, int]] = []
        self._first_mean = self._lowest_mean = 0.0
        self._earlier_limits: list[DetectionLimit] = []
        self.earlier_low: EarlierLow | None = None
        """A low span that was seen in shorter blocks than these."""
        self.shows_weak_rises = False
        """Whether rises by `WEAK_SIGMAS` are returned as well."""

    @property
    def block_count(self) -> int:
        """Number of closed blocks."""
        return len(self._block_steps)

    @property
    def open_points(self) -> int:
        """Number of points in the open block."""
        return self._flushed_points + len(self._chunk)

    def add(self, step: int, value: float) -> Rise | None:
        """Add one finite point. A rise is returned at the end of the block that shows it."""
        chunk = self._chunk
        if not chunk and not self._flushed_points:
            self._block_start = step
        chunk.append(value)
        points = self._flushed_points + len(chunk)
        if points < self.block_points and len(chunk) < CHUNK_POINTS:
            return None
        self._flush()
        return self._close_block(step) if points >= self.block_points else None

    def start_segment(self, last_step: int) -> Rise | None:
        """Compare no levels across the end of `last_step`, after which the data or the loss change.

        An open block that is at least half full is closed and may still show a rise; a shorter one is dropped.
        """
        rise = None
        if self._flushed_points + len(self._chunk) >= max(2, self.block_points / 2):
            self._flush()
            rise = self._close_block(last_step)
        self._chunk, self._flushed_points = [], 0
        limit = self.detection_limit()
        if limit:
            self._earlier_limits = [limit]
        for scale in (self._linear, self._log):
            if scale:
                scale.start_segment()
        self.earlier_low = None
        self.progress = 0.0
        return rise

    def lowest_span(self) -> EarlierLow | None:
        """Return the lowest span so far, for a trend with longer blocks to compare with."""
        found = self._linear.lowest_span()
        if found is None:
            return self.earlier_low
        start, blocks, mean, deviation = found
        steps = self._block_steps
        low = EarlierLow(
            SpanMean(first_step=steps[start][0], last_step=steps[start + blocks - 1][1], mean=mean), deviation
        )
        earlier = self.earlier_low
        return earlier if earlier and earlier.span.mean + 2 * earlier.deviation < mean + 2 * deviation else low

    def detection_limit(self) -> DetectionLimit | None:
        """Return the smallest lasting rise that would have been detected, on the better scale.

        For noise n of a block mean and spans of s blocks it is 1.25 x 4.5 (1 + 2 / blocks) n sqrt(2 / s), with the
        longest span of which two fit. Return None before the second block.
        """
        count = self._linear.count
        spans = [span for span in self._spans if 2 * span <= count]
        limits = list(self._earlier_limits)
        if spans:
            noise_factor = POWER_FACTOR * self._min_sigmas * (1 + 2 / count) * sqrt(2 / spans[-1])
            level = self._linear.lowest_mean(min(LEVEL_BLOCKS, spans[-1]))
            limits.append(self._limit(noise_factor * self._linear.noise(LIMIT_NOISE_BLOCKS), level))
            if self._log and level > 0:
                ratio = exp(min(noise_factor * self._log.noise(LIMIT_NOISE_BLOCKS), 50.0))
                limits.append(self._limit(level * (ratio - 1), level))
        return min(limits, key=lambda limit: limit.ratio_to_claim, default=None)

    def alarm_distance(self) -> AlarmDistance | None:
        """Return how far the loss is from a rise that is detected, on the linear scale; None before one is tested.

        Of the lengths of spans, the one that is closest to it decides.
        """
        count = self._linear.count
        if count < MIN_BLOCKS_TESTED:
            return None
        min_rise = self._minimum_rise.above(self._lowest_mean, self.progress) if self._lowest_mean > 0 else 0.0
        found = self._linear.distances(min_rise, self._min_sigmas * (1 + 2 / count))
        return max(found, key=lambda distance: (distance.share, -distance.alarm), default=None)

    def fall(self, initial: float = inf) -> Fall:
        """Return the fall within the current segment.

        `initial` is the level of its first points, where it is known; the fall is measured from it or from the first
        blocks, whichever is lower.
        """
        means, count = self._linear.means[self._linear.segment_start :], self._linear.count
        is_significant = False
        # The level of a few points is noisy: it counts if it is certainly below that of the first block.
        noise_of_initial = MIN_FALL_SIGMAS * self._linear.noise() * sqrt(self.block_points)
        if initial + noise_of_initial > self._first_mean:
            initial = inf
        for span in self._spans:
            if 2 * span > count or is_significant:
                break
            first = min(initial, sum(means[:span]) / span)
            lowest = min(sum(means[start : start + span]) / span for start in range(span, count - span + 1))
            noise = MIN_FALL_SIGMAS * (1 + 2 / count) * self._linear.noise() * sqrt(2 / span)
            is_significant = first - lowest > max(self._minimum_rise.level * abs(first), noise)
        return Fall(initial=min(initial, self._first_mean), lowest=self._lowest_mean, is_significant=is_significant)

    def _flush(self) -> None:
        chunk = self._chunk
        if chunk:
            self._linear.add_chunk(chunk)
            if self._log and min(chunk) > 0:
                self._log.add_chunk([log(value) for value in chunk])
            else:
                self._log = None
            self._flushed_points += len(chunk)
            self._chunk = []

    def _close_block(self, step: int) -> Rise | None:
        self._flushed_points = 0
        self._block_steps.append((self._block_start, step))
        mean = self._linear.close_block()
        if self._linear.count == 1:
            self._first_mean = self._lowest_mean = mean
        elif mean < self._lowest_mean:
            self._lowest_mean = mean
        self.progress = self._first_mean - self._lowest_mean
        if self._log:
            self._log.close_block()
        rises = list(self._rises())
        return max(rises, key=lambda rise: rise.sigmas) if rises else None

    def _rises(self) -> Iterator[Rise]:
        minimum, count = self._minimum_rise, self._linear.count
        least = WEAK_SIGMAS if self.shows_weak_rises else self._min_sigmas
        min_sigmas = least * (1 + 2 / count) if count >= MIN_BLOCKS_TESTED else inf
        min_rise = minimum.above(self._lowest_mean, self.progress) if self._lowest_mean > 0 else 0.0
        for contrast in self._linear.contrasts(min_rise, min_sigmas, self._is_large):
            if self._matters(contrast.low_mean, contrast.newest_mean, contrast.blocks):
                yield self._rise(contrast, contrast.low_mean, contrast.newest_mean)
        if self.earlier_low:
            yield from self._rises_from(self.earlier_low, min_sigmas)
        if self._log:
            for contrast in self._log.contrasts(log1p(minimum.level), min_sigmas, self._is_large_in_logs):
                low_mean, newest_mean = exp(contrast.low_mean), exp(contrast.newest_mean)
                if self._matters(low_mean, newest_mean, contrast.blocks):
                    yield self._rise(contrast, low_mean, newest_mean)

    def _certain_points(self, blocks: int) -> int:
        return max(1, (blocks - 2) * self.block_points)

    def _rises_from(self, earlier: EarlierLow, min_sigmas: float) -> Iterator[Rise]:
        """Iterate over the rises from a low span that was seen in shorter blocks."""
        low, steps = earlier.span, self._block_steps
        min_rise = self._minimum_rise.above(low.mean, max(self.progress, self._first_mean - low.mean))
        contrasts = self._linear.contrasts_with(low.mean, earlier.deviation**2, min_rise, min_sigmas)
        for blocks, mean, deviation in contrasts:
            if steps[-blocks][0] <= low.last_step:
                return
            if median_of_sorted(sorted(self._linear.means[-blocks:])) <= (low.mean + mean) / 2:
                continue
            has_noise = deviation > ROUNDING * abs(low.mean)
            sigmas = (mean - low.mean) / deviation if has_noise else inf
            yield Rise(
                low_span=low,
                high_span=SpanMean(first_step=steps[-blocks][0], last_step=steps[-1][1], mean=mean),
                points=self._certain_points(blocks),
                sigmas=sigmas,
                is_weak=self._is_weak(sigmas),
            )

    def _is_weak(self, sigmas: float) -> bool:
        return sigmas < self._min_sigmas * (1 + 2 / self._linear.count)

    def _is_large(self, low_mean: float, newest_mean: float) -> bool:
        rise = newest_mean - low_mean
        return rise > LARGE_LEVEL_SHARE * low_mean > 0 and rise > LARGE_PROGRESS_SHARE * self.progress

    def _is_large_in_logs(self, low_mean: float, newest_mean: float) -> bool:
        return self._is_large(exp(low_mean), exp(newest_mean))

    def _matters(self, low_mean: float, newest_mean: float, blocks: int) -> bool:
        min_rise = self._minimum_rise.above(low_mean, self.progress)
        if newest_mean - low_mean <= min_rise:
            return False
        means = self._linear.means
        # One high block raises the mean of a long span; a rise is in most of its blocks.
        if blocks > 2 and median_of_sorted(sorted(means[-blocks:])) <= (low_mean + newest_mean) / 2:
            return False
        lasting = self._lasting_blocks
        return not lasting or min(means[-lasting:]) > low_mean + min_rise / 2

    def _rise(self, contrast: SpanContrast, low_mean: float, newest_mean: float) -> Rise:
        steps, blocks, low_start = self._block_steps, contrast.blocks, contrast.low_start
        has_noise = contrast.deviation > ROUNDING * abs(contrast.low_mean)
        low_steps = steps[low_start][0], steps[low_start + blocks - 1][1]
        sigmas = (contrast.newest_mean - contrast.low_mean) / contrast.deviation if has_noise else inf
        return Rise(
            low_span=SpanMean(first_step=low_steps[0], last_step=low_steps[1], mean=low_mean),
            high_span=SpanMean(first_step=steps[-blocks][0], last_step=steps[-1][1], mean=newest_mean),
            points=self._certain_points(blocks),
            sigmas=sigmas,
            is_weak=self._is_weak(sigmas),
        )

    def _limit(self, rise: float, level: float) -> DetectionLimit:
        progress = max(0.0, self._first_mean - level)
        return DetectionLimit(
            rise=max(rise, self._minimum_rise.above(level, progress)), level=abs(level), progress=progress
        )
