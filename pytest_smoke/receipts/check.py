"""The gate: whether a recipe has a receipt that still holds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pytest_smoke.errors import GateError, RecipeError
from pytest_smoke.files import file_name, open_regular
from pytest_smoke.plain import plain_name, plain_text
from pytest_smoke.receipts.comparison import compare, public
from pytest_smoke.receipts.folder import FOLDER, REFUSED, receipt_of, signature_of
from pytest_smoke.receipts.receipt import Override, Receipt, read_receipt
from pytest_smoke.receipts.signing import MAX_SIGNATURE_BYTES, OVERRIDE_NAMESPACE, Trust, verify
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.roots import task_root
from pytest_smoke.text import count, did_you_mean, listed, seconds, verdict_label

DEFAULT_RECEIPTS = Path(FOLDER)
"""Where receipts are looked for: `receipts/` in the current folder."""
CLOCK_SECONDS = 300.0
"""How far the clock of the machine that trained may be ahead of this one: what unsynchronized clocks differ by."""
CHANGES_NAMED = 3
"""Changes that a sentence names before it counts the rest."""
NO_VERDICT_MODE = "wiring"
"""Mode that never promotes."""
CONDITIONS = ("device", "device_name", "precision", "world_size", "effective_batch_samples", "mode", "isolation")
"""Conditions of a smoke run that can be required by name; versions and `git` can, too."""
CLEAN = "clean"
_ID = re.compile(r"(?P<mode>constant|long-tail|wiring)(\[(?P<cell>[^\]]*)\])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a receipt must fulfil."""

    receipts: Path = DEFAULT_RECEIPTS
    """A report folder, or its folder `receipts`."""
    max_age: timedelta | None = None
    """Longest time since the smoke run ended; None: any."""
    require: Mapping[str, str] = field(default_factory=dict)
    """Required conditions of the smoke run, by name."""
    trust: Trust | None = None
    """Whose signatures count; None: signatures are not verified."""
    accept_overrides: bool = False
    """Whether a receipt with an override is accepted."""
    with_data: bool = True
    """Whether data files are compared."""
    root: Path | None = None
    """pytest's rootdir; None: found as pytest does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A receipt that holds."""

    receipt: Receipt
    signer: str | None
    """Principal of the key that signed it; None if no signature was verified."""
    override_signer: str | None
    """The same of its override."""
    notes: tuple[str, ...]
    """What changed or was not compared and does not matter."""


def check(recipe: str, policy: Policy, *, now: datetime | None = None) -> list[Accepted]:
    """Return the receipts of the smoke runs that `recipe` names: `FILE`, `FILE::mode` or `FILE::mode[cell]`.

    `FILE` alone names the baseline in each of the recipe's own modes. Raises GateError, for the first one that does not
    hold.
    """
    cases, root = named_cases(recipe, policy)
    return [_check(case, policy, root, now or datetime.now(UTC)) for case in cases]


