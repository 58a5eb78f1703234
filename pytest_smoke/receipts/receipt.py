"""The receipt of a smoke run: its content, its text in a file, and the reader that refuses everything else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

from pytest_smoke.errors import GateError
from pytest_smoke.files import NOT_REGULAR, invalid_json, open_regular, read_failure, strict_json
from pytest_smoke.outcome import VERDICTS
from pytest_smoke.plain import MAX_DEPTH as MAX_PLAIN_DEPTH
from pytest_smoke.text import either

FORMAT = "pytest-smoke-receipt"
"""What a receipt says it is, and the namespace of its signature."""
SCHEMA = 1
"""Version of the format; raised when a key changes its meaning or goes away."""
MAX_DEPTH = 2 * MAX_PLAIN_DEPTH
"""Containers inside each other in a free-form part, at most; what a session writes has half as many."""
MAX_BYTES = 2**23
"""Largest receipt. One has about 10 KiB; each file of the project adds 0.1 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A person's decision to launch a full run although its smoke run was not promoted."""

    reason: str
    """Why, in the person's words."""
    by: str
    """Who, as they said."""
    at: str
    """When, ISO 8601 in UTC."""
    signature: str | None
    """Signature of the receipt without the override; None if that was not signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a smoke run has shown, with everything that it depends on. All values are builtins."""

    id: str
    """Node id of the pytest item."""
    recipe: str
    """Recipe file, relative to pytest's rootdir."""
    mode: str
    """`constant` or `long-tail`."""
    cell: str | None
    """Name of the ablation cell; None for the baseline."""
    verdict: str
    """The verdict on the smoke run. An override does not change it."""
    reason: str
    """Why, as one kebab-case phrase; empty for a promotion without a warning."""
    text: str
    """Sentence of the deciding finding."""
    fingerprint: str
    """SHA-256 of `inputs`. Two smoke runs with the same one had the same recipe, code and data."""
    inputs: Mapping[str, Any]
    """`recipe` in its canonical form, with its `recipe_sha256`; SHA-256 by path of `configs` that the recipe reads and
    of source `files` below the rootdir; and `data` by path with `files`, `bytes`, `sha256` and whether the `whole` was
    read."""
    full: Mapping[str, Any]
    """Settings of the full run, also those that were read from its trainer."""
    full_accept: tuple[str, ...]
    """Criteria that the full run must meet."""
    findings: tuple[Mapping[str, str], ...]
    """`id`, `status` and `reason` of every finding."""
    evidence: Mapping[str, float | None]
    """`steps`, `evidence_steps`, `evidence_needed_steps`, and the smallest rise of the loss that would have been
    detected: `smallest_rise`, `smallest_rise_share`."""
    tested: Mapping[str, Any]
    """Conditions of the smoke run: `device`, `precision`, `world_size`, ..."""
    not_tested: tuple[Mapping[str, str], ...]
    """Conditions of the full run that it did not have: `id` and `text` of each."""
    versions: Mapping[str, str]
    """Versions of Python, of the libraries that the training process used, of CUDA and its driver."""
    git_commit: str | None
    """Commit of the project; None outside a git repository."""
    git_dirty: bool | None
    """Whether tracked files differed from the commit."""
    started_at: str
    """Start of the smoke run, ISO 8601 in UTC."""
    ended_at: str
    """Its end."""
    seconds: float | None
    """Wall time."""
    override: Override | None = None
    """Decision to launch anyway; None if there is none."""

    def to_dict(self) -> dict[str, Any]:
        """Return a tree of builtins, as in the file but for the SHA-256."""
        tree = asdict(self)
        return {"format": FORMAT, "schema": SCHEMA, **tree}

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """Return the inverse of `to_dict`. Raises ValueError, with the faulty key, for a tree of another form."""
        _check(tree, SHAPE, "")
        if tree["format"] != FORMAT or tree["schema"] != SCHEMA:
            raise ValueError(f"schema is {tree['schema']}, and this version reads {SCHEMA}")
        if tree["verdict"] not in VERDICTS:
            raise ValueError(f"verdict is not {either(VERDICTS)}")
        for moment in ("started_at", "ended_at"):
            if datetime.fromisoformat(tree[moment]).tzinfo is None:
                raise ValueError(f"{moment} has no time zone")
        for path in tree["inputs"]["files"]:
            if path.startswith("/") or ".." in path.split("/"):
                raise ValueError("inputs.files has a path that is not below the rootdir")
        values = {key: value for key, value in tree.items() if key not in ("format", "schema")}
        for key in ("full_accept", "findings", "not_tested"):
            values[key] = tuple(values[key])
        if values["override"] is not None:
            values["override"] = Override(**values["override"])
        return cls(**values)

    @property
    def ended(self) -> datetime:
        """When the smoke run ended."""
        return datetime.fromisoformat(self.ended_at)

    @property
    def original(self) -> Receipt:
        """The receipt without an override, as the session wrote it."""
        return replace(self, override=None)

    def to_text(self) -> str:
        """Return the content of its file: JSON with sorted keys, and the SHA-256 of the rest of it."""
        tree = self.to_dict()
        return strict_json({**tree, "sha256": _sum(tree)}, indent=1, sort_keys=True) + "\n"


