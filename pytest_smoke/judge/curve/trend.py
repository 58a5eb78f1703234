"""The trough engine: is the newest span of a series above the lowest earlier one?

Two scales are tested. The mean of the losses is what training minimises; the mean of their logarithms sees a rise
inside noise that is multiplicative and heavy-tailed (small batches, losses that fall by decades).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, inf, log, log1p, sqrt

from pytest_smoke.judge.curve.blocks import CHUNK_POINTS, Blocks, Contrast

BLOCKS = 120
"""Blocks in the planned window. 80 stopped 1-3 % fewer of the labelled instabilities, 160 raised more false alarms."""
MIN_BLOCK_POINTS = 5
"""Points in a block, where the window allows `FEWEST_BLOCKS` of them: fewer and a block's own error says nothing."""
FEWEST_BLOCKS = 30
"""Short logs get smaller blocks, down to 2 points, before they get fewer blocks."""
SPANS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
"""Blocks averaged: longer spans see smaller rises. 1, 2, 4, ... alone left twice as many windows too noisy to judge."""
SIGMAS = 4.5
"""Standard deviations that a rise must exceed, times 1 + 2 / blocks while the noise is measured on few."""
POWER = 1.25
"""A rise at the threshold is seen half the time; one of 1.25 times that in 86 % of runs, of 1.15 times in 77 %."""
BOUND_BLOCKS = 60
"""Blocks of noise behind that claim, three times those of a test: it speaks of the window, not of its end."""
STEADY_SPAN = 4
"""Blocks whose lowest mean is the level of a claim, and the end of its progress: the lowest single one is noise."""
SEEN_SHARE = 0.10
"""A promotion claims that a lasting rise by 10 % of the level, or by 10 % of the progress, would have been seen."""
FALL_SIGMAS = 3.0
"""Standard deviations of a fall that counts as progress: less than of a rise, since to deny it is a claim too."""
DOUBT = 1e-12
"""Relative rounding of a block mean: noise below it is arithmetic, not data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The rise that matters, however certain a smaller one may be."""

    level: float
    """Share of the trough."""
    progress: float
    """Share of the fall from the first block to the lowest."""
    doubled: float
    """Share of that fall from which a doubling of the trough matters too: a loss that fell by decades may yet rise."""

    def above(self, low_span: float, progress: float) -> float:
        """Smallest rise above `trough` that matters, in units of the loss."""
        fallen = min(self.progress * progress, max(abs(low_span), self.doubled * progress))
        return max(self.level * abs(low_span), fallen)


LOSS_GATE = Gate(level=0.02, progress=0.01, doubled=0.001)
"""The labels' own gate: no engineer acts on a rise below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Consecutive points and their mean (on the logarithmic scale: geometric mean)."""

    first: int
    last: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """The newest span lies significantly above the trough."""

    low_span: Span
    high_span: Span
    sigmas: float
    """The rise over the standard deviation of a difference of two such means; infinite without noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The smallest lasting rise that would have been seen, in units of the loss, and what it is small against."""

    rise: float
    level: float
    progress: float

    @property
    def excess(self) -> float:
        """Over the rise that a promotion claims it would have seen: above 1, it does not promote."""
        claimed = SEEN_SHARE * max(self.level, self.progress)
        return self.rise / claimed if claimed else 0.0

    @property
    def of_level(self) -> float | None:
        """As a share of the lowest level."""
        return self.rise / self.level if self.level else None


