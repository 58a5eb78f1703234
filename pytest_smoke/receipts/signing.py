"""SSH signatures of receipts, made and verified by OpenSSH's `ssh-keygen -Y`."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_smoke.errors import GateError, SigningError
from pytest_smoke.files import read_failure, read_regular
from pytest_smoke.plain import plain_name
from pytest_smoke.receipts.receipt import FORMAT

NAMESPACE = FORMAT
"""Namespace of the signature of a receipt that a session wrote. A signature counts for one purpose only."""
OVERRIDE_NAMESPACE = "pytest-smoke-override"
"""Namespace of the signature of a receipt with an override: a key can be allowed to do one and not the other."""
PROGRAM = "ssh-keygen"
SIGN_SECONDS = 30.0
"""Time to sign: a security key waits for a touch."""
VERIFY_SECONDS = 10.0
"""Time to verify, which takes 10 ms."""
MAX_SIGNATURE_BYTES = 2**14
"""Largest signature. One of a 16384-bit RSA key has 6 KiB."""
MAX_PRINCIPALS = 20
"""Principals of one key that are tried."""
BEGIN, END = b"-----BEGIN SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----\n"
ARMOR_CHARS = 70
"""Characters of a line between them."""
_ENVIRONMENT = {"SSH_ASKPASS": "/bin/false", "SSH_ASKPASS_REQUIRE": "force", "LC_ALL": "C"}
"""Nobody is asked for a passphrase: that would wait for ever in CI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whose signatures count."""

    allowed_signers: Path
    """File in the format of `ssh-keygen`: principals, options and a public key on each line."""
    identity: str | None = None
    """The principal that must have signed; None: any in the file."""
    revoked_keys: Path | None = None
    """File with revoked public keys, or a key revocation list."""

    def require_files(self) -> None:
        """Raise GateError if a file cannot be read."""
        for needed in filter(None, (self.allowed_signers, self.revoked_keys)):
            try:
                read_regular(needed)
            except OSError as error:
                raise GateError("cannot-verify", f"{needed}: {read_failure(error)}") from None


def sign(message: bytes, key: Path, *, namespace: str = NAMESPACE) -> str:
    """Return an armored signature. `key`: a private key, or a public one whose private key is in the SSH agent.

    Raises SigningError.
    """
    if not key.is_file():
        raise SigningError(f"there is no signing key {key}")
    done = _run(["-Y", "sign", "-n", namespace, "-f", os.path.abspath(key)], message, seconds=SIGN_SECONDS)
    if isinstance(done, str):
        raise SigningError(f"the receipt cannot be signed with {key}: {done}")
    if done.returncode == 0 and _is_armored(done.stdout):
        return done.stdout.decode("ascii")
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if not line.startswith("Signing data")]
    said = plain_name(lines[-1].strip())[:200] if lines else "ssh-keygen gave no reason"
    hint = "; load the key into ssh-agent, and name its .pub file" if "passphrase" in said else ""
    raise SigningError(f"the receipt cannot be signed with {key}: {said}{hint}")


def verify(message: bytes, signature: bytes, trust: Trust, *, namespace: str = NAMESPACE, what: str) -> str:
    """Return the principal whose key signed `message`. `what` names it in messages.

    Raises GateError if the signature is not valid for the message and namespace, if nobody in the allowed signers has
    its key today, or if the key is revoked.
    """
    allowed = trust.allowed_signers
    trust.require_files()
    if not _is_armored(signature):
        raise GateError("invalid-signature", f"{what} has an invalid signature: it is not one that ssh-keygen wrote")
    try:
        handle, name = tempfile.mkstemp(prefix="pytest-smoke-", suffix=".sig")  # of bytes that were read once
    except OSError as error:
        text = f"the signature cannot be verified: no temporary file can be written: {error.strerror or error}"
        raise GateError("cannot-verify", text) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(signature)
        found = _checked(["-Y", "check-novalidate", "-n", namespace, "-s", name], message)
        if found.returncode != 0:
            raise GateError("invalid-signature", f"{what} has an invalid signature: {_why_invalid(found)}")
        principals, said = [trust.identity] if trust.identity is not None else [], ""
        if not principals:
            listed = _checked(["-Y", "find-principals", "-f", os.path.abspath(allowed), "-s", name], message)
            principals, said = _principals(listed), _said(listed)
        for principal in principals[:MAX_PRINCIPALS]:
            how = ["-Y", "verify", "-f", os.path.abspath(allowed), "-I", principal, "-n", namespace, "-s", name]
            done = _checked(how, message)
            said += _said(done)
            if done.returncode != 0:
                continue
            if trust.revoked_keys is not None:
                done = _checked([*how, "-r", os.path.abspath(trust.revoked_keys)], message)
                if done.returncode != 0:
                    raise GateError("revoked-key", f"{what} is signed by a key that {trust.revoked_keys} revokes")
            return plain_name(principal)
    finally:
        os.unlink(name)
    period = "today " if "expired" in said or "not yet valid" in said else ""
    whom = f" for {plain_name(trust.identity)}" if trust.identity is not None else ""
    key = re.search(r"SHA256:[A-Za-z0-9+/]+", _said(found))
    shown = f"the key {key[0]}" if key else "a key"
    text = f"{what} is signed by {shown} that {allowed} does not allow {period}in the namespace {namespace}{whom}"
    raise GateError("unknown-signer", text)


def _principals(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """Return the principals that ssh-keygen listed; none if no line of the allowed signers has the key today."""
    lines = done.stdout.decode(errors="surrogateescape").splitlines() if done.returncode == 0 else []
    return [principal for line in lines for principal in line.split(",") if principal]


def _is_armored(signature: bytes) -> bool:
    """Tell whether the bytes are an armored signature as ssh-keygen writes it; it also reads other line breaks."""
    if len(signature) > MAX_SIGNATURE_BYTES:
        return False
    inner = signature.removeprefix(BEGIN).removesuffix(END)
    try:
        encoded = b64encode(b64decode(inner.replace(b"\n", b""), validate=True))
    except ValueError:
        return False
    lines = [encoded[at : at + ARMOR_CHARS] for at in range(0, len(encoded), ARMOR_CHARS)]
    return signature == BEGIN + b"".join(line + b"\n" for line in lines) + END


def _checked(arguments: Sequence[str], message: bytes) -> subprocess.CompletedProcess[bytes]:
    done = _run(arguments, message, seconds=VERIFY_SECONDS)
    if isinstance(done, str):
        raise GateError("cannot-verify", f"the signature cannot be verified: {done}")
    return done


def _run(arguments: Sequence[str], message: bytes, *, seconds: float) -> subprocess.CompletedProcess[bytes] | str:
    """Run ssh-keygen without a terminal; return why it could not run."""
    try:
        return subprocess.run(
            [PROGRAM, *arguments],
            input=message,
            capture_output=True,
            timeout=seconds,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,  # it has no terminal to ask on
            check=False,
        )
    except FileNotFoundError:
        return "ssh-keygen was not found; install OpenSSH 8.2 or newer"
    except subprocess.TimeoutExpired:
        return f"ssh-keygen did not end within {seconds:.0f} s"
    except (OSError, ValueError) as error:
        return f"ssh-keygen cannot be started: {error}"


def _why_invalid(done: subprocess.CompletedProcess[bytes]) -> str:
    said = _said(done)
    if "namespace" in said:
        return "it was made for another purpose"
    return "it does not match the content" if "incorrect signature" in said else "it cannot be read as an SSH signature"


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return what ssh-keygen printed beside a signature."""
    return (done.stdout + done.stderr).decode(errors="replace")
