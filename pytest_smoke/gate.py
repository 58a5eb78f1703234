"""Public API of the gate: let a launch script demand a receipt before it starts the full run.

As in `gate.require("lm.smoke.yaml", receipts="out", max_age="7d", require={"device": "cuda"})`. Importing this module
imports nothing else of the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_smoke.receipts.receipt import Receipt

__all__ = ["Receipt", "require"]


def __getattr__(name: str) -> Any:
    """Import the class of receipts on first use."""
    if name != "Receipt":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pytest_smoke.receipts.receipt import Receipt

    return Receipt


def require(
    recipe: str | Path,
    *,
    receipts: str | Path = "receipts",
    max_age: str | timedelta | None = None,
    require: Mapping[str, str] | Iterable[str] | str = (),
    allowed_signers: str | Path | None = None,
    identity: str | None = None,
    revoked_keys: str | Path | None = None,
    accept_overrides: bool = False,
    with_data: bool = True,
    root: str | Path | None = None,
) -> Receipt:
    """Return the receipt of a recipe's smoke run if the full run may be launched. Raises GateError if it may not.

    `recipe` is `FILE`, `FILE::mode` or `FILE::mode[cell]`; a `FILE` alone names the baseline in each of the recipe's
    own modes, and the receipt of the first is returned. `receipts` is a report folder, or the folder of receipts in
    it. `max_age` is a text such as `7d` or `12h`. `require` has conditions of the smoke run: `{"device": "cuda"}`,
    `["device=cuda"]` or `"device=cuda"`. With the file `allowed_signers`, the receipt must be signed by a key in it:
    by that of `identity` if this is given, and by none of the file `revoked_keys`. `accept_overrides` accepts a
    verdict that a person overrode. `with_data=False` does not compare data files. `root` is pytest's rootdir; it is
    found as pytest does.
    """
    from pytest_smoke.receipts.check import Policy, check, parse_age, parse_requirement  # imports pydantic and yaml
    from pytest_smoke.receipts.signing import Trust

    listed = [require] if isinstance(require, str) else require
    wanted = listed.items() if isinstance(listed, Mapping) else map(parse_requirement, listed)
    trust = None
    if allowed_signers is not None:
        revoked = Path(revoked_keys) if revoked_keys is not None else None
        trust = Trust(allowed_signers=Path(allowed_signers), identity=identity, revoked_keys=revoked)
    elif identity is not None or revoked_keys is not None:
        raise _without_signers()
    policy = Policy(
        receipts=Path(receipts),
        max_age=max_age if max_age is None or isinstance(max_age, timedelta) else parse_age(str(max_age)),
        require={key: str(value) for key, value in wanted},
        trust=trust,
        accept_overrides=accept_overrides,
        with_data=with_data,
        root=Path(root) if root is not None else None,
    )
    return check(str(recipe), policy)[0].receipt


def _without_signers() -> Exception:
    from pytest_smoke.errors import GateError

    return GateError("bad-argument", "identity and revoked_keys need allowed_signers: without it, nothing is verified")
