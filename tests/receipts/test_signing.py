"""Signatures by the real ssh-keygen: who may sign what, and what is refused."""

from __future__ import annotations

import os
import subprocess
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_smoke.errors import GateError, SigningError
from pytest_smoke.receipts import signing
from pytest_smoke.receipts.signing import NAMESPACE, OVERRIDE_NAMESPACE, Trust, sign, verify
from tests.receipts.conftest import Keys

MESSAGE = b'{"verdict": "promote"}\n'


@pytest.fixture(scope="session")
def allowed(keys: Keys) -> Path:
    lines = {
        f'runner-1,runner-2 namespaces="{NAMESPACE}"': "gpu",
        f'lead@example.org namespaces="{OVERRIDE_NAMESPACE}"': "person",
        'old valid-before="20200101"': "locked",
    }
    return keys.allowed(lines, file="allowed")


def refusal(message: bytes, signature: str | bytes, trust: Trust, *, namespace: str = NAMESPACE) -> str:
    raw = signature.encode() if isinstance(signature, str) else signature
    with pytest.raises(GateError) as refused:
        verify(message, raw, trust, namespace=namespace, what="a.json")
    return str(refused.value).replace(f"{trust.allowed_signers.parent}/", "")


def test_a_signature_names_the_principal_of_its_key(keys: Keys, allowed: Path) -> None:
    signature = sign(MESSAGE, keys["gpu"]).encode()
    assert verify(MESSAGE, signature, Trust(allowed_signers=allowed), what="a.json") == "runner-1"
    named = Trust(allowed_signers=allowed, identity="runner-2")
    assert verify(MESSAGE, signature, named, what="a.json") == "runner-2"


def test_a_key_counts_only_for_its_principal_namespace_and_period(keys: Keys, allowed: Path) -> None:
    trust = Trust(allowed_signers=allowed)
    signature = sign(MESSAGE, keys["gpu"])
    key = subprocess.run(["ssh-keygen", "-lf", keys["gpu"]], capture_output=True, text=True).stdout.split()[1]
    start = f"a.json is signed by the key {key} that allowed does not allow"
    other = Trust(allowed_signers=allowed, identity="lead@example.org")
    assert refusal(MESSAGE, signature, other) == f"{start} in the namespace {NAMESPACE} for lead@example.org"
    as_override = sign(MESSAGE, keys["gpu"], namespace=OVERRIDE_NAMESPACE)
    text = refusal(MESSAGE, as_override, trust, namespace=OVERRIDE_NAMESPACE)
    assert text == f"{start} in the namespace {OVERRIDE_NAMESPACE}"
    stranger = refusal(MESSAGE, sign(MESSAGE, keys["stranger"]), trust)
    assert stranger.endswith(f"that allowed does not allow in the namespace {NAMESPACE}")
    expired = keys.allowed({'old valid-before="20200101"': "gpu"}, file="expired")
    text = refusal(MESSAGE, signature, Trust(allowed_signers=expired))
    assert text == f"a.json is signed by the key {key} that expired does not allow today in the namespace {NAMESPACE}"


def test_a_signature_of_another_purpose_or_content_is_refused(keys: Keys, allowed: Path) -> None:
    trust = Trust(allowed_signers=allowed)
    signature = sign(MESSAGE, keys["gpu"])
    assert refusal(MESSAGE + b" ", signature, trust) == "a.json has an invalid signature: it does not match the content"
    other = sign(MESSAGE, keys["gpu"], namespace="git")
    assert refusal(MESSAGE, other, trust) == "a.json has an invalid signature: it was made for another purpose"
    for broken in (
        b"",
        b"no signature",
        signature.encode() + b"\n",
        signature.replace("\n", "\r\n").encode(),
        b"x" * 10**6,
    ):
        assert refusal(MESSAGE, broken, trust) == (
            "a.json has an invalid signature: it is not one that ssh-keygen wrote"
        )


