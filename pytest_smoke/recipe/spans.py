"""Where the stages and phases of a smoke lie on its steps; pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from pytest_smoke.recipe.stages import Stage, phase_lengths, smoke_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One stage on the steps of its smoke."""

    stage: Stage
    first_step: int
    """Its first optimizer step; stages follow each other without a gap."""
    steps: int
    """How many it has, at least 1."""
    phases: tuple[tuple[str, int], ...] = ()
    """Name and first step of each phase, in order; the first starts with the stage."""

    @property
    def end(self) -> int:
        """The step after its last."""
        return self.first_step + self.steps

    @property
    def edges(self) -> list[int]:
        """Steps inside the stage at which another phase begins."""
        return [first for _, first in self.phases[1:]]


def spans_of(stages: Sequence[Stage], steps_per_epoch: int | None, *, at_most: int | None = None) -> tuple[Span, ...]:
    """The stages one after the other, from step 0.

    `at_most` shortens every longer stage to so many steps, and shares them among its phases: what a wiring run does.
    """
    spans: list[Span] = []
    for stage in stages:
        first = spans[-1].end if spans else 0
        planned = smoke_steps(stage, steps_per_epoch)
        steps = planned if at_most is None else min(planned, at_most)
        if steps == planned:
            offsets = list(accumulate(phase_lengths(stage, steps_per_epoch), initial=0))
        else:
            offsets = [steps * number // len(stage.phases) for number in range(len(stage.phases))]
        names = [phase.name for phase in stage.phases]
        phases = tuple((name, first + offset) for name, offset in zip(names, offsets, strict=False))
        spans.append(Span(stage=stage, first_step=first, steps=steps, phases=phases))
    return tuple(spans)
