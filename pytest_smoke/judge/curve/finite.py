"""Values that are no loss: NaN, infinity, exact zeros where a NaN was swallowed."""

from __future__ import annotations

from collections.abc import Mapping

HUGE = 1e100
"""Above it squares overflow a double; a loss there is as good as infinite."""
SKIPPED_STEPS = 16
"""An fp16 loss scaler that starts at 2^16 and halves at each skipped step is below 1 after 16 of them."""
ZERO_POINTS = 8
"""Exact zeros in a row after which a loss is taken for a swallowed NaN (transformers logs NaN as 0.0) ..."""
ZERO_FROM = 0.01
"""... if it fell to zero from more than this share of its first value: a smooth fall underflows from far lower."""


class Finite:
    """Looks at every value of a point. `add` returns the series that failed and what was seen, or nothing."""

    def __init__(self) -> None:
        self.skipped = 0
        """Points with a non-finite gradient norm and a finite loss."""
        self.first_skipped = 0
        self.row_first: int | None = None
        """First step of the non-finite gradient norms that last until now."""
        self._row = 0
        self._zeros = 0
        self._first: float | None = None
        self._nonzero = 0.0

    def add(
        self,
        step: int,
        loss: float,
        probe_loss: float | None,
        grad_norm: float | None,
        terms: Mapping[str, float] | None,
    ) -> tuple[str, str] | None:
        """One point: (series, what was seen) where it is not finite."""
        if not -HUGE < loss < HUGE:
            culprit = _first_infinite(terms)
            return culprit or ("loss", f"loss is {loss:g}")
        if probe_loss is not None and not -HUGE < probe_loss < HUGE:
            return "probe_loss", f"probe_loss is {probe_loss:g}"
        if terms and (culprit := _first_infinite(terms)):
            return culprit
        if grad_norm is not None:
            if -HUGE < grad_norm < HUGE:
                self._row, self.row_first = 0, None
            elif loss == 0.0:
                return "loss", f"loss is exactly 0 and the gradient norm {grad_norm:g}"
            elif failed := self._skip(step, grad_norm):
                return failed
        if loss:
            self._zeros = 0
            self._nonzero = loss
            if self._first is None:
                self._first = loss
            return None
        return self._zero()

    def notes(self) -> list[str]:
        """Skipped steps, counted."""
        if not self.skipped:
            return []
        return [
            f"{self.skipped} point{'s' * (self.skipped > 1)} with a finite loss and a non-finite gradient norm, the "
            f"first at step {self.first_skipped}: steps that an fp16 loss scaler skipped, of which more than "
            f"{SKIPPED_STEPS} in a row fail"
        ]

    def _skip(self, step: int, grad_norm: float) -> tuple[str, str] | None:
        if not self.skipped:
            self.first_skipped = step
        if not self._row:
            self.row_first = step
        self.skipped += 1
        self._row += 1
        if self._row > SKIPPED_STEPS:
            return (
                "grad_norm",
                f"the gradient norm is {grad_norm:g} for {self._row} points in a row: no loss scaler skips so many",
            )
        return None

    def _zero(self) -> tuple[str, str] | None:
        self._zeros += 1
        if self._zeros == ZERO_POINTS and self._first and abs(self._nonzero) > ZERO_FROM * abs(self._first):
            return (
                "loss",
                f"loss fell from {self._nonzero:g} to exactly 0 for {ZERO_POINTS} points, as a swallowed NaN is logged",
            )
        return None


def _first_infinite(terms: Mapping[str, float] | None) -> tuple[str, str] | None:
    for name, value in (terms or {}).items():
        if not -HUGE < value < HUGE:
            return name, f"{name} is {value:g}"
    return None
