"""Select the mode of a smoke run, and the schedule of each mode."""

from __future__ import annotations

from pytest_smoke.recipe.model import Change, Mode, Smoke

MODE_OF_CHANGE: dict[Change | None, Mode] = {
    None: "constant",  # the strictest mode: missing a divergence costs more than repeating a smoke run
    "new-recipe": "constant",
    "new-loss": "constant",
    "new-normalization": "constant",
    "new-tokenizer": "constant",
    "new-class-weights": "constant",
    "new-learning-rate": "constant",
    "tweak": "constant",
    "tweak-cosine-matters": "long-tail",
    "integration": "wiring",
    "reproduce-divergence": "constant",
}

SCHEDULE_OF_MODE: dict[Mode, str] = {"constant": "constant", "long-tail": "cosine", "wiring": "constant"}
"""The `lr_schedule` of the smoke run in each mode."""

LONG_TAIL_MIN_STEPS = 10_000
"""Shortest `max_steps` of a long-tail run; with fewer, the cosine already decays in the judged steps."""
WIRING_STEPS = 10
"""Optimizer steps of a wiring run: enough for gradient accumulation, an update and an evaluation."""


def modes_of(smoke: Smoke, override: Mode | None = None) -> list[Mode]:
    """Return the modes to run: `override` (`--smoke-mode`), else `smoke.mode`, else the mode for `smoke.change`."""
    if override is not None:
        return [override]
    if smoke.mode is None:
        return [MODE_OF_CHANGE[smoke.change]]
    return [smoke.mode] if isinstance(smoke.mode, str) else list(dict.fromkeys(smoke.mode))