class Trend:
    """One series in, a rise or nothing out.

    `planned` is in points. The newest `lasting` blocks must all lie half a gate above the trough.
    """

    def __init__(
        self,
        planned: int,
        *,
        blocks: int = 0,
        min_points: int = 0,
        spans: tuple[int, ...] = (),
        gate: Gate = LOSS_GATE,
        sigmas: float = 0.0,
        lasting: int = 0,
    ) -> None:
        smallest = min_points or min(MIN_BLOCK_POINTS, max(2, planned // FEWEST_BLOCKS))
        self.block_points = max(smallest, round(planned / (blocks or BLOCKS)))
        self.progress = 0.0
        """Fall from the first block mean to the lowest."""
        self._gate = gate
        self._sigmas = sigmas or SIGMAS
        self._spans = spans or SPANS
        self._lasting = lasting
        self._linear = Blocks(self._spans)
        self._log: Blocks | None = Blocks(self._spans)
        self._chunk: list[float] = []
        self._held = 0
        self._first = 0
        self._edges: list[tuple[int, int]] = []
        self._top = self._low = 0.0
        self._bounds: list[Bound] = []

    @property
    def blocks(self) -> int:
        """Blocks closed."""
        return len(self._edges)

    @property
    def pending(self) -> int:
        """Points of the open block."""
        return self._held + len(self._chunk)

    def add(self, step: int, value: float) -> Rise | None:
        """One finite point. A rise is reported at the end of the block that shows it."""
        chunk = self._chunk
        if not chunk and not self._held:
            self._first = step
        chunk.append(value)
        held = self._held + len(chunk)
        if held < self.block_points and len(chunk) < CHUNK_POINTS:
            return None
        self._flush()
        return self._close(step) if held >= self.block_points else None

    def edge(self, step: int) -> Rise | None:
        """`step` is the last one before the data or the loss changes: no level is compared across it.

        A block that is half full counts, and may still show a rise; less is dropped.
        """
        rise = None
        if self._held + len(self._chunk) >= max(2, self.block_points / 2):
            self._flush()
            rise = self._close(step)
        self._chunk, self._held = [], 0
        bound = self.bound()
        if bound:
            self._bounds = [bound]
        for scale in (self._linear, self._log):
            if scale:
                scale.edge()
        self.progress = 0.0
        return rise

    def _flush(self) -> None:
        chunk = sorted(self._chunk)
        if chunk:
            self._linear.chunk(chunk)
            if self._log and chunk[0] > 0:
                self._log.chunk([log(value) for value in chunk])
            else:
                self._log = None
            self._held += len(chunk)
            self._chunk = []

    def _close(self, step: int) -> Rise | None:
        self._held = 0
        self._edges.append((self._first, step))
        mean = self._linear.close()
        if self._linear.count == 1:
            self._top = self._low = mean
        elif mean < self._low:
            self._low = mean
        self.progress = self._top - self._low
        if self._log:
            self._log.close()
        found = list(self._rises())
        return max(found, key=lambda rise: rise.sigmas) if found else None

    def _rises(self) -> Iterator[Rise]:
        gate, count = self._gate, self._linear.count
        needed = self._sigmas * (1 + 2 / count)
        least = gate.above(self._low, self.progress) if self._low > 0 else 0.0
        for seen in self._linear.contrasts(least, needed):
            if self._matters(seen.low_span, seen.newest):
                yield self._rise(seen, seen.low_span, seen.newest)
        if self._log:
            for seen in self._log.contrasts(log1p(gate.level), needed):
                low_span, newest = exp(seen.low_span), exp(seen.newest)
                if self._matters(low_span, newest):
                    yield self._rise(seen, low_span, newest)

    def _matters(self, low_span: float, newest: float) -> bool:
        gate = self._gate.above(low_span, self.progress)
        if newest - low_span <= gate:
            return False
        return not self._lasting or min(self._linear.means[-self._lasting :]) > low_span + gate / 2

    def _rise(self, seen: Contrast, low_span: float, newest: float) -> Rise:
        edges, doubt = self._edges, DOUBT * abs(seen.low_span)
        return Rise(
            low_span=Span(first=edges[seen.at][0], last=edges[seen.at + seen.span - 1][1], value=low_span),
            high_span=Span(first=edges[-seen.span][0], last=edges[-1][1], value=newest),
            sigmas=(seen.newest - seen.low_span) / seen.sigma if seen.sigma > doubt else inf,
        )

    def bound(self) -> Bound | None:
        """The smallest lasting rise that would have been seen, on the scale that sees best; None before two blocks.

        Noise n of a block mean, spans of s blocks: 1.25 x 4.5 (1 + 2 / blocks) n sqrt(2 / s).
        """
        count = self._linear.count
        spans = [span for span in self._spans if 2 * span <= count]
        bounds = list(self._bounds)
        if spans:
            needed = POWER * self._sigmas * (1 + 2 / count) * sqrt(2 / spans[-1])
            level = self._linear.lowest(min(STEADY_SPAN, spans[-1]))
            bounds.append(self._bounded(needed * self._linear.noise(BOUND_BLOCKS), level))
            if self._log and level > 0:
                factor = exp(min(needed * self._log.noise(BOUND_BLOCKS), 50.0))
                bounds.append(self._bounded(level * (factor - 1), level))
        return min(bounds, key=lambda bound: bound.excess, default=None)

    def _bounded(self, rise: float, level: float) -> Bound:
        progress = max(0.0, self._top - level)
        return Bound(rise=max(rise, self._gate.above(level, progress)), level=abs(level), progress=progress)

    def fall(self) -> tuple[float, float, bool]:
        """First block mean, lowest one, and whether some span of the segment fell by more than 2 % and its noise."""
        means, count = self._linear.means[self._linear.start :], self._linear.count
        for span in self._spans:
            if 2 * span > count:
                break
            first = sum(means[:span]) / span
            low = min(sum(means[at : at + span]) / span for at in range(span, count - span + 1))
            noise = FALL_SIGMAS * (1 + 2 / count) * self._linear.noise() * sqrt(2 / span)
            if first - low > max(self._gate.level * abs(first), noise):
                return self._top, self._low, True
        return self._top, self._low, False