def named_cases(recipe: str, policy: Policy) -> tuple[list[Case], Path]:
    """Return the smoke runs that `recipe` names, and the rootdir. Raises GateError."""
    name, separator, item = recipe.partition("::")
    if not os.path.isfile(name):
        problem = f"{plain_name(name)} is a folder, not a recipe" if os.path.isdir(name) else None
        raise GateError("no-recipe", problem or f"there is no recipe {plain_name(name)}")
    if policy.root is not None and not policy.root.is_dir():
        raise GateError("bad-argument", f"the rootdir {policy.root} is not a folder")
    # As pytest: folders are resolved, and a link to a recipe is a recipe where the link is.
    file = Path(name).parent.resolve() / Path(name).name
    root = policy.root.resolve() if policy.root is not None else task_root(file)
    try:
        if not separator:
            return _judged_baselines(load_cases(file, root=root), name), root
        match = _ID.fullmatch(item)
        if match is None:
            raise GateError(
                "no-recipe",
                f"{plain_name(recipe)} names no smoke run: write FILE::MODE or FILE::MODE[CELL], where MODE is "
                "constant or long-tail",
            )
        found = [case for case in load_cases(file, root=root) if case.name == item]
        if not found:  # a mode that --smoke-mode selected
            others = load_cases(file, root=root, mode=match["mode"])  # type: ignore[arg-type]  # one of the three
            found = [case for case in others if case.name == item]
            if not found:
                cells = [case.cell for case in others if case.cell]
                if not cells:
                    raise GateError("no-recipe", f"{plain_name(name)} has no ablation cells")
                hint = did_you_mean(match["cell"], cells, noun="its cells")
                raise GateError("no-recipe", f"{plain_name(name)} has no ablation cell {match['cell']}; {hint}")
        if match["mode"] == NO_VERDICT_MODE:
            raise GateError("no-verdict-mode", f"{plain_name(recipe)} is a wiring run, which is never promoted")
        return found, root
    except RecipeError as error:
        more = len(error.faults) - 1
        text = f"{error.faults[0]} (and {count(more, 'more fault')})" if more else str(error.faults[0])
        raise GateError("invalid-recipe", plain_name(text)) from None


def _judged_baselines(cases: list[Case], name: str) -> list[Case]:
    found = [case for case in cases if case.cell is None and case.mode != NO_VERDICT_MODE]
    if not found:
        text = f"the mode of {plain_name(name)} is wiring, which is never promoted: name one, as {name}::constant"
        raise GateError("no-verdict-mode", plain_name(text))
    return found


def item_id(case: Case) -> str:
    """Return the node id of a case's pytest item."""
    return f"{plain_name(case.path)}::{plain_name(case.name)}"


def _check(case: Case, policy: Policy, root: Path, now: datetime) -> Accepted:
    name = item_id(case)
    path = find_receipt(name, policy)
    receipt, raw = read_receipt(path)
    named = (name, plain_text(case.path), case.mode, case.cell)
    if (receipt.id, receipt.recipe, receipt.mode, receipt.cell) != named:
        raise GateError("other-receipt", f"{path} is the receipt of {plain_name(receipt.id)}, not of {name}")
    signer, override_signer = _signers(receipt, raw, path, policy.trust) if policy.trust else (None, None)
    if receipt.override is not None and not policy.accept_overrides:
        raise GateError("overridden", f"{name}: {override_text(receipt)}; --accept-overrides accepts that")
    if receipt.verdict != "promote" and receipt.override is None:
        verdict = verdict_label(receipt.verdict, plain_name(receipt.reason))
        raise GateError("not-promoted", f"the verdict on {name} is {verdict}, not promote")
    _check_age(receipt, name, policy.max_age, now)
    for key, wanted in policy.require.items():
        _check_requirement(receipt, name, key, wanted)
    found = compare(receipt, case, root=root, with_data=policy.with_data, stated=policy.require.keys())
    if found.changed:
        text = listed(found.changed, limit=CHANGES_NAMED)
        raise GateError("changed", f"{name} changed since its smoke run: {text}")
    notes = found.noted
    if policy.trust is None:
        signed = "the signature was not verified" if signature_of(path).exists() else "the receipt is not signed"
        notes = (*notes, signed)
    return Accepted(receipt=receipt, signer=signer, override_signer=override_signer, notes=notes)


def override_text(receipt: Receipt) -> str:
    """Say who overrode the verdict of a receipt, when and why."""
    override = receipt.override
    assert override is not None, "the receipt has no override"
    verdict = verdict_label(receipt.verdict, plain_name(receipt.reason))
    return (
        f"the verdict {verdict} was overridden by {plain_name(override.by)} on {plain_name(override.at[:10])}: "
        f"{plain_name(override.reason)}"
    )


def receipts_folders(policy: Policy) -> list[Path]:
    """Return the folders that may hold receipts: the given one, and `receipts` in it."""
    return [policy.receipts, policy.receipts / FOLDER]


