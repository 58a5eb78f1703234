"""Run `diagnose` and check its output and exit codes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.__main__ import main
from pytest_smoke.diagnose import diagnose as diagnose_rows

DOCS = Path(__file__).parents[2] / "docs"
OLD, NEW = (str(DOCS / "diagnose" / f"{name}.jsonl") for name in ("old", "new"))
COMMAND = (sys.executable, "-m", "pytest_smoke", "diagnose")


def diagnose(*args: str, stdin: bytes = b"", **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, *args], input=stdin, capture_output=True, timeout=60, cwd=DOCS, env={**os.environ, **environment}
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def wire(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    """Return the JSON form, refusing the NaN that Python would accept."""
    assert main(["diagnose", "--format", "json", *args]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=refuse)
    return found


def test_the_json_form_equals_the_report_of_the_same_rows_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    found = wire(capsys, NEW, "--examples", "0")
    rows = [json.loads(line) for line in Path(NEW).read_text(encoding="utf-8").splitlines()]
    assert found == {
        "schema": 1,
        "report": diagnose_rows(rows, samples=0).to_dict(),
        "before": None,
        "comparison": None,
    }
    assert list(found["report"]["tags"]) == ["city", "house_number", "postcode", "road"]


def test_the_first_examples_are_shown_with_their_line(capsys: pytest.CaptureFixture[str]) -> None:
    slips = wire(capsys, OLD, "--examples", "2")["report"]["tags"]["postcode"]["examples"]["bio_slip"]
    assert [sample["place"] for sample in slips] == [f"{OLD}:1", f"{OLD}:2"]
    assert slips[0] == {
        "place": f"{OLD}:1",
        "raw": "12 Rue des Lilas, 76470 Le Tréport",
        "gold": "76470",
        "pred": ", 7647",
    }


def test_before_compares_with_another_run(capsys: pytest.CaptureFixture[str]) -> None:
    found = wire(capsys, NEW, "--before", OLD)
    assert found["report"] == wire(capsys, NEW)["report"]
    assert found["before"] == wire(capsys, OLD)["report"]
    changes = found["comparison"]["tags"]["postcode"]
    slips = next(change for change in changes if (change["bucket"], change["measure"]) == ("bio_slip", "fn"))
    assert (slips["before"]["count"], slips["after"]["count"], slips["beyond_noise"]) == (9, 1, True)
    assert found["comparison"]["tags_with_other_gold"] == []


def test_trim_compares_with_the_untrimmed_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    trimmed, kept = wire(capsys, OLD, "--trim"), wire(capsys, OLD, "--trim", "--keep-full-stop")
    rights = [report["report"]["tags"]["road"]["correct"] for report in (wire(capsys, OLD), trimmed, kept)]
    assert rights == [9, 10, 11]
    changes = trimmed["comparison"]["tags"]["postcode"]
    slips = next(change for change in changes if (change["bucket"], change["measure"]) == ("bio_slip", "fn"))
    assert (slips["before"]["count"], slips["after"]["count"]) == (9, 3)


def test_standard_input_is_read_for_either_run() -> None:
    code, out, err = diagnose("-", "--format", "json", stdin=Path(OLD).read_bytes())
    assert (code, err) == (0, "")
    assert json.loads(out)["report"]["tags"]["postcode"]["examples"]["bio_slip"][0]["place"] == "-:1"
    code, out, _ = diagnose(NEW, "--before", "-", "--format", "json", stdin=Path(OLD).read_bytes())
    assert code == 0
    assert json.loads(out)["comparison"]["all"]


def test_the_output_does_not_depend_on_the_hash_seed() -> None:
    texts = {diagnose(NEW, "--before", OLD, PYTHONHASHSEED=seed)[1] for seed in "012"}
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["none.jsonl"],
            "diagnose: none.jsonl: file not found\n",
        ),
        (["diagnose"], "diagnose: diagnose: cannot be read: Is a directory\n"),
        (["-"], "diagnose: -: the file has no examples; allowed: one JSON object per line\n"),
        (["-", "--before", "-"], "diagnose: PREDICTIONS and --before cannot both be standard input (-)\n"),
        (["diagnose/new.jsonl", "--keep-full-stop"], "diagnose: --keep-full-stop needs --trim\n"),
        (["diagnose/new.jsonl", "--trim", "--before", "x"], "not allowed with argument"),
        (["diagnose/new.jsonl", "--examples", "-1"], "'-1' is not a whole number of 0 or more"),
        (["diagnose/new.jsonl", "--examples", "1.5"], "'1.5' is not a whole number of 0 or more"),
    ],
)
def test_an_unreadable_input_is_one_error_line_and_exit_code_2(args: list[str], message: str) -> None:
    code, out, err = diagnose(*args)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_a_malformed_line_is_reported_with_its_place(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"raw": "Paris", "gold": [], "pred": [[0, 9, "city"]]}\n', encoding="utf-8")
    message = f"diagnose: {bad}:1: pred[0]: span 0-9 is outside the text; offsets go from 0 to 5\n"
    assert diagnose(str(bad)) == (2, "", message)
    assert diagnose(NEW, "--before", str(bad)) == (2, "", message)


def test_letters_that_the_terminal_cannot_show_are_escaped() -> None:
    code, out, err = diagnose(NEW, PYTHONIOENCODING="ascii")
    assert (code, err) == (0, "")
    assert "\\u03a3" in out


def test_a_closed_pipe_has_no_traceback() -> None:
    shell = f"{shlex.join(COMMAND)} {shlex.quote(NEW)} --before {shlex.quote(OLD)} | head -1 > {os.devnull}"
    assert subprocess.run(shell, shell=True, capture_output=True, timeout=60, check=True).stderr == b""


def test_importing_the_command_imports_nothing_heavy() -> None:
    heavy = ("torch", "yaml", "pydantic", "pytest")
    code = f"import sys, pytest_smoke.cli.diagnose; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


BLOCKS = re.findall(
    r"```console\n\$ python -m pytest_smoke diagnose ([^\n]*)\n(.*?)```",
    (DOCS / "how-to" / "diagnose-a-tagger.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


def test_the_page_has_three_console_blocks() -> None:
    assert len(BLOCKS) == 3


@pytest.mark.parametrize(("arguments", "shown"), BLOCKS, ids=[arguments for arguments, _ in BLOCKS])
def test_the_page_shows_what_the_command_prints(arguments: str, shown: str) -> None:
    code, out, err = diagnose(*shlex.split(arguments))
    rest = "\n" + out + err
    assert code in (0, 2)
    for part in re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE):
        _, found, rest = rest.partition("\n" + part)
        assert found, f"not printed, or not here: {part}"
        rest = "\n" + rest
