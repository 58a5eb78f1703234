"""Detection of NaN, infinity, and exact zeros that replace a NaN in the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from pytest_smoke.text import count, number, steps

MAX_MAGNITUDE = 1e100
"""Values of this size or more count as infinite: their squares soon overflow a double."""
MAX_SKIPPED_STEPS = 16
"""A loss scaler for fp16 starts at 2^16 and halves at each skipped step: after 16 in a row it is down to 1."""
ZERO_POINTS = 8
"""Number of exact zeros in a row that count as a replaced NaN (transformers logs NaN as 0.0), provided that ..."""
ZERO_MIN_SHARE = 0.01
"""... the last loss before them was above this share of the first: a loss that underflows is far smaller by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NonFinite:
    """A value that ends the run."""

    series: str
    """`loss`, `probe_loss`, `grad_norm` or the name of a loss term."""
    text: str


class FiniteCheck:
    """Check every value of each point for finiteness."""

    def __init__(self) -> None:
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
        if grad_norm is not None:
            if -MAX_MAGNITUDE < grad_norm < MAX_MAGNITUDE:
                self._skipped_in_a_row, self.skipping_since = 0, None
            elif loss == 0.0:
                where = f"at step {step} while the gradient norm is {number(grad_norm)}"
                return NonFinite(series="loss", text=f"loss is exactly 0 {where}: some loggers write a NaN as 0")
            elif failure := self._add_skipped(step):
                return failure
        if loss:
            self._zeros = 0
            self._last_nonzero = loss
            if self._first_loss is None:
                self._first_loss = loss
            return None
        return self._add_zero(step)

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
        if self._zeros != ZERO_POINTS or not self._first_loss:
            return None
        if abs(self._last_nonzero) <= ZERO_MIN_SHARE * abs(self._first_loss):
            return None
        text = (
            f"loss dropped from {number(self._last_nonzero)} to exactly 0 for {ZERO_POINTS} points "
            f"({steps(self._first_zero, step)}): some loggers write a NaN as 0"
        )
        return NonFinite(series="loss", text=text)


def _nonfinite_term(step: int, terms: Mapping[str, float] | None) -> NonFinite | None:
    for name, value in (terms or {}).items():
        if not -MAX_MAGNITUDE < value < MAX_MAGNITUDE:
            return _nonfinite(name, name, value, step)
    return None


def _nonfinite(series: str, name: str, value: float, step: int) -> NonFinite:
    why = ", which is too large to be judged" if isfinite(value) else ""
    return NonFinite(series=series, text=f"{name} is {number(value)} at step {step}{why}")