def find_receipt(name: str, policy: Policy) -> Path:
    """Return the file of the receipt of an item. Raises GateError if there is none, or if there are two."""
    folders = receipts_folders(policy)
    found = [path for folder in folders if os.path.lexists(path := folder / receipt_of(name))]
    if len(found) == 1:
        return found[0]
    if found:
        raise GateError("two-receipts", f"{name} has two receipts, {found[0]} and {found[1]}: remove one of them")
    where = policy.receipts
    how = "; a promotion with `pytest --smoke --smoke-report DIR` writes one"
    if not where.is_dir():
        problem = f"{where} is not a folder" if where.exists() else f"there is no folder {where}"
        raise GateError("no-receipt", f"{name} has no receipt: {problem}{how}")
    for refused in (folder / REFUSED / receipt_of(name) for folder in folders):
        if refused.is_file():
            record, _ = read_receipt(refused)
            verdict = verdict_label(record.verdict, plain_name(record.reason))
            raise GateError(
                "not-promoted", f"the verdict on {name} is {verdict}, not promote: {plain_name(record.text)}"
            )
    other = next(_of_another_root(name, folders), None)
    if other is not None:
        how = f"; it has one for {plain_name(other)}: if that is this file, set the rootdir of its session with --root"
    raise GateError("no-receipt", f"{name} has no receipt in {where}{how}")


def _of_another_root(name: str, folders: list[Path]) -> Iterator[str]:
    """Yield the ids of receipts of files with the same name in other folders."""
    readable = file_name(name.rpartition("/")[2]).rpartition("-")[0]
    for folder in folders:
        for path in sorted(folder.glob("*.json"))[:1000] if folder.is_dir() else ():
            if path.stem.rpartition("-")[0].endswith(readable):
                try:
                    yield read_receipt(path)[0].id
                except (GateError, OSError):
                    continue


def _signers(receipt: Receipt, raw: bytes, path: Path, trust: Trust) -> tuple[str, str | None]:
    """Return who signed a receipt, and its override. Raises GateError."""
    trust.require_files()
    try:
        with open_regular(signature_of(path)) as file:
            signature = file.read(MAX_SIGNATURE_BYTES + 1)
    except OSError:
        raise GateError("no-signature", f"{path} is not signed: there is no {signature_of(path).name}") from None
    override = receipt.override
    if override is None:
        return verify(raw, signature, trust, what=str(path)), None
    anyone = replace(trust, identity=None)  # whoever overrides a verdict is not the machine that gave it
    by = verify(raw, signature, anyone, namespace=OVERRIDE_NAMESPACE, what=f"the override in {path}")
    if override.signature is None:
        raise GateError("no-signature", f"{path} was overridden, but the receipt of its smoke run was not signed")
    original = receipt.original.to_text().encode()
    signed = override.signature.encode("ascii", errors="replace")
    return verify(original, signed, trust, what=f"the overridden receipt in {path}"), by


def _check_age(receipt: Receipt, name: str, max_age: timedelta | None, now: datetime) -> None:
    age = (now - receipt.ended).total_seconds()
    if age < -CLOCK_SECONDS:
        text = (
            f"the receipt of {name} is from the future: {receipt.ended_at}, {seconds(-age)} from now; check the clocks"
        )
        raise GateError("from-future", text)
    if max_age is not None and age > max_age.total_seconds():
        allowed = age_text(max_age.total_seconds())
        raise GateError("too-old", f"the receipt of {name} is {age_text(age)} old; the limit is {allowed}")


def age_text(value: float) -> str:
    """Format an age: `3 d 4 h`, `2 h 5 min`, `12 s`."""
    days, rest = divmod(int(value), 86_400)
    hours = rest // 3600
    return seconds(max(0.0, value)) if not days else f"{days} d {hours} h" if hours else f"{days} d"


