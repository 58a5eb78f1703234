"""A smoke run on another machine: what travels there, what comes back, and how its outcome becomes one of this machine.

The other machine has a copy of the rootdir in another place, without its git repository.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_smoke.environment import git_commit, repository_folder
from pytest_smoke.errors import ChildDiedError, SmokeError
from pytest_smoke.files import file_name, write_atomic
from pytest_smoke.judge.verdict import decide
from pytest_smoke.monitor.artifacts import remove_files
from pytest_smoke.monitor.executor import Request
from pytest_smoke.monitor.smoke import RunOptions, SmokeResult, run_smoke, skipped_outcome
from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.receipts.build import DIRTY
from pytest_smoke.receipts.folder import remove_receipt
from pytest_smoke.receipts.receipt import Receipt
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.text import count
from pytest_smoke.train.launch import accelerators
from pytest_smoke.train.temporary import temporary_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """What comes back."""

    result: SmokeResult
    root: str
    """The copy of the rootdir."""
    files: Mapping[str, tuple[int, bytes]]
    """Permissions and content of the files in the report folder, by path in it."""


def execute_here(request: Request) -> Returned:
    """Execute a smoke run in the current folder, which is a copy of the rootdir. On the other machine."""
    root = Path.cwd()
    options = replace(request.options, root=str(root), hold_device=None)
    if (missing := _missing_device(request)) is not None:
        outcome = skipped_outcome(request.case, missing, item_id=request.item_id, root=root)
        return Returned(result=SmokeResult(outcome=outcome), root=str(root), files={})
    path = root / request.case.path
    cases = load_cases(path, root=root, mode=request.forced_mode, allowed=request.case.allowed)
    case = next((one for one in cases if one.name == request.case.name), None)
    if case is None:
        raise SmokeError(f"{request.case.path} has no {request.case.name} on the other machine")
    if options.report_folder is None:
        return Returned(result=_run(case, options, request.item_id), root=str(root), files={})
    with temporary_folder("remote-report-") as temporary:
        folder = temporary / "report"
        result = _run(case, replace(options, report_folder=folder), request.item_id)
        return Returned(result=result, root=str(root), files=_files_of(folder))


def take_in(returned: Returned, request: Request) -> SmokeResult:
    """Write the files of a run to this machine's report folder, and return its result as of this machine."""
    root, report, item_id = request.options.root, request.options.report_folder, request.item_id
    result = returned.result
    outcome = _moved(result.outcome, returned.root, root)
    facts = replace(
        outcome.facts,
        git_commit=git_commit(Path(root)),
        repository_folder=repository_folder(Path(root)),
    )
    if report is not None and outcome.reason != "unmet-requirements":
        remove_files(report, item_id)
        remove_receipt(report, item_id)
        for relative, (mode, content) in sorted(returned.files.items()):
            write_atomic(report / relative, content)
            os.chmod(report / relative, mode)
        package = report / "packages" / file_name(item_id)
        facts = replace(facts, package=str(package) if facts.package is not None else None)
    receipt = result.receipt
    if receipt is not None:
        commit = facts.git_commit
        receipt = replace(
            receipt,
            git_commit=commit.removesuffix(DIRTY) if commit is not None else None,
            git_dirty=commit.endswith(DIRTY) if commit is not None else None,
        )
    return SmokeResult(outcome=replace(outcome, facts=facts), receipt=receipt)


def restarted(result: SmokeResult, why: str, request: Request) -> SmokeResult:
    """Say in the result that the run was started a second time."""
    findings = tuple(
        replace(
            one,
            text=f"{one.text}; {why}, and the run was started again",
            **({"status": "warn", "reason": "restarted"} if one.status == "pass" else {}),  # type: ignore[arg-type]  # both are texts
        )
        if one.id == "run"
        else one
        for one in result.outcome.findings
    )
    verdict = decide(findings, request.options.registry)
    outcome = replace(
        result.outcome,
        findings=findings,
        verdict=verdict.word,
        reason=verdict.reason,
        step=verdict.step,
        text=verdict.text,
        decided_by=verdict.decided_by,
    )
    return SmokeResult(outcome=outcome, receipt=_with_findings(result.receipt, outcome))


def failed_result(request: Request, finding: Finding) -> SmokeResult:
    """Return the result of a run of which nothing came back."""
    skipped = skipped_outcome(request.case, "", item_id=request.item_id, root=Path(request.options.root))
    verdict = decide([finding], request.options.registry)
    outcome = replace(
        skipped,
        findings=(replace(finding, key="task", key_place=request.case.place_of("task")),),
        verdict=verdict.word,
        reason=verdict.reason,
        step=None,
        text=verdict.text,
        decided_by=verdict.decided_by,
    )
    return SmokeResult(outcome=outcome)


def _run(case: Any, options: RunOptions, item_id: str) -> SmokeResult:
    result = run_smoke(case, options, item_id=item_id)
    return SmokeResult(outcome=result.outcome, receipt=result.receipt)  # exceptions may not be loaded elsewhere


def _missing_device(request: Request) -> str | None:
    """Say which GPU this machine lacks; None if it has what the recipe requires."""
    recipe, requires = request.case.recipe, request.case.recipe.requires
    if request.options.device == "cpu" or (requires.kind in ("any", "cpu") and not requires.memory_gib):
        return None
    try:
        found = accelerators()
    except ChildDiedError as error:
        return f"torch could not list its devices: {error}"
    needed = recipe.gpus
    usable = [one for one in found if one["memory_gib"] >= requires.memory_gib]
    if len(usable) >= needed:
        return None
    memory = f" with {requires.memory_gib:g} GiB" if requires.memory_gib else ""
    return f"needs {count(needed, 'GPU')}{memory}; the machine that Ray chose has {len(usable)}"


def _files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mode & 0o777, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def _moved(outcome: Outcome, root: str, here: str) -> Outcome:
    """Replace the path of the copied rootdir by that of the rootdir."""

    def moved(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(root, here)
        if isinstance(value, dict):
            return {key: moved(part) for key, part in value.items()}
        return type(value)(map(moved, value)) if isinstance(value, list | tuple) else value

    return Outcome.from_dict(moved(outcome.to_dict()))


def _with_findings(receipt: Receipt | None, outcome: Outcome) -> Receipt | None:
    if receipt is None:
        return None
    findings = tuple({"id": one.id, "status": one.status, "reason": one.reason} for one in outcome.findings)
    return replace(receipt, findings=findings, reason=outcome.reason, text=outcome.text)
