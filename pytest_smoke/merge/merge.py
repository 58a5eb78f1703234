"""Merges report folders: reads all, decides which outcomes count, and writes one new folder whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_smoke.errors import GateError, MergeError
from pytest_smoke.files import VERDICTS, file_name, read_regular, write_atomic
from pytest_smoke.merge.copy import copy
from pytest_smoke.merge.read import Session, read_session
from pytest_smoke.merge.select import Selected, select
from pytest_smoke.monitor.artifacts import ITEM_RESULTS, checkpoints_of
from pytest_smoke.outcome import NOT_RUN, Outcome
from pytest_smoke.page.session_reports import write_reports
from pytest_smoke.plain import plain_name
from pytest_smoke.receipts.folder import FOLDER as RECEIPTS
from pytest_smoke.receipts.folder import REFUSED, receipt_of, signature_of
from pytest_smoke.receipts.receipt import parse_receipt
from pytest_smoke.report.verdicts_json import verdicts_of_trees
from pytest_smoke.text import count, listed

TENSORBOARD = "tensorboard/{name}"
"""Folder with the event file of an item, next to those of `ITEM_RESULTS`."""
PREFIX_CHARS = 100
"""Characters of the new folder's name that the name of the temporary one repeats; file systems allow 255 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A folder that was written."""

    folder: Path
    outcomes: tuple[Outcome, ...]
    """Sorted by id."""
    sessions: int
    incomplete: tuple[str, ...]
    """Folders of sessions that did not end, so that smoke runs may be missing."""
    notes: tuple[str, ...]
    """What was left out or replaced, one sentence each."""

    @property
    def not_promoted(self) -> list[Outcome]:
        """Outcomes of smoke runs that were neither promoted nor completed in a mode that gives no verdict."""
        return [outcome for outcome in self.outcomes if not outcome.promoted and not outcome.completed]


def merge(folders: Sequence[Path], output: Path, *, newest: bool = False, checkpoints: bool = False) -> Merged:
    """Merge report folders into `output`, which must not exist or be empty.

    `newest`: of different outcomes of one smoke run take the one that started last. `checkpoints`: also take the
    checkpoints. Raises MergeError with one sentence for everything that prevents it, and OSError if `output` cannot be
    written; nothing is left there then.
    """
    output = Path(os.path.realpath(output))
    _refuse_used(output)
    with ExitStack() as stack:
        sessions = _read(folders, stack)
        selected = select((entry for session in sessions for entry in session.entries), newest=newest)
        if not selected:
            unfinished = [plain_name(str(session.folder)) for session in sessions if not session.ended]
            raise MergeError(
                f"no smoke runs in {listed([plain_name(str(session.folder)) for session in sessions])}",
                *(f"the session of {folder} did not end: smoke runs may be missing" for folder in unfinished),
            )
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name[:PREFIX_CHARS]}."))
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        new = temporary / output.name  # the summary shows the name of its folder
        new.mkdir()
        merged = _write(selected, new, output, checkpoints=checkpoints)
        _refuse_used(output)
        os.rename(new, output)
    incomplete = tuple(plain_name(str(session.folder)) for session in sessions if not session.ended)
    left_out = _without_outcome(sessions)
    return replace(
        merged,
        sessions=len(sessions),
        incomplete=incomplete,
        notes=(*(note for one in selected for note in one.notes), *merged.notes, *left_out),
    )


def _refuse_used(output: Path) -> None:
    """Raise MergeError if there is something that would be written over."""
    name = plain_name(str(output))
    if output.is_dir():
        if any(output.iterdir()):
            raise MergeError(f"{name} exists and is not empty: name a new folder with --output")
    elif os.path.lexists(output):
        raise MergeError(f"{name} exists and is not a folder: name a new folder with --output")


def _read(folders: Sequence[Path], locks: ExitStack) -> list[Session]:
    """Read every folder; the same one is read once. Raises MergeError with the problems of all."""
    sessions: list[Session] = []
    problems: list[str] = []
    for folder in {os.path.realpath(one): one for one in reversed(folders)}.values():
        try:
            sessions.append(read_session(folder, locks))
        except MergeError as error:
            problems += error.problems
        except OSError as error:
            problems.append(f"{plain_name(str(folder))} cannot be read: {error.strerror or error}")
    if problems:
        raise MergeError(*reversed(problems))
    return sessions[::-1]


