"""Names of metrics in the recipe that the smoke run never recorded, most often misspelt ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pytest_smoke.criteria import parse
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.model import MetricSpec
from pytest_smoke.text import closest, listed


def missing_declared(declared: Mapping[str, MetricSpec], returned: Collection[str]) -> list[Finding]:
    """Warn (`metrics`) if the recipe's `metrics` section names what `evaluate` never returned, `against` included."""
    names = [name for name in declared if name not in returned]
    names += [spec.against for spec in declared.values() if spec.against and spec.against not in returned]
    missing = list(dict.fromkeys(names))
    if not missing:
        return []
    text = (
        f"the recipe's `metrics` section names {listed(missing, limit=len(missing))}, "
        f"but evaluate() returned {listed(returned, limit=len(returned), empty='nothing')}"
    )
    return [
        Finding(id="metrics", status="warn", reason="missing-metric", text=text, hint=_suggestion(missing, returned))
    ]


def missing_metrics(full_accept: Sequence[str], recorded: Collection[str]) -> list[Finding]:
    """Warn (`full-accept`) if a criterion of the full run names a series that the smoke run never recorded."""
    wanted = dict.fromkeys(name for text in full_accept for name in sorted(parse(text).metrics))
    missing = [name for name in wanted if name not in recorded]
    if not missing:
        return []
    text = (
        f"checks.full_accept names {listed(missing, limit=len(missing))}, which this smoke run never recorded; "
        f"it recorded {listed(recorded, limit=len(recorded), empty='nothing')}"
    )
    hint = _suggestion(missing, recorded)
    return [Finding(id="full-accept", status="warn", reason="missing-metric", text=text, hint=hint)]


def _suggestion(missing: Sequence[str], known: Collection[str]) -> str:
    near = [match for name in missing if (match := closest(name, known)) is not None]
    return f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
