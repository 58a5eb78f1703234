"""A project with a receipt that was made without training, and SSH keys."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.data_files import data_digest
from pytest_smoke.errors import GateError
from pytest_smoke.files import file_sha256
from pytest_smoke.outcome import Facts, Finding, Outcome, VerdictWord
from pytest_smoke.receipts.build import receipt_of_run
from pytest_smoke.receipts.check import Accepted, Policy, check, item_id
from pytest_smoke.receipts.folder import REFUSED, receipt_of, write
from pytest_smoke.receipts.receipt import Receipt
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import load_cases

RECIPE = """\
task: model:Model
args: {hidden_size: 16}
full:
  batch_size: 8
  world_size: 8
  learning_rate: 5.0e-4
  max_steps: 5000
smoke: {max_steps: 400}
checks: {accept: [val_f1 > 0.5]}
"""
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
ENDED = NOW - timedelta(hours=2)
VERSIONS = {"python": "3.11.7", "pytest": "9.2.0"}


class Project:
    """A folder with a recipe, a task, data, and the receipt of a promotion that ended two hours ago."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.recipe = root / "lm.smoke.yaml"
        self.receipts = root / "out" / "receipts"
        (root / "pytest.ini").write_text("[pytest]\n")
        (root / "model.py").write_text("class Model:\n    def __init__(self, hidden_size): ...\n")
        (root / "data").mkdir()
        (root / "data" / "train.txt").write_text("a text")
        self.recipe.write_text(RECIPE)

    @property
    def path(self) -> Path:
        """The file of the receipt of the recipe's baseline."""
        return self.receipts / receipt_of("lm.smoke.yaml::constant")

    def case(self, name: str = "constant") -> Case:
        """Return the smoke run of the recipe with this name."""
        return next(case for case in load_cases(self.recipe, root=self.root) if case.name == name)

    def receipt(self, name: str = "constant", *, verdict: VerdictWord = "promote", **changes: Any) -> Receipt:
        """Return a receipt of today's files; `changes` replace fields of it."""
        case = self.case(name)
        findings = (
            Finding(id="finite", status="pass", text="all losses are finite"),
            Finding(id="ranks", status="not-checked", reason="no-data", text="the log does not show ranks"),
        )
        reason = "" if verdict == "promote" else "criterion-failed"
        text = "no rise in 400 points" if verdict == "promote" else "val_f1 was 0.41 at step 399, must be > 0.5"
        outcome = Outcome(
            id=item_id(case),
            recipe=case.path,
            mode=case.mode,
            cell=case.cell,
            verdict=verdict,
            reason=reason,
            step=None,
            text=text,
            decided_by="",
            findings=findings,
            facts=Facts(
                steps=400,
                evidence_steps=400,
                evidence_needed_steps=200,
                smallest_rise_share=0.02,
                device="cuda:0",
                device_name="NVIDIA H100",
                precision="fp32",
                git_commit="0123456789abcdef0123456789abcdef01234567-dirty",
                versions=VERSIONS,
            ),
        )
        receipt = receipt_of_run(
            case,
            outcome,
            root=self.root,
            files={"model.py": file_sha256(self.root / "model.py")},
            data={"data/train.txt": data_digest(self.root / "data" / "train.txt").to_dict()},
            isolation="process",
            early_stop=True,
        )
        return replace(receipt, **{"ended_at": ENDED.isoformat(), **changes})

    def write(self, receipt: Receipt | None = None, *, key: Path | None = None) -> Path:
        """Write a receipt as a session does; by default, that of a promotion."""
        receipt = receipt or self.receipt()
        folder = self.receipts if receipt.verdict == "promote" else self.receipts / REFUSED
        path = folder / receipt_of(receipt.id)
        write(path, receipt, key=key)
        return path

    def edit(self, before: str, after: str) -> None:
        """Replace a text of the recipe."""
        text = self.recipe.read_text()
        assert before in text
        self.recipe.write_text(text.replace(before, after))

    def check(self, recipe: str | Path | None = None, *, now: datetime = NOW, **policy: Any) -> list[Accepted]:
        """Ask the gate."""
        named = Policy(**{"receipts": self.root / "out", **policy})
        return check(str(recipe or self.recipe), named, now=now)

    def refusal(self, recipe: str | Path | None = None, **policy: Any) -> str:
        """Return the sentence with which the gate refuses, with the project's folder left out."""
        with pytest.raises(GateError) as refused:
            self.check(recipe, **policy)
        text = str(refused.value)
        assert "\n" not in text
        return text.replace(f"{self.root}/", "")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project whose receipt holds."""
    made = Project(tmp_path)
    made.write()
    return made


class Keys:
    """SSH keys by name, and files with the public ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, passphrase in {"gpu": "", "person": "", "stranger": "", "locked": "secret"}.items():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f", str(folder / name)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

    def __getitem__(self, name: str) -> Path:
        return self.folder / name

    def allowed(self, lines: Mapping[str, str], *, file: str) -> Path:
        """Write a file of allowed signers: a key's name by principals and options."""
        path = self.folder / file
        public = {key: (self.folder / f"{key}.pub").read_text().strip() for key in set(lines.values())}
        path.write_text("".join(f"{who} {public[key]}\n" for who, key in lines.items()))
        return path


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Return SSH keys that were made for the tests."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    return Keys(tmp_path_factory.mktemp("keys"))