def _write(selected: Sequence[Selected], new: Path, final: Path, *, checkpoints: bool) -> Merged:
    """Write all files to `new`, which becomes `final`. Raises MergeError and OSError."""
    outcomes: list[Outcome] = []
    trees: list[Mapping[str, Any]] = []
    problems: list[str] = []
    lost: list[str] = []
    kept_back: list[str] = []
    for one in selected:
        try:
            copied = _copy_results(one, new, checkpoints=checkpoints)
        except MergeError as error:
            problems += error.problems
            continue
        facts = _facts_here(one.entry.tree["facts"], one.entry.id, final, copied=copied, checkpoints=checkpoints)
        trees.append({**one.entry.tree, "facts": facts})
        known = one.entry.outcome.facts
        outcomes.append(
            replace(
                one.entry.outcome,
                facts=replace(
                    known,
                    package=facts.get("package"),
                    checkpoints=known.checkpoints if checkpoints else (),
                ),
            )
        )
        lost += [f"{named} of {one.entry.id}" for named in (known.trace, known.log) if named and named not in copied]
        lost += [f"the package of {one.entry.id}"] if known.package and "package" not in facts else []
        kept_back += [one.entry.id] if known.checkpoints and not checkpoints else []
    if problems:
        raise MergeError(*problems)
    write_atomic(new / VERDICTS, verdicts_of_trees(trees))
    if problems := write_reports(outcomes, new):
        raise MergeError(*problems)
    notes = [f"not in the report folders: {listed(map(plain_name, lost))}"] if lost else []
    if kept_back:
        notes.append(f"checkpoints of {count(len(kept_back), 'smoke run')} were left out; --checkpoints takes them")
    return Merged(folder=final, outcomes=tuple(outcomes), sessions=0, incomplete=(), notes=tuple(notes))


def _copy_results(one: Selected, new: Path, *, checkpoints: bool) -> set[str]:
    """Copy what belongs to a smoke run; return the copied files and folders, relative to the report folder."""
    name = file_name(one.entry.id)
    copied: set[str] = set()
    for pattern in (*ITEM_RESULTS, TENSORBOARD):
        relative = pattern.format(name=name)
        of_checkpoint = relative.startswith(checkpoints_of(one.entry.id))
        if of_checkpoint and not checkpoints:
            continue
        for entry in one.copies:
            if copy(entry.folder, relative, new, link=of_checkpoint):
                copied.add(relative)
                break
    for folder in (RECEIPTS, f"{RECEIPTS}/{REFUSED}"):
        _copy_receipt(one, f"{folder}/{receipt_of(one.entry.id)}", new)
    return copied


def _copy_receipt(one: Selected, relative: str, new: Path) -> None:
    """Copy a receipt and its signature byte by byte. Raises MergeError for one that is not that of the outcome."""
    found = [entry.folder for entry in one.copies if os.path.lexists(entry.folder / relative)]
    if not found:
        return
    path = found[0] / relative
    copy(found[0], relative, new)
    copy(found[0], signature_of(Path(relative)).as_posix(), new)
    raw = read_regular(new / relative)
    try:
        receipt = parse_receipt(raw, plain_name(str(path)))
    except GateError as error:
        raise MergeError(str(error)) from None
    outcome = one.entry.outcome
    same_run = (outcome.verdict, outcome.facts.fingerprint) == (receipt.verdict, receipt.fingerprint)
    if receipt.id != outcome.id or not (same_run or outcome.completed or outcome.reason in NOT_RUN):
        raise MergeError(f"{plain_name(str(path))} is not the receipt of the smoke run that {VERDICTS} has")
    for other in found[1:]:
        if read_regular(other / relative) != raw:
            raise MergeError(f"{plain_name(str(path))} and {plain_name(str(other / relative))} differ: remove one")


def _facts_here(
    facts: Mapping[str, Any], item_id: str, final: Path, *, copied: set[str], checkpoints: bool
) -> dict[str, Any]:
    """Return facts that name files where they are now."""
    changed = dict(facts)
    package = f"packages/{file_name(item_id)}"
    if package in copied:
        changed["package"] = str(final / package)
    else:
        changed.pop("package", None)
    if not checkpoints:
        changed.pop("checkpoints", None)
    return changed


def _without_outcome(sessions: Sequence[Session]) -> list[str]:
    """Say which receipts are of smoke runs that no session has an outcome of: those of earlier sessions."""
    known = {receipt_of(entry.id) for session in sessions for entry in session.entries}
    found = {path.name for session in sessions for path in (session.folder / RECEIPTS).glob("*.json")} - known
    if not found:
        return []
    are = "receipt of an earlier session was" if len(found) == 1 else "receipts of earlier sessions were"
    return [f"{len(found):,} {are} left out: these sessions did not run the smoke runs"]