class Each:
    """Shape of a mapping from any text to values of one shape."""

    def __init__(self, value: Any) -> None:
        self.value = value


_ANY: Final = Each(None)
_TEXT_OR_NONE = (str, type(None))
_NUMBER_OR_NONE = (int, float, type(None))
SHAPE: Mapping[str, Any] = {
    "format": str,
    "schema": int,
    "id": str,
    "recipe": str,
    "mode": str,
    "cell": _TEXT_OR_NONE,
    "verdict": str,
    "reason": str,
    "text": str,
    "fingerprint": str,
    "inputs": {
        "recipe": _ANY,
        "recipe_sha256": str,
        "configs": Each(str),
        "files": Each(str),
        "data": Each({"files": int, "bytes": int, "sha256": str, "whole": bool}),
    },
    "full": _ANY,
    "full_accept": [str],
    "findings": [{"id": str, "status": str, "reason": str}],
    "evidence": Each(_NUMBER_OR_NONE),
    "tested": _ANY,
    "not_tested": [{"id": str, "text": str}],
    "versions": Each(str),
    "git_commit": _TEXT_OR_NONE,
    "git_dirty": (bool, type(None)),
    "started_at": str,
    "ended_at": str,
    "seconds": _NUMBER_OR_NONE,
    "override": ({"reason": str, "by": str, "at": str, "signature": _TEXT_OR_NONE}, type(None)),
}
"""Keys of a receipt and the types of their values: all keys are required, and no others are allowed."""


def read_receipt(path: Path) -> tuple[Receipt, bytes]:
    """Read a receipt that is exactly as it was written; return its bytes as well, which a signature is for.

    Raises GateError if there is no such file, and if it is something else or was edited.
    """
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = read_failure(error) if isinstance(error, OSError) else str(error)
        text = f"{path} is {NOT_REGULAR}" if NOT_REGULAR in why else f"{path} {why}"
        raise GateError("unreadable-receipt", text) from None
    return parse_receipt(raw, str(path)), raw


def parse_receipt(raw: bytes, name: str) -> Receipt:
    """Return the receipt in the bytes of a file called `name` in messages. Raises GateError as `read_receipt`."""
    if len(raw) > MAX_BYTES:
        raise GateError("unreadable-receipt", f"{name} has more than {MAX_BYTES:,} bytes: it is not a receipt")
    try:
        tree = json.loads(raw.decode("ascii"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise GateError("unreadable-receipt", f"{name}:{line}: byte 0x{raw[error.start]:02x} is not ASCII") from None
    except (ValueError, RecursionError) as error:
        raise GateError("unreadable-receipt", invalid_json(name, error)) from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise GateError("unreadable-receipt", f"{name} is not a receipt: its format is not {FORMAT}")
    written = tree.pop("sha256", None)
    try:
        receipt = Receipt.from_dict(tree)
        same = written == _sum(tree) and raw == receipt.to_text().encode()
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        why = str(error) if isinstance(error, ValueError) else "a value has another type"
        raise GateError("unreadable-receipt", f"{name} is not a receipt that this version can read: {why}") from None
    if not same:
        raise GateError("edited-receipt", f"{name} was edited: its SHA-256 does not match its content")
    return receipt


def _sum(tree: Mapping[str, Any]) -> str:
    return sha256(strict_json(tree, indent=1, sort_keys=True).encode()).hexdigest()


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _check(value: Any, shape: Any, key: str) -> None:
    """Raise ValueError, with the key, for a value of another shape."""
    if isinstance(shape, tuple):
        inner = next((part for part in shape if isinstance(part, Mapping)), None)
        if inner is not None and value is not None:
            _check(value, inner, key)
        elif not any(_is_a(value, part) for part in shape if isinstance(part, type)):
            raise ValueError(f"{key} has another type")
    elif isinstance(shape, type):
        if not _is_a(value, shape):
            raise ValueError(f"{key} has another type")
    elif isinstance(shape, list):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{key} is not a list")
        for part in value:
            _check(part, shape[0], key)
    else:
        if not isinstance(value, Mapping):
            raise ValueError(f"{key or 'it'} is not a mapping")
        if isinstance(shape, Each) and shape.value is None:
            _check_depth(value, key, MAX_DEPTH)
            return
        if isinstance(shape, Each):
            for part in value.values():
                _check(part, shape.value, key)
            return
        for name in shape.keys() | value.keys():
            if name not in shape or name not in value:
                verb = "is missing" if name in shape else "is unknown"
                raise ValueError(f"a key {verb}: {re.sub(r'[^ -~]', '?', f'{key}.{name}'.lstrip('.'))[:80]}")
            _check(value[name], shape[name], f"{key}.{name}".lstrip("."))


def _check_depth(value: Any, key: str, left: int) -> None:
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    if left == 0 and parts:
        raise ValueError(f"{key} is nested too deeply")
    for part in parts:
        _check_depth(part, key, left - 1)


def _is_a(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
