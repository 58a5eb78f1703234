"""Detection of NaN, infinity, and of exact zeros: those that replace a NaN, and those of a run that trains nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite

from pytest_smoke.text import count, number, steps

MAX_MAGNITUDE = 1e30
"""Values of this size or more count as infinite: float32 ends at 3e38, and masks are often -1e34."""
MAX_SKIPPED_STEPS = 16
"""A loss scaler for fp16 starts at 2^16 and halves at each skipped step: after 16 in a row it is down to 1."""
ZERO_POINTS = 8
"""Number of exact zeros in a row that count as a replaced NaN (transformers logs NaN as 0.0), provided that ..."""
ZERO_MIN_SHARE = 0.01
"""... the last loss before them was above this share of the first: a loss that underflows is far smaller by then."""
LAST_LOSSES = 2
"""Last losses before the zeros at the end of a short log, one of which must be above that share, ..."""
ZERO_UNITS = 20
"""... and this many units of its last decimal: 0.01 may be followed by a 0.00 that was rounded."""
CONSTANT_POINTS = 20
"""Number of equal losses at the end of a curve that are too many for chance, provided that they are ..."""
CONSTANT_SHARE = 0.2
"""... this share of all points, ..."""
CONSTANT_DIGITS = 4
"""... and have so many digits, so that a change would show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NonFinite:
    """A value that ends the run."""

    series: str
    """`loss`, `probe_loss`, `grad_norm` or the name of a loss term."""
    text: str


