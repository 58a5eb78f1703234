"""The result of a bisect: the trials it made and the settings it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from pytest_smoke.bisect.ddmin import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectTrial:
    """One smoke run with settings of both recipes."""

    settings: tuple[str, ...]
    """Keys with the value of the unstable recipe; all others have that of the stable one."""
    verdict: str
    """The verdict of the smoke run."""
    reason: str
    """Its reason."""
    step: int | None
    """The optimizer step the verdict is about."""
    text: str
    """The sentence that decided the verdict."""
    answer: Answer
    """What the verdict means for the search."""
    smoke: str
    """Fingerprint of everything that the verdict depends on."""
    kept: bool
    """Whether the verdict comes from an earlier session."""

    def to_dict(self) -> dict[str, Any]:
        """Return a tree of builtins."""
        return asdict(self)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """Return the inverse of `to_dict`."""
        return cls(**{**tree, "settings": tuple(tree["settings"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectResult:
    """A bisect, finished or not."""

    good: str
    """The stable recipe, as the user named it."""
    bad: str
    """The unstable recipe, as the user named it."""
    differences: tuple[str, ...]
    """`key: value -> value`, the most likely cause first."""
    unseen: tuple[str, ...]
    """Settings that also differ but have no effect on a smoke run."""
    tried: tuple[BisectTrial, ...]
    """The trials, in the order in which they were made."""
    minimal: tuple[str, ...]
    """The settings that were found; empty if none were."""
    text: str
    """What was found, or why nothing was."""

    @property
    def found(self) -> bool:
        """Whether the search found an answer."""
        return bool(self.minimal)

    def to_dict(self) -> dict[str, Any]:
        """Return a tree of builtins."""
        return asdict(self)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """Return the inverse of `to_dict`."""
        lists = {key: tuple(tree[key]) for key in ("differences", "unseen", "minimal")}
        return cls(**{**tree, **lists, "tried": tuple(map(BisectTrial.from_dict, tree["tried"]))})
