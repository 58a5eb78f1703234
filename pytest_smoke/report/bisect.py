"""What a bisect found, and every verdict it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from pytest_smoke.bisect.ddmin import Answer
from pytest_smoke.text import table

HEADER = ("smoke", "verdict", "step", "as in the unstable recipe")


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectTrial:
    """One smoke between the stable and the unstable recipe."""

    settings: tuple[str, ...]
    """Keys that are as in the unstable recipe; all others are as in the stable one."""
    verdict: str
    reason: str
    step: int | None
    text: str
    answer: Answer
    """What it means for the bisect."""
    smoke: str
    """Fingerprint of all that the verdict depends on."""
    kept: bool
    """Whether it was decided in an earlier session."""

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> Self:
        """The inverse of `asdict`."""
        return cls(**{**wire, "settings": tuple(wire["settings"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectResult:
    """A bisect, in plain data."""

    good: str
    """The stable recipe, as it was named."""
    bad: str
    differences: tuple[str, ...]
    """`key: value -> value`, the likeliest to matter first."""
    unseen: tuple[str, ...]
    """Settings that differ too and that no smoke sees."""
    tried: tuple[BisectTrial, ...]
    """In the order in which they were asked for."""
    minimal: tuple[str, ...]
    """The differences that were found; empty if none was."""
    text: str
    """What was found, or why nothing was, in a sentence."""

    @property
    def found(self) -> bool:
        """Whether there is an answer."""
        return bool(self.minimal)

    def to_dict(self) -> dict[str, Any]:
        """A tree of builtins."""
        return asdict(self)

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> Self:
        """The inverse of `to_wire`."""
        lists = {key: tuple(wire[key]) for key in ("differences", "unseen", "minimal")}
        return cls(**{**wire, **lists, "tried": tuple(map(BisectTrial.from_dict, wire["tried"]))})


def line(tried: BisectTrial, *, number: int, of: int) -> str:
    """`smoke 4: unstable (rise) at step 214 with full.learning_rate`, said as soon as it is decided."""
    at = f" at step {tried.step}" if tried.step is not None else ""
    kept = ", decided earlier" if tried.kept else ""
    return f"smoke {number}: {_word(tried)}{at} with {_settings(tried, of)}{kept}"


def summary(bisected: BisectResult) -> list[tuple[str, str]]:
    """Lines of the closing section, each with the verdict it speaks of (empty: of none)."""
    count = len(bisected.differences)
    numbered = enumerate(bisected.tried, start=1)
    rows = [HEADER, *((str(n), _word(one), _step(one), _settings(one, count)) for n, one in numbered)]
    head = [f"{bisected.good} is stable, {bisected.bad} is not; {count} settings differ:"] if bisected.found else []
    head += [f"  {difference}" for difference in bisected.differences]
    if bisected.unseen:
        head.append(f"  {', '.join(bisected.unseen)} too, which no smoke sees")
    lines = (
        list(zip(table(rows), ["", *(one.verdict for one in bisected.tried)], strict=True)) if bisected.tried else []
    )
    return [*((text, "") for text in head), *lines, (bisected.text, "promote" if bisected.found else "error")]


def _word(tried: BisectTrial) -> str:
    return f"{tried.verdict} ({tried.reason})" if tried.reason else tried.verdict


def _step(tried: BisectTrial) -> str:
    return "-" if tried.step is None else str(tried.step)


def _settings(tried: BisectTrial, count: int) -> str:
    if len(tried.settings) == count:
        return f"all {count}"
    return ", ".join(tried.settings) or "none"