def _check_requirement(receipt: Receipt, name: str, key: str, wanted: str) -> None:
    if key == "git":
        _check_git(receipt, name, wanted)
        return
    if key in CONDITIONS:
        found = receipt.tested.get(key)
        shown = "unknown" if found in (None, "") else plain_name(str(found))
        met = shown == wanted
        folded = receipt.tested.get("full_world_size")
        onto = "one device" if found == 1 else shown
        more = f" ({folded} folded onto {onto})" if key == "world_size" and not met and folded != found else ""
    elif key in receipt.versions:
        shown, more = plain_name(receipt.versions[key]), ""
        met = shown == wanted or public(shown) == wanted or public(shown).startswith(f"{wanted}.")
    else:
        known = [*CONDITIONS, "git", *receipt.versions]
        raise GateError("unmet-requirement", f"{name}: its receipt has no {key}; {did_you_mean(key, known)}")
    if not met:
        raise GateError("unmet-requirement", f"{name}: {key} is {shown}{more}, required {wanted}")


def _check_git(receipt: Receipt, name: str, wanted: str) -> None:
    if receipt.git_commit is None:
        raise GateError("unmet-requirement", f"{name}: its receipt has no git commit; git={wanted} is required")
    if wanted == CLEAN:
        if receipt.git_dirty:
            text = f"{name}: files differed from git commit {plain_name(receipt.git_commit[:12])}, required git=clean"
            raise GateError("unmet-requirement", text)
    elif len(wanted) < 7 or not receipt.git_commit.startswith(wanted):
        text = f"{name}: git commit is {plain_name(receipt.git_commit[:12])}, required {wanted}"
        raise GateError("unmet-requirement", text)


def parse_age(text: str) -> timedelta:
    """Parse `90s`, `30m`, `12h`, `7d` or `2w`. Raises GateError."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smhdw])", text, re.ASCII)
    if match is None:
        raise GateError("bad-argument", f"{text!r} is not an age: write 90s, 30m, 12h, 7d or 2w")
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}[match[2]]
    return timedelta(seconds=float(match[1]) * unit)


def parse_requirement(text: str) -> tuple[str, str]:
    """Parse `device=cuda`. Raises GateError."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip() or not value.strip():
        raise GateError("bad-argument", f"{text!r} is not KEY=VALUE, such as device=cuda, precision=bf16 or git=clean")
    return key.strip(), value.strip()


def override(recipe: str, policy: Policy, *, reason: str, by: str, now: datetime | None = None) -> tuple[Path, Receipt]:
    """Return the receipt, and its file, with which the gate accepts a smoke run that was not promoted.

    Raises GateError if the smoke run left no record, or was promoted.
    """
    if not reason.strip():
        raise GateError("bad-argument", "an override needs a reason")
    cases, _ = named_cases(recipe, policy)
    if len(cases) > 1:
        raise GateError("bad-argument", f"{recipe} has several smoke runs: name one, as {recipe}::{cases[0].name}")
    name = item_id(cases[0])
    for folder in receipts_folders(policy):
        if (folder / receipt_of(name)).exists():
            existing, _ = read_receipt(folder / receipt_of(name))
            if existing.override is None:
                raise GateError("bad-argument", f"{name} was promoted: there is no verdict to override")
            path = folder / receipt_of(name)
            raise GateError("bad-argument", f"{name} was overridden before: remove {path} to override it again")
        record = folder / REFUSED / receipt_of(name)
        if record.is_file():
            receipt, _ = read_receipt(record)
            if receipt.id != name or receipt.override is not None:
                raise GateError("other-receipt", f"{record} is not the record of a smoke run of {name}")
            signature = signature_of(record)
            decided = Override(
                reason=plain_name(reason.strip()),
                by=plain_name(by),
                at=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
                signature=signature.read_text(errors="replace")[:MAX_SIGNATURE_BYTES] if signature.is_file() else None,
            )
            return folder / receipt_of(name), replace(receipt, override=decided)
    raise GateError("no-receipt", f"{name} has no verdict in {policy.receipts} that could be overridden: run it first")
