"""`gate RECIPE...`: whether the full runs may be launched, because their smoke runs have receipts that still hold."""

from __future__ import annotations

import argparse
import getpass
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_smoke.cli.arguments import Subparsers, add_format, print_json, print_message, print_text
from pytest_smoke.errors import GateError, SmokeError
from pytest_smoke.plain import plain_name

if TYPE_CHECKING:
    from pytest_smoke.receipts.check import Accepted, Policy

EXIT_PASSED, EXIT_REFUSED = 0, 1
WIDTH = 79
UNKNOWN = "unknown"
"""Device of a command."""
NOT_TESTED_SHOWN = (
    "world-size",
    "device",
    "precision",
    "batch-size",
    "schedule",
    "resumed",
    "isolation",
    "code",
    "data",
)
"""Conditions that a line about a passed receipt names, in this order."""


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "gate",
        help="refuse to launch a full run whose smoke run has no valid receipt",
        description="Tell whether full runs may be launched: whether the smoke run of each recipe was promoted, and "
        "nothing that matters has changed since. `pytest --smoke --smoke-report DIR` writes the receipts. It trains "
        "nothing and imports none of your code.",
        epilog="Exit status: 0 if every recipe has a valid receipt, 1 if not; with --override, 0 if it was written.",
    )
    parser.add_argument(
        "recipes",
        nargs="+",
        metavar="RECIPE",
        help="a recipe file, for the recipe's own modes; or FILE::MODE, or FILE::MODE[CELL]",
    )
    parser.add_argument(
        "--receipts",
        type=Path,
        default=Path("receipts"),
        metavar="DIR",
        help="report folder, or the folder of receipts in it (default: receipts)",
    )
    parser.add_argument("--max-age", metavar="AGE", help="refuse receipts that are older, such as 12h, 7d or 2w")
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="refuse a smoke run under other conditions: device, precision, world_size, git=clean, torch=2.13, ...; "
        "may be repeated",
    )
    parser.add_argument(
        "--allowed-signers",
        type=Path,
        metavar="FILE",
        help="refuse receipts that are not signed by a key in FILE, an allowed-signers file of ssh-keygen",
    )
    parser.add_argument("--identity", metavar="NAME", help="the name in that file that must have signed")
    parser.add_argument(
        "--revoked-keys",
        type=Path,
        metavar="FILE",
        help="public keys that no longer count, or a key revocation list",
    )
    parser.add_argument("--no-data", action="store_true", help="do not compare data files: for a machine without them")
    parser.add_argument("--accept-overrides", action="store_true", help="accept verdicts that a person overrode")
    parser.add_argument(
        "--override",
        metavar="REASON",
        help="write a receipt for a smoke run that was not promoted; only --accept-overrides accepts it",
    )
    parser.add_argument("--by", metavar="NAME", help="who overrides the verdict (default: the login name)")
    parser.add_argument("--sign-key", type=Path, metavar="KEY", help="sign the override with this SSH key")
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="pytest's rootdir (default: found from the recipe, as pytest does)"
    )
    add_format(parser, json_help="one object per smoke run, each on its own line")


def run(args: argparse.Namespace) -> int:
    """Check every recipe, print one line each, and return the exit status."""
    try:
        policy = _policy(args)
    except GateError as error:
        print_message("gate", str(error))
        return EXIT_REFUSED
    verb = _override if args.override is not None else _check
    return max([verb(recipe, policy, args) for recipe in args.recipes])