class FiniteCheck:
    """Check every value of each point for finiteness."""

    def __init__(self, *, zero_is_nan: bool = True) -> None:
        """Check a log; with `zero_is_nan` off, exact zeros are losses of 0, as in a run that writes its own values."""
        self._zero_is_nan = zero_is_nan
        self.skipped = 0
        """Number of points with a non-finite gradient norm and a finite loss."""
        self.first_skipped = 0
        """Step of the first of them."""
        self.skipping_since: int | None = None
        """First step of the current series of non-finite gradient norms; None if the newest one was finite."""
        self._skipped_in_a_row = 0
        self._zeros = 0
        self._first_zero = 0
        self._first_loss: float | None = None
        self._last_nonzero = 0.0
        self._last_losses: deque[float] = deque(maxlen=LAST_LOSSES)
        """Newest losses that are not 0."""
        self._points = 0
        self._norms = 0
        self._zero_norms = 0
        self._equal = 0
        """Number of newest losses that are equal."""
        self._longest_equal = 0
        """Longest earlier streak of equal losses."""
        self._loss: float | None = None
        self._step = 0

    def add(
        self,
        step: int,
        loss: float,
        probe_loss: float | None,
        grad_norm: float | None,
        terms: Mapping[str, float] | None,
    ) -> NonFinite | None:
        """Check one point. Where both the loss and a term are not finite, report the term: it is the cause."""
        if not -MAX_MAGNITUDE < loss < MAX_MAGNITUDE:
            return _nonfinite_term(step, terms) or _nonfinite("loss", "loss", loss, step)
        if probe_loss is not None and not -MAX_MAGNITUDE < probe_loss < MAX_MAGNITUDE:
            return _nonfinite("probe_loss", "loss on the probe batch", probe_loss, step)
        if terms and (culprit := _nonfinite_term(step, terms)):
            return culprit
        self._count_constants(step, loss, grad_norm)
        if grad_norm is not None:
            if -MAX_MAGNITUDE < grad_norm < MAX_MAGNITUDE:
                self._skipped_in_a_row, self.skipping_since = 0, None
            elif loss == 0.0 and self._zero_is_nan:
                where = f"at step {step} while the gradient norm is {number(grad_norm)}"
                return NonFinite(series="loss", text=f"loss is exactly 0 {where}: some loggers write a NaN as 0")
            elif failure := self._add_skipped(step):
                return failure
        if loss:
            self._zeros = 0
            self._last_nonzero = loss
            self._last_losses.append(loss)
            if self._first_loss is None:
                self._first_loss = loss
            return None
        return self._add_zero(step)

    def zeros_at_end(self) -> NonFinite | None:
        """Return the collapse to exactly 0 with which a log ends that is too short for `ZERO_POINTS` zeros."""
        if not self._zeros or not self._first_loss or not self._zero_is_nan:
            return None
        if not any(self._is_far_from_zero(loss) for loss in self._last_losses):
            return None
        zeros = "at the last point" if self._zeros == 1 else f"at the last {self._zeros} points"
        text = (
            f"loss dropped from {number(self._last_losses[0])} to exactly 0 {zeros} "
            f"({steps(self._first_zero, self._step)}): some loggers write a NaN as 0"
        )
        return NonFinite(series="loss", text=text)

    def _is_far_from_zero(self, loss: float) -> bool:
        assert self._first_loss is not None
        exponent = Decimal(repr(loss)).as_tuple().exponent
        unit = 10.0**exponent if isinstance(exponent, int) else 0.0
        return abs(loss) > ZERO_MIN_SHARE * abs(self._first_loss) and abs(loss) >= ZERO_UNITS * unit

    def dead(self) -> str:
        """Say why nothing is trained; empty if something may be."""
        points = self._points
        if points and self._first_loss is None:
            all_points = count(points, "point")
            return f"loss is exactly 0 at all {all_points}: all labels are ignored, or no loss term contributes"
        if self._norms >= CONSTANT_POINTS and self._zero_norms == self._norms:
            return f"gradient norm is exactly 0 at all {count(self._norms, 'point')}: nothing is trained"
        if self._loss is None or self._equal < max(CONSTANT_POINTS, CONSTANT_SHARE * points):
            return ""
        if _digits(self._loss) < CONSTANT_DIGITS or self._equal < 2 * self._longest_equal:
            return ""
        which = "all" if self._equal == points else "the last"
        return f"loss is exactly {number(self._loss)} at {which} {count(self._equal, 'point')}: nothing is trained"

    def _count_constants(self, step: int, loss: float, grad_norm: float | None) -> None:
        self._points += 1
        self._step = step
        if grad_norm is not None:
            self._norms += 1
            self._zero_norms += grad_norm == 0.0
        if loss == self._loss:
            self._equal += 1
            return
        self._longest_equal = max(self._longest_equal, self._equal)
        self._equal, self._loss = 1, loss

    def notes(self) -> list[str]:
        """Describe the skipped steps."""
        if not self.skipped:
            return []
        points = count(self.skipped, "point")
        return [
            f"{points} with a finite loss and a non-finite gradient norm, first at step {self.first_skipped}: "
            f"an fp16 loss scaler skips such steps (more than {MAX_SKIPPED_STEPS} in a row are unstable)"
        ]

    def _add_skipped(self, step: int) -> NonFinite | None:
        if not self.skipped:
            self.first_skipped = step
        if self.skipping_since is None:
            self.skipping_since = step
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row <= MAX_SKIPPED_STEPS:
            return None
        where = f"{self._skipped_in_a_row} points in a row ({steps(self.skipping_since, step)})"
        cause = f"an fp16 loss scaler skips at most {MAX_SKIPPED_STEPS} in a row"
        return NonFinite(series="grad_norm", text=f"gradient norm is not finite for {where}: {cause}")

    def _add_zero(self, step: int) -> NonFinite | None:
        self._zeros += 1
        if self._zeros == 1:
            self._first_zero = step
        if self._zeros != ZERO_POINTS or not self._first_loss or not self._zero_is_nan:
            return None
        if abs(self._last_nonzero) <= ZERO_MIN_SHARE * abs(self._first_loss):
            return None
        text = (
            f"loss dropped from {number(self._last_nonzero)} to exactly 0 for {ZERO_POINTS} points "
            f"({steps(self._first_zero, step)}): some loggers write a NaN as 0"
        )
        return NonFinite(series="loss", text=text)


def _digits(value: float) -> int:
    """Return the number of significant digits of the shortest decimal that equals `value`."""
    return len(Decimal(repr(value)).normalize().as_tuple().digits)


def _nonfinite_term(step: int, terms: Mapping[str, float] | None) -> NonFinite | None:
    for name, value in (terms or {}).items():
        if not -MAX_MAGNITUDE < value < MAX_MAGNITUDE:
            return _nonfinite(name, name, value, step)
    return None


def _nonfinite(series: str, name: str, value: float, step: int) -> NonFinite:
    why = ": values of this size count as infinite" if isfinite(value) else ""
    return NonFinite(series=series, text=f"{name} is {number(value)} at step {step}{why}")
