"""Compares findings with the registry of checks."""

from __future__ import annotations

from pytest_smoke.judge.checks.check import Reason
from pytest_smoke.judge.checks.registry import CHECK_FAILED, DEFAULT, Registry
from pytest_smoke.outcome import Finding


def registered_reason(finding: Finding, registry: Registry = DEFAULT) -> Reason | None:
    """Return the registry row of the finding's reason; None if its check cannot give it with this status."""
    row = registry.row(finding)
    return row.reason(finding.reason, finding.status) if row else None


def is_registered(finding: Finding, registry: Registry = DEFAULT) -> bool:
    """Tell whether the registry has the finding's check and reason; only a passed check needs no reason."""
    if finding.reason == CHECK_FAILED.id:
        return finding.status == CHECK_FAILED.status
    if registered_reason(finding, registry) is not None:
        return True
    return registry.row(finding) is not None and finding.status == "pass" and not finding.reason
