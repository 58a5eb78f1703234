"""Make the receipt of a smoke run from its outcome."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from pytest_smoke.data_files import data_digest
from pytest_smoke.outcome import Outcome
from pytest_smoke.receipts.canonical import canonical_recipe, fingerprint, stored
from pytest_smoke.receipts.conditions import not_tested, tested
from pytest_smoke.receipts.receipt import Receipt
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import path_from

DIRTY = "-dirty"
"""How `environment.git_commit` marks a commit if tracked files were changed."""


def config_digests(case: Case) -> dict[str, str]:
    """Return the SHA-256 of the data in every config file that a recipe reads, by path from the root.

    Comments and the order of keys make no difference.
    """
    return {config.file.path: fingerprint(config.file.data) for config in case.configs.values()}


def receipt_of_run(
    case: Case,
    outcome: Outcome,
    *,
    root: Path,
    files: Mapping[str, str],
    data: Mapping[str, Mapping[str, Any]],
    isolation: str,
    early_stop: bool,
) -> Receipt:
    """Return the receipt of a smoke run, whatever its verdict.

    `files`: SHA-256 of source files by path from the root; `data`: digests of the data that the task names.
    """
    facts = outcome.facts
    recipe = canonical_recipe(case, root=root)
    known, unread = dict(data), {}
    corpus = case.recipe.mix.corpus if case.recipe.mix is not None else None
    for named in (*case.recipe.data_files, *filter(None, [corpus])):
        file = Path(os.path.normpath(os.path.join(root, named)))
        try:
            known[path_from(file, root)] = data_digest(file).to_dict()
        except OSError as error:
            unread[path_from(file, root)] = error.strerror or str(error)
    inputs = {
        "recipe": stored(recipe),
        "recipe_sha256": fingerprint(recipe),
        "configs": config_digests(case),
        "files": dict(files),
        "data": {path: dict(digest) for path, digest in known.items()},
    }
    commit = facts.git_commit
    return Receipt(
        id=outcome.id,
        recipe=outcome.recipe,
        mode=outcome.mode,
        cell=outcome.cell,
        verdict=outcome.verdict,
        reason=outcome.reason,
        text=outcome.text,
        fingerprint=fingerprint(inputs),
        inputs=inputs,
        full=stored(case.full.model_dump() if case.is_complete else case.recipe.repeated),
        evidence={
            "steps": facts.steps,
            "evidence_steps": facts.evidence_steps,
            "evidence_needed_steps": facts.evidence_needed_steps,
            "smallest_rise": _finite(facts.smallest_rise),
            "smallest_rise_share": _finite(facts.smallest_rise_share),
        },
        tested=tested(case, facts, isolation=isolation, early_stop=early_stop),
        full_accept=facts.full_accept,
        findings=tuple({"id": one.id, "status": one.status, "reason": one.reason} for one in outcome.findings),
        not_tested=tuple(
            not_tested(case, facts, outcome.findings, files=files, data=known, unread=unread, isolation=isolation)
        ),
        versions=dict(facts.versions),
        git_commit=commit.removesuffix(DIRTY) if commit is not None else None,
        git_dirty=commit.endswith(DIRTY) if commit is not None else None,
        started_at=facts.started_at or _now(),
        ended_at=_now(),
        seconds=facts.seconds,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
