"""What one check said."""

from __future__ import annotations

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

    def to_wire(self) -> dict[str, Any]:
        """A tree of builtins."""
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Self:
        """The inverse of `to_wire`."""
        return cls(**wire)
