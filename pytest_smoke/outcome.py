"""What a smoke run leaves: findings, and the outcome that every report is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Status = Literal["pass", "warn", "fail", "not-checked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check, in plain data."""

    id: str
    """Stable id of the check: `batch-geometry`, `loss-trend`, `accept[max(grad_norm) < 500]`, ..."""
    status: Status
    """`not-checked` never promotes."""
    text: str
    """One sentence with the numbers that decided."""
    reason: str = ""
    """One word for scripts, where the check can fail in several ways: `rise`, `spike`, `masked`, ..."""
    step: int | None = None
    """The optimizer step it speaks of."""
    observed: Any = None
    """What was seen (builtins only)."""
    bound: Any = None
    """What is allowed (builtins only)."""
    hint: str = ""
    """What to try next; empty where the sentence says it."""
    data: dict[str, Any] = field(default_factory=dict)
    """Figures for plots and tables (builtins only)."""

    def to_dict(self) -> dict[str, Any]:
        """A tree of builtins."""
        return asdict(self)

    @classmethod
    def from_dict(cls, wire: dict[str, Any]) -> Self:
        """The inverse of `to_wire`."""
        return cls(**wire)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One smoke, in plain data."""

    id: str
    """The item's node id."""
    recipe: str
    """The recipe's file, from the rootdir."""
    mode: str
    cell: str | None
    """Ablation cell; None for the baseline."""
    verdict: str
    """`promote`, `unstable`, `hold`, `invalid`, `inconclusive` or `error`."""
    reason: str
    """One word for scripts; empty for a clean promotion."""
    step: int | None
    """The optimizer step the verdict speaks of."""
    text: str
    """The sentence that decided."""
    findings: tuple[Finding, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Figures, with the unit in the name."""
    curve: Mapping[str, list[Any]] = field(default_factory=dict)
    """`step` and mean `loss` of at most 240 blocks of the smoke."""
    metrics: Mapping[str, list[Any]] = field(default_factory=dict)
    """`[step, value]` pairs by metric of the task's `evaluate`."""
    output: str = ""
    """Newest lines the child wrote, where it broke off."""

    @property
    def promoted(self) -> bool:
        """Whether the full run is worth launching."""
        return self.verdict == "promote"

    def finding(self, id: str) -> Finding | None:
        """The finding of a check; None if it was not made."""
        return next((finding for finding in self.findings if finding.id == id), None)

    def to_dict(self) -> dict[str, Any]:
        """A tree of builtins; NaN and infinities stay floats (JSON reports rename them)."""
        return asdict(self)

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> Self:
        """The inverse of `to_wire`."""
        return cls(**{**wire, "findings": tuple(Finding.from_dict(finding) for finding in wire["findings"])})