def _policy(args: argparse.Namespace) -> Policy:
    """Return what receipts must fulfil. Raises GateError for an argument that cannot be read."""
    from pytest_smoke.receipts.check import Policy, parse_age, parse_requirement  # imports pydantic and yaml
    from pytest_smoke.receipts.signing import Trust

    trust = None
    if args.allowed_signers is not None:
        trust = Trust(allowed_signers=args.allowed_signers, identity=args.identity, revoked_keys=args.revoked_keys)
    elif args.identity is not None or args.revoked_keys is not None:
        raise GateError("bad-argument", "--identity and --revoked-keys need --allowed-signers")
    if args.override is None and (args.by is not None or args.sign_key is not None):
        raise GateError("bad-argument", "--by and --sign-key belong to --override")
    return Policy(
        receipts=args.receipts,
        max_age=parse_age(args.max_age) if args.max_age is not None else None,
        require=dict(map(parse_requirement, args.require)),
        trust=trust,
        accept_overrides=args.accept_overrides,
        with_data=not args.no_data,
        root=args.root,
    )


def _check(recipe: str, policy: Policy, args: argparse.Namespace) -> int:
    from pytest_smoke.receipts.check import check

    try:
        accepted = check(recipe, policy)
    except GateError as error:
        if args.format == "json":
            print_json({"recipe": recipe, "passed": False, "reason": error.reason, "text": str(error), "receipt": None})
        else:
            print_text(f"refused: {error}")
        return EXIT_REFUSED
    for one in accepted:
        if args.format == "json":
            print_json(_tree(recipe, one))
        else:
            print_text("\n".join(_lines(one)))
    return EXIT_PASSED


def _override(recipe: str, policy: Policy, args: argparse.Namespace) -> int:
    from pytest_smoke.receipts.check import override, override_text
    from pytest_smoke.receipts.folder import write
    from pytest_smoke.receipts.signing import OVERRIDE_NAMESPACE

    try:
        path, receipt = override(recipe, policy, reason=args.override, by=args.by or getpass.getuser())
        write(path, receipt, key=args.sign_key, namespace=OVERRIDE_NAMESPACE)
    except (SmokeError, OSError) as error:
        print_text(f"refused: {plain_name(str(error))}")
        return EXIT_REFUSED
    if args.format == "json":
        print_json({"recipe": recipe, "overridden": True, "path": str(path), "receipt": receipt.to_dict()})
    else:
        signed = "" if args.sign_key is not None else ", not signed"
        print_text(f"OVERRIDE: {receipt.id}: {override_text(receipt)}\nwritten to {path}{signed}")
    return EXIT_PASSED


def _lines(one: Accepted) -> list[str]:
    """Return the line about a receipt that holds, what was not tested, and notes."""
    from pytest_smoke.receipts.check import age_text, override_text

    receipt = one.receipt
    age_seconds = (datetime.now(UTC) - receipt.ended).total_seconds()
    age = age_text(age_seconds) if age_seconds >= 60 else "less than a minute"
    tested = receipt.tested
    device = plain_name(str(tested.get("device_name") or tested.get("device")))
    device = "an unknown device" if device == UNKNOWN else device
    signed = f", signed by {one.signer}" if one.signer else ""
    lines = [f"ok: {plain_name(receipt.id)} was promoted {age} ago on {device}{signed}"]
    if receipt.override is not None:
        by = f", signed by {one.override_signer}" if one.override_signer else ""
        lines = [f"OVERRIDE ACCEPTED: {plain_name(receipt.id)}: {override_text(receipt)}{by}"]
    missing = [(entry["id"].partition("[")[0], plain_name(entry["text"])) for entry in receipt.not_tested]
    details = [f"not tested: {text}" for shown in NOT_TESTED_SHOWN for name, text in missing if name == shown]
    for detail in [*details, *(f"note: {note}" for note in one.notes)]:
        lines += textwrap.wrap(detail, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    return lines


def _tree(recipe: str, one: Accepted) -> dict[str, Any]:
    return {
        "recipe": recipe,
        "passed": True,
        "reason": "overridden" if one.receipt.override is not None else "",
        "text": _lines(one)[0],
        "signer": one.signer,
        "override_signer": one.override_signer,
        "notes": list(one.notes),
        "receipt": one.receipt.to_dict(),
    }
