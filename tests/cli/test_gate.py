"""The command `gate`: what it prints, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pytest_smoke.__main__ import main
from tests.receipts.conftest import Keys, Project, keys

__all__ = ["keys"]

ID = "lm.smoke.yaml::constant"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project, the current folder, whose smoke run was promoted two hours ago."""
    made = Project(tmp_path)
    made.write(made.receipt(ended_at=(datetime.now(UTC) - timedelta(hours=2)).isoformat()))
    monkeypatch.chdir(tmp_path)
    return made


def gate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    capsys.readouterr()
    status = main(["gate", *arguments])
    out, err = capsys.readouterr()
    assert err == ""
    return status, out.splitlines()


def test_a_receipt_that_holds_is_one_line_and_what_was_not_tested(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = gate(capsys, "lm.smoke.yaml", "--receipts", "out", "--max-age", "7d", "--require", "device=cuda")
    assert status == 0
    assert lines[0] == f"ok: {ID} was promoted 2 h ago on NVIDIA H100"
    assert lines[1].startswith("  not tested: the full run's 8 data-parallel devices were folded onto one")
    assert lines[-1] == "  note: the receipt is not signed"
    assert max(map(len, lines)) <= 79


def test_each_recipe_has_one_sentence_and_one_refusal_is_enough(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.root / "other.smoke.yaml").write_text("extends: lm.smoke.yaml\n")
    status, lines = gate(capsys, "other.smoke.yaml", "nothing.smoke.yaml", "lm.smoke.yaml", "--receipts", "out")
    assert status == 1
    assert lines[0].startswith("refused: other.smoke.yaml::constant has no receipt in out")
    assert lines[1] == "refused: there is no recipe nothing.smoke.yaml"
    assert lines[2].startswith("ok: ")


def test_json_has_one_object_for_each_smoke_run(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = gate(capsys, "lm.smoke.yaml", "x.smoke.yaml", "--receipts", "out", "--format", "json")
    passed, refused = map(json.loads, lines)
    assert status == 1
    assert (passed["passed"], passed["reason"], passed["notes"]) == (True, "", ["the receipt is not signed"])
    assert passed["receipt"]["inputs"]["recipe"]["full"]["learning_rate"] == 5e-4
    assert refused == {
        "recipe": "x.smoke.yaml",
        "passed": False,
        "reason": "no-recipe",
        "text": "there is no recipe x.smoke.yaml",
        "receipt": None,
    }


def test_an_override_is_loud_and_signed(project: Project, keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    lines = {'runner namespaces="pytest-smoke-receipt"': "gpu", 'lead namespaces="pytest-smoke-override"': "person"}
    allowed = keys.allowed(lines, file="cli-allowed")
    project.path.unlink()
    now = datetime.now(UTC).isoformat()
    project.write(project.receipt(verdict="hold", ended_at=now), key=keys["gpu"])
    common = ("lm.smoke.yaml", "--receipts", "out")
    status, printed = gate(
        capsys, *common, "--override", "\x1b[2Jno time", "--by", "ada", "--sign-key", str(keys["person"])
    )
    assert status == 0
    day = now[:10]
    sentence = rf"{ID}: the verdict hold (criterion-failed) was overridden by ada on {day}: \x1b[2Jno time"
    assert printed == [f"OVERRIDE: {sentence}", f"written to {project.path.relative_to(project.root)}"]
    assert gate(capsys, *common) == (1, [f"refused: {sentence}; --accept-overrides accepts that"])
    status, printed = gate(capsys, *common, "--accept-overrides", "--allowed-signers", str(allowed))
    assert (status, printed[0]) == (0, f"OVERRIDE ACCEPTED: {sentence}, signed by lead")
    status, printed = gate(capsys, *common, "--override", "again")
    assert (status, printed[0].partition(": remove")[0]) == (1, f"refused: {ID} was overridden before")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-age", "3"), "gate: '3' is not an age: write 90s, 30m, 12h, 7d or 2w"),
        (
            ("--require", "device:cuda"),
            "gate: 'device:cuda' is not KEY=VALUE, such as device=cuda, precision=bf16 or git=clean",
        ),
        (("--identity", "x"), "gate: --identity and --revoked-keys need --allowed-signers"),
        (("--by", "x"), "gate: --by and --sign-key belong to --override"),
    ],
)
def test_an_argument_that_cannot_be_read_is_refused(
    project: Project, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(["gate", "lm.smoke.yaml", "--receipts", "out", *arguments]) == 1
    assert capsys.readouterr() == ("", f"{message}\n")


def test_the_gate_imports_neither_torch_nor_the_task(project: Project) -> None:
    (project.root / "model.py").write_text("def Model(hidden_size): ...\nraise SystemExit(7)\n")
    project.write(project.receipt(ended_at=datetime.now(UTC).isoformat()))
    code = (
        "import sys; from pytest_smoke.__main__ import main; status = main(sys.argv[1:]); "
        "assert not {'torch', 'pytest', 'numpy', 'model'} & sys.modules.keys(); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "gate", "lm.smoke.yaml", "--receipts", "out"], capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_data_that_could_not_be_read_are_said(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.recipe.write_text(f"{project.recipe.read_text()}data_files: [nowhere]\n")
    project.write(project.receipt(ended_at=datetime.now(UTC).isoformat()))
    lines = gate(capsys, "lm.smoke.yaml", "--receipts", "out")[1]
    assert "  not tested: a change of nowhere is not noticed: No such file or directory" in lines
