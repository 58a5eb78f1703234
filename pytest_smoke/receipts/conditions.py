"""Which conditions of the full run a smoke run had, and which it did not have."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pytest_smoke.outcome import Facts, Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.text import count

UNVERIFIED = "accepted-unverified"
"""Reason of a finding about a check that `checks.accept_unverified` lets go without data."""


def tested(case: Case, facts: Facts, *, isolation: str, early_stop: bool) -> dict[str, Any]:
    """Return the conditions of the smoke run. A full run's ranks are folded onto one device, or those of `launch`."""
    known = case.is_complete
    return {
        "device": device_kind(facts),
        "device_name": facts.device_name or "",
        "precision": facts.precision or "",
        "world_size": case.recipe.processes if known else None,
        "full_world_size": case.full.world_size if known else None,
        "effective_batch_samples": facts.effective_batch_samples,
        "mode": case.mode,
        "lr_schedule": case.settings.lr_schedule,
        "seed": facts.seed,
        "parameters": facts.parameters,
        "isolation": isolation,
        "early_stop": early_stop,
        "resumed_at_steps": list(facts.resumed_at_steps),
    }


def device_kind(facts: Facts) -> str:
    """Return `cpu`, `cuda` or `mps`; `unknown` for a command, which does not say what it uses."""
    return (facts.device or "unknown").partition(":")[0]


def not_tested(
    case: Case,
    facts: Facts,
    findings: Sequence[Finding],
    *,
    files: Collection[str],
    data: Mapping[str, Any],
    unread: Mapping[str, str],
    isolation: str,
) -> list[dict[str, str]]:
    """Return `id` and `text` of every condition of the full run that the smoke run did not have, or no receipt has.

    `unread`: why data could not be read, by path.
    """
    found = [*_not_tested(case, facts, findings, isolation), *_not_compared(case, facts, files, data, unread)]
    return [{"id": name, "text": text} for name, text in found]


def _not_tested(case: Case, facts: Facts, findings: Sequence[Finding], isolation: str) -> Iterator[tuple[str, str]]:
    if case.is_complete:
        yield from _settings_not_tested(case, facts)
    kind = device_kind(facts)
    if not facts.device and case.recipe.trainer != "command":
        yield "device", "nothing was trained: the smoke run ended before it used a device"
    elif kind == "unknown":
        yield "device", "the command does not say which device it used"
    elif kind != "cuda":
        yield "device", f"trained on {kind}: kernels, memory and rounding of a CUDA device were not tested"
    if facts.resumed_at_steps:
        yield "resumed", f"the run was resumed at {', '.join(f'step {step}' for step in facts.resumed_at_steps)}"
    if isolation == "none":
        yield "isolation", "trained in the pytest process, where other tests may have changed state"
    for finding in findings:
        if finding.reason == UNVERIFIED:
            yield f"unverified[{finding.id}]", finding.text
        elif finding.status == "not-checked":
            yield f"not-checked[{finding.id}]", finding.text


def _not_compared(
    case: Case, facts: Facts, files: Collection[str], data: Mapping[str, Any], unread: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for path, why in unread.items():
        yield f"data[{path}]", f"a change of {path} is not noticed: {why}"
    if not files:
        yield "code", "no source file is below the rootdir, so a change of the code is not noticed"
    elif case.recipe.trainer == "command":
        yield "code", "only the files that the command names, and the modules that these import, are compared"
    if not data:
        unasked = not facts.device and case.recipe.trainer != "command"
        why = "the task was not asked for its data files" if unasked else "no data files were named"
        yield "data", f"{why}, so a change of the data is not noticed"
    for path in [path for path, digest in data.items() if not digest["whole"]]:
        yield f"data[{path}]", f"{path} is large: only names, sizes and parts of its content are compared"


def _settings_not_tested(case: Case, facts: Facts) -> Iterator[tuple[str, str]]:
    full, settings = case.full, case.settings
    if full.world_size > (processes := case.recipe.processes):
        onto = "one" if processes == 1 else f"{processes}"
        yield (
            "world-size",
            f"the full run's {full.world_size} data-parallel devices were folded onto {onto}: communication and "
            "statistics per device were not tested",
        )
    if settings.batch_size != full.batch_size:
        yield "batch-size", f"micro-batches of {full.batch_size} samples: the smoke run had {settings.batch_size}"
    steps = facts.steps or 0
    if steps < full.max_steps:
        yield "length", f"the smoke run made {count(steps, 'step')}, the full run makes {full.max_steps:,}"
    if full.lr_schedule != settings.lr_schedule:
        yield (
            "schedule",
            f"the full run's {full.lr_schedule} schedule after the warmup was replaced by the smoke run's "
            f"{settings.lr_schedule} schedule",
        )
    if settings.precision != "fp32" and device_kind(facts) == "cpu":
        yield "precision", f"{settings.precision} on a CPU rounds in other places than on an accelerator"
