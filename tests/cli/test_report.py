"""`report` makes a page of old reports and of logs, says what it could not read, and overwrites nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.__main__ import main
from pytest_smoke.report.verdicts_json import verdicts_json
from tests.page.outcomes import an_outcome

DIVERGES = "step,loss\n" + "".join(
    f"{step},{2 - step / 100 if step < 100 else 1 + (step - 100) / 20}\n" for step in range(200)
)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def a_report(folder: str, trace: str | None = "traces/a.csv", **facts: Any) -> Path:
    path = Path(folder)
    (path / "traces").mkdir(parents=True)
    text = "step,loss,lr,grad_norm,probe_loss,loss/ce\n0,2.5,0.1,1,2.5,2.5\n1,77.25,0.1,1,,77.25\n"
    (path / "traces" / "a.csv").write_text(text)
    known = {"trace": trace, "trace_sha256": hashlib.sha256(text.encode()).hexdigest()}
    (path / "verdicts.json").write_text(verdicts_json([an_outcome("a.smoke.yaml::constant", **known | facts)]))
    return path


def test_the_report_of_a_folder_is_written_into_it(capsys: pytest.CaptureFixture[str]) -> None:
    a_report("out")
    assert main(["report", "out"]) == 0
    assert capsys.readouterr().out == "1 run: out/index.html\n"
    assert "77.25" in Path("out/index.html").read_text()


def test_a_page_is_written_again_but_no_other_file(capsys: pytest.CaptureFixture[str]) -> None:
    a_report("out")
    assert main(["report", "out"]) == main(["report", "out"]) == 0
    Path("mine.html").write_text("<p>mine")
    assert main(["report", "out", "--output", "mine.html"]) == 2
    assert "mine.html exists and was not made by this command" in capsys.readouterr().err
    assert Path("mine.html").read_text() == "<p>mine"
    for folder in ("out", ""):
        assert main(["report", "out", "--output", folder]) == 2
        assert capsys.readouterr().err == f"report: {folder or '.'} is a folder; name a file with --output\n"


def test_reports_and_logs_share_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    a_report("old")
    a_report("new")
    Path("train.csv").write_text(DIVERGES)
    assert main(["report", "old", "new", "train.csv"]) == 0
    assert capsys.readouterr().out == "3 runs: report.html\n"
    page = Path("report.html").read_text()
    assert "new/a::constant" in page
    assert "train.csv" in page
    assert "unstable (spike)" in page


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    a_report("out")
    Path("cut.csv").write_text("step,lo")
    assert main(["report", "out", "missing.log", "cut.csv", "x" * 5000]) == 2
    error = capsys.readouterr().err
    assert "missing.log: file not found" in error
    assert "Traceback" not in error
    page = Path("report.html").read_text()
    assert "missing.log: file not found" in page
    assert "a::constant" in page


def test_no_page_is_written_if_nothing_could_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    Path("plain.csv").write_text("a,b\n1,2\n")
    assert main(["report", "missing.log", "plain.csv"]) == 2
    assert "plain.csv: there is no loss column" in capsys.readouterr().err
    assert not Path("report.html").exists()


def test_a_folder_of_reports_is_no_folder_of_logs(capsys: pytest.CaptureFixture[str]) -> None:
    a_report("nights/first")
    assert main(["report", "nights"]) == 2
    message = "report: nights: it holds reports, such as first: name them, or use `history`\n"
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 1}', '{"schema": 2, "outcomes": []}', "\xff", "[" * 100_000]
)
def test_a_garbled_report_is_one_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    Path("out/verdicts.json").write_bytes(text.encode("latin-1"))
    assert main(["report", "out"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not Path("out/index.html").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"findings": 5},
        {"findings": [{"id": 1, "status": "no", "text": []}]},
        {"facts": []},
        {"facts": {"steps": "many"}},
        {"facts": {"stages": [{"name": "A"}]}},
        {"facts": {"settings": 4, "versions": "x", "args": []}},
        {"verdict": "good"},
        {"verdict": None},
        {"curve": {"step": ["a"], "loss": [None]}},
        {"metrics": {"f1": [[1], 2]}},
        {"gradients": {"ce": 5}},
        {"text": None, "reason": 4, "step": "x"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_an_outcome_of_other_types_hides_no_other_run(
    changed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = a_report("out")
    tree = json.loads((folder / "verdicts.json").read_text())
    damaged = {**tree["outcomes"][0], "id": "b.smoke.yaml::constant", **changed}
    (folder / "verdicts.json").write_text(json.dumps({**tree, "outcomes": [damaged, *tree["outcomes"]]}))
    assert main(["report", "out"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
    page = (folder / "index.html").read_text()
    assert "a::constant" in page
    assert "b::constant" in page or "outcome 1 cannot be read" in page


@pytest.mark.parametrize(
    "trace", ["../secret.csv", "/etc/passwd", "traces/../../secret.csv", "link.csv", "away/secret.csv"]
)
def test_a_trace_outside_of_the_report_folder_is_not_read(trace: str) -> None:
    secret = "step,loss\n0,123.456\n"
    Path("secret.csv").write_text(secret)
    folder = a_report("out", trace=trace, trace_sha256=hashlib.sha256(secret.encode()).hexdigest())
    (folder / "link.csv").symlink_to(Path("secret.csv").resolve())
    (folder / "away").symlink_to(Path.cwd())
    assert main(["report", "out"]) == 0
    page = (folder / "index.html").read_text()
    assert "outside of the report folder and was not read" in page
    assert "123.4" not in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_text("step,loss\n0,55.5\n"), "not the trace that this smoke run wrote"),
        (lambda path: path.unlink(), "file not found"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    ],
)
def test_the_trace_of_another_run_is_not_drawn(change: Any, said: str) -> None:
    folder = a_report("out")
    change(folder / "traces" / "a.csv")
    assert main(["report", "out"]) == 0
    page = (folder / "index.html").read_text()
    assert said in page
    assert "55.5" not in page
