"""What the columns of a log say about the samples in a step."""

from __future__ import annotations

import re

from pytest_smoke.logs.log import Log

_SO_FAR = re.compile(
    r"(?:(?:total|num|number of)[ _]+)?(?:train[ _]+)?"
    r"(?:(?:samples|examples|sequences)[ _]+(?:seen|consumed|so[ _]far)|"
    r"(?:seen|consumed)[ _]+(?:train[ _]+)?(?:samples|examples|sequences))",
    re.IGNORECASE,
)
"""Columns that count the samples of all steps so far."""
_PER_STEP = re.compile(
    r"(?:samples|examples|sequences)[ _/]+(?:per|in|a)?[ _]*(?:step|update)|"
    r"(?:global|total|effective)[ _]+batch[ _]+size",
    re.IGNORECASE,
)
"""Columns that count the samples of one step."""
POINTS_FOR_SAMPLES = 3
"""Points with such a number that tell it: the first may count from another step."""


def samples_told(log: Log) -> tuple[str, int] | None:
    """Return the samples in a step of the log as a column tells them, behind what it says; None if none does."""
    for name, values in log.other_columns().items():
        if len(values) < POINTS_FOR_SAMPLES:
            continue
        if _PER_STEP.fullmatch(name):
            (_, samples), *_ = values[1:]
            return f"{name} {samples:g}", round(samples)
        (step, first), (later, last) = values[1], values[-1]
        if _SO_FAR.fullmatch(name) and later > step and last > first:
            samples = (last - first) / (later - step)
            return f"{name} {first:g} at step {step} and {last:g} at step {later}", round(samples)
    return None


def same_samples(log: Log) -> int | None:
    """Return the samples in a step if a column has the same whole number of them for every step; None otherwise."""
    for name, points in log.other_columns().items():
        values = {value for _, value in points}
        if len(points) >= POINTS_FOR_SAMPLES and len(values) == 1 and _PER_STEP.fullmatch(name):
            (samples,) = values
            return int(samples) if samples >= 1 and samples == int(samples) else None
    return None