def test_a_revoked_key_is_refused(keys: Keys, allowed: Path) -> None:
    signature = sign(MESSAGE, keys["gpu"])
    revoked = keys["gpu"].with_suffix(".pub")
    text = refusal(MESSAGE, signature, Trust(allowed_signers=allowed, revoked_keys=revoked))
    assert text == f"a.json is signed by a key that {revoked} revokes".replace(f"{keys.folder}/", "")
    others = Trust(allowed_signers=allowed, revoked_keys=keys["stranger"].with_suffix(".pub"))
    assert verify(MESSAGE, signature.encode(), others, what="a.json") == "runner-1"


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_signature_with_any_other_byte_is_refused(keys: Keys, allowed: Path, data: st.DataObject) -> None:
    signature = sign(MESSAGE, keys["gpu"]).encode()
    at = data.draw(st.integers(0, len(signature) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != signature[at]))
    refusal(MESSAGE, signature[:at] + bytes([byte]) + signature[at + 1 :], Trust(allowed_signers=allowed))


def test_each_bit_of_the_signed_blob_is_covered(keys: Keys, allowed: Path) -> None:
    """Every tenth byte: each costs two processes."""
    lines = sign(MESSAGE, keys["gpu"]).splitlines()
    blob = b64decode("".join(lines[1:-1]))
    for at in range(0, len(blob), 10):
        edited = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]
        text = b64encode(edited).decode()
        armored = "\n".join([lines[0], *(text[i : i + 70] for i in range(0, len(text), 70)), lines[-1], ""])
        refusal(MESSAGE, armored, Trust(allowed_signers=allowed))


def test_a_key_with_a_passphrase_asks_nobody(keys: Keys) -> None:
    with pytest.raises(SigningError) as failed:
        sign(MESSAGE, keys["locked"])
    assert str(failed.value).endswith("; load the key into ssh-agent, and name its .pub file")
    assert "passphrase" in str(failed.value)


def test_a_key_in_the_agent_signs(keys: Keys, allowed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = Path(os.path.relpath(tmp_path / "agent"))
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None
        agent.stdout.readline()  # the socket is there
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket.absolute()))
        subprocess.run(["ssh-add", "-q", keys["gpu"]], check=True, stdin=subprocess.DEVNULL)
        public = tmp_path / "public.pub"
        public.write_bytes(keys["gpu"].with_suffix(".pub").read_bytes())
        signature = sign(MESSAGE, public)
    finally:
        agent.kill()
        agent.communicate()
    assert verify(MESSAGE, signature.encode(), Trust(allowed_signers=allowed), what="a.json") == "runner-1"


def test_a_key_whose_name_looks_like_an_option_is_a_file(
    keys: Keys, allowed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, source in {"-key": keys["gpu"], "-allowed": allowed}.items():
        Path(name).write_bytes(source.read_bytes())
        Path(name).chmod(0o600)
    signature = sign(MESSAGE, Path("-key"))
    assert verify(MESSAGE, signature.encode(), Trust(allowed_signers=Path("-allowed")), what="a.json") == "runner-1"


def test_what_is_missing_is_named(keys: Keys, allowed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SigningError, match=r"^there is no signing key .*nothing$"):
        sign(MESSAGE, tmp_path / "nothing")
    signature = sign(MESSAGE, keys["gpu"])
    missing = Trust(allowed_signers=tmp_path / "signers")
    assert refusal(MESSAGE, signature, missing) == "signers: file not found"
    monkeypatch.setattr(signing, "PROGRAM", str(tmp_path / "ssh-keygen"))
    text = refusal(MESSAGE, signature, Trust(allowed_signers=allowed))
    assert text == "the signature cannot be verified: ssh-keygen was not found; install OpenSSH 8.2 or newer"
    with pytest.raises(SigningError, match=r"cannot be signed with .*: ssh-keygen was not found"):
        sign(MESSAGE, keys["gpu"])


def test_a_program_that_hangs_is_stopped(keys: Keys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "ssh-keygen"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(signing, "PROGRAM", str(program))
    monkeypatch.setattr(signing, "SIGN_SECONDS", 0.2)
    with pytest.raises(SigningError, match="did not end within"):
        sign(MESSAGE, keys["gpu"])
