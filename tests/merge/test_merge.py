"""`merge DIR... -o OUT`: what comes from where, what is refused, and what never leaves the folders."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_smoke.__main__ import main
from pytest_smoke.files import file_name
from pytest_smoke.outcome import CheckpointFacts, Outcome
from pytest_smoke.page.session_reports import RENDERERS, write_reports
from pytest_smoke.report.verdicts_json import verdicts_json
from tests.history.sessions import START, outcome

TRACE = "step,loss,lr,grad_norm,probe_loss\n0,2.0,0.1,1.0,2.0\n1,1.0,0.1,nan,1.0\n"
Captured = pytest.CaptureFixture[str]


def one(name: str, *, minutes: int = 0, accuracy: float = 0.8, **facts: Any) -> Outcome:
    """Return an outcome with a trace and with numbers that JSON has not."""
    item_id = f"recipes/{name}.smoke.yaml::constant"
    known: dict[str, Any] = {
        "started_at": (START + timedelta(minutes=minutes)).isoformat(),
        "trace": f"traces/{file_name(item_id)}.csv",
        "trace_sha256": sha256(TRACE.encode()).hexdigest(),
        "last_values": {"val_loss": float("nan")},
    }
    return outcome(0, name=name, accuracy=accuracy, facts={**known, **facts})


def session(folder: Path, *outcomes: Outcome) -> Path:
    """Write the report folder of a session that has ended."""
    (folder / "traces").mkdir(parents=True)
    for written in outcomes:
        if written.facts.trace:
            (folder / "traces" / f"{file_name(written.id)}.csv").write_text(TRACE)
    (folder / "verdicts.json").write_text(verdicts_json(outcomes))
    assert write_reports(sorted(outcomes, key=lambda each: each.id), folder) == []
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys: Captured, out: Path, *arguments: object) -> str:
    """Merge, see that nothing was written, and return the messages."""
    before = sorted(os.listdir(out.parent))
    assert main(["merge", *map(str, arguments), "-o", str(out)]) == 2
    assert sorted(os.listdir(out.parent)) == before
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return printed.err


def test_a_merge_of_parts_is_the_report_of_one_session(tmp_path: Path, capsys: Captured) -> None:
    shared, own = "task: a:A\n", "task: b:B\n"
    runs = [one("b", recipe_text=shared), one("a", accuracy=0.5, recipe_text=own), one("c", recipe_text=shared)]
    whole = session(tmp_path / "whole", *runs)
    parts = [session(tmp_path / f"part{at}", each) for at, each in enumerate(runs)]
    out = tmp_path / "new" / "whole"  # the summary shows the folder's name
    assert main(["merge", *map(str, parts), "-o", str(out)]) == 1  # one is not promoted
    assert tree(out) == tree(whole)
    assert out.stat().st_mode & 0o777 == whole.stat().st_mode & 0o777
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [line.split()[0] for line in printed.out.splitlines()] == ["verdict", "hold", "promote", "promote", "3"]
    assert printed.out.splitlines()[-1] == f"3 smoke runs of 3 sessions: {out}/index.html"


def test_all_files_of_a_run_come_along_and_others_do_not(tmp_path: Path, capsys: Captured) -> None:
    checkpoint = CheckpointFacts(kind="trained", step=9, folder=f"checkpoints/{file_name(one('a').id)}/trained")
    run = one("a", package="/elsewhere/packages/x", checkpoints=(checkpoint,))
    folder, name = session(tmp_path / "0", run), file_name(run.id)
    files = (f"logs/{name}.log", f"predictions/{name}.jsonl", f"packages/{name}/bin/run", f"packages/{name}/model.onnx")
    events = f"tensorboard/{name}/events.out.tfevents.1.smoke"
    weights = f"checkpoints/{name}/trained/model.safetensors"
    others = (f"checkpoints/{name}/step-3/model.safetensors", "mine.txt", "stale/verdicts.json", "traces/other.csv")
    for path in (*files, events, weights, *others):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    (folder / files[2]).chmod(0o755)
    (folder / f"packages/{name}/latest").symlink_to("model.onnx")

    assert main(["merge", str(folder), "-o", str(tmp_path / "out")]) == 0
    assert "checkpoints of 1 smoke run were left out; --checkpoints takes them" in capsys.readouterr().err
    expected = {*RENDERERS, "verdicts.json", run.facts.trace, *files, events, f"packages/{name}/latest"}
    assert set(tree(tmp_path / "out")) == expected
    facts = json.loads((tmp_path / "out" / "verdicts.json").read_text())["outcomes"][0]["facts"]
    assert facts["package"] == str(tmp_path / "out" / "packages" / name)
    assert "checkpoints" not in facts
    assert os.access(tmp_path / "out" / files[2], os.X_OK)
    assert os.readlink(tmp_path / "out" / f"packages/{name}/latest") == "model.onnx"

    assert main(["merge", str(folder), "-o", str(tmp_path / "all"), "--checkpoints"]) == 0
    assert set(tree(tmp_path / "all")) == {*expected, weights}
    assert (tmp_path / "all" / weights).stat().st_ino == (folder / weights).stat().st_ino
    assert capsys.readouterr().err == ""


def test_the_same_outcome_in_two_folders_counts_once(tmp_path: Path, capsys: Captured) -> None:
    folder = session(tmp_path / "0", one("a"))
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "link").symlink_to(folder)
    arguments = [str(folder), str(folder), str(tmp_path / "copy"), str(tmp_path / "link")]
    assert main(["merge", *arguments, "-o", str(tmp_path / "out"), "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["smoke_runs"], report["sessions"], report["verdicts"]) == (1, 2, {"promote": 1})


def test_two_promotions_of_one_run_are_called_two_executions(tmp_path: Path, capsys: Captured) -> None:
    parts = [session(tmp_path / "0", one("a")), session(tmp_path / "1", one("a", minutes=9))]
    assert refused(capsys, tmp_path / "out", *parts).splitlines()[0] == (
        f"merge: recipes/a.smoke.yaml::constant was executed 2 times: promote in {parts[0]} and promote in {parts[1]}"
    )


def test_different_outcomes_of_one_run_are_refused(tmp_path: Path, capsys: Captured) -> None:
    parts = [session(tmp_path / "0", one("a")), session(tmp_path / "1", one("a", minutes=9, accuracy=0.1))]
    assert refused(capsys, tmp_path / "out", *parts).splitlines() == [
        f"merge: recipes/a.smoke.yaml::constant has different outcomes: promote in {parts[0]} and hold "
        f"(criterion-failed) in {parts[1]}",
        "merge: 1 smoke run with different outcomes: --newest takes the newest one",
    ]


@pytest.mark.parametrize("swapped", [False, True])
def test_newest_takes_the_run_that_started_last_and_says_what_it_replaces(
    tmp_path: Path, capsys: Captured, swapped: bool
) -> None:
    """An older promotion never hides a failure, whichever folder is named first."""
    parts = [session(tmp_path / "0", one("a")), session(tmp_path / "1", one("a", minutes=9, accuracy=0.1))]
    for folder in parts:
        receipt = folder / "receipts" / f"{file_name(one('a').id)}.json"
        receipt.parent.mkdir()
        receipt.write_text("{}")
    (parts[1] / "receipts" / f"{file_name(one('a').id)}.json").unlink()
    out = tmp_path / "out"
    assert main(["merge", *map(str, parts[::-1] if swapped else parts), "-o", str(out), "--newest"]) == 1
    assert json.loads((out / "verdicts.json").read_text())["outcomes"][0]["verdict"] == "hold"
    assert not (out / "receipts").exists()
    assert f"hold (criterion-failed) in {parts[1]} replaces promote in {parts[0]}, which started 9 min earlier" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("started", [None, "yesterday", "2026-01-05T03:00:00", START.isoformat()])
def test_newest_needs_times_that_differ(tmp_path: Path, capsys: Captured, started: str | None) -> None:
    parts = [
        session(tmp_path / "0", one("a")),
        session(tmp_path / "1", one("a", accuracy=0.1, started_at=started)),
    ]
    error = refused(capsys, tmp_path / "out", *parts, "--newest")
    assert ("at the same time" if started == START.isoformat() else "no start time") in error


def test_a_session_that_could_not_run_an_item_yields_to_one_that_did(tmp_path: Path) -> None:
    lacking = outcome(0, name="a", accuracy=0.1, facts={"started_at": None})
    skipped = [
        Outcome.from_dict({**lacking.to_dict(), "verdict": "inconclusive", "reason": "unmet-requirements", "text": why})
        for why in ("needs a GPU", "needs two GPUs")
    ]
    parts = [session(tmp_path / str(at), each) for at, each in enumerate((skipped[0], one("a"), skipped[1]))]
    assert main(["merge", *map(str, parts), "-o", str(tmp_path / "out")]) == 0
    assert main(["merge", *map(str, parts[::2]), "-o", str(tmp_path / "none")]) == 1


def test_a_session_that_did_not_end_is_named_and_fails(tmp_path: Path, capsys: Captured) -> None:
    folder = session(tmp_path / "0", one("a"))
    for name in RENDERERS:
        (folder / name).unlink()
    assert main(["merge", str(folder), str(session(tmp_path / "1", one("b"))), "-o", str(tmp_path / "out")]) == 1
    assert f"the session of {folder} did not end: smoke runs may be missing" in capsys.readouterr().err


def test_every_broken_folder_is_one_error(tmp_path: Path, capsys: Captured) -> None:
    good = session(tmp_path / "good", one("a"))
    texts = {
        "garbled": '{"schema": 1,',
        "other": '{"a": 1}',
        "newer": '{"schema": 99, "outcomes": []}',
        "deep": "[" * 200_000,
        "bytes": "\udcff",
        "word": '{"schema": 1, "outcomes": ["x"]}',
        "twice": json.dumps({"schema": 1, "outcomes": [json.loads(verdicts_json([one("x")]))["outcomes"][0]] * 2}),
        "verdict": verdicts_json([one("x")]).replace('"promote"', '"fine"'),
        "id": verdicts_json([one("x")]).replace("recipes/x.smoke.yaml::constant", "x\\u001b[31m"),
        "facts": '{"schema": 1, "outcomes": [{"id": "x", "facts": 3, "findings": []}]}',
    }
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "verdicts.json").write_bytes(text.encode(errors="surrogateescape"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bisect").mkdir()
    (tmp_path / "bisect" / "bisect.json").write_text("{}")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "verdicts.json")
    (tmp_path / "file").write_text("")
    broken = [tmp_path / name for name in (*texts, "empty", "bisect", "pipe", "file", "missing")]
    lines = refused(capsys, tmp_path / "out", *broken, good).splitlines()
    assert len(lines) == len(broken)
    for folder, line in zip(broken, lines, strict=True):
        assert str(folder) in line
        assert "\x1b" not in line


def test_a_folder_that_a_session_still_writes_is_refused(tmp_path: Path, capsys: Captured) -> None:
    folder = session(tmp_path / "0", one("a"))
    with open(folder / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert "a pytest session is still writing" in refused(capsys, tmp_path / "out", folder)


def test_no_smoke_run_at_all_is_an_error(tmp_path: Path, capsys: Captured) -> None:
    empty, killed = session(tmp_path / "0"), session(tmp_path / "1")
    for name in RENDERERS:
        (killed / name).unlink()
    assert refused(capsys, tmp_path / "out", empty, empty, killed).splitlines() == [
        f"merge: no smoke runs in {empty} and {killed}",
        f"merge: the session of {killed} did not end: smoke runs may be missing",
    ]


@pytest.mark.parametrize("what", ["file", "folder", "link", "source"])
def test_an_output_that_is_in_use_is_refused(tmp_path: Path, capsys: Captured, what: str) -> None:
    folder, out = session(tmp_path / "0", one("a")), tmp_path / "out"
    if what == "file":
        out.write_text("mine")
    elif what == "link":
        out.symlink_to(tmp_path / "0")
    elif what == "folder":
        (out / "sub").mkdir(parents=True)
    before = tree(tmp_path)
    refused(capsys, folder if what == "source" else out, folder)
    assert tree(tmp_path) == before


def test_an_empty_output_may_exist_and_parents_need_not(tmp_path: Path) -> None:
    folder = session(tmp_path / "0", one("a"))
    (tmp_path / "out").mkdir()
    assert main(["merge", str(folder), "-o", str(tmp_path / "out")]) == 0
    assert main(["merge", str(folder), "-o", str(tmp_path / "a" / "b" / "c")]) == 0
    assert tree(tmp_path / "a" / "b" / "c").keys() == tree(tmp_path / "out").keys()


@pytest.mark.parametrize("place", ["traces", "traces/{name}.csv", "packages/{name}", "packages/{name}/x", "receipts"])
@pytest.mark.parametrize("kind", ["link", "relative-link", "pipe"])
def test_nothing_outside_of_a_folder_is_copied(tmp_path: Path, capsys: Captured, place: str, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    run = one("a")
    for name in ("x", f"{file_name(run.id)}.csv", f"{file_name(run.id)}.json"):
        (secret / name).write_text("secret")
    folder = session(tmp_path / "0", run)
    path = folder / place.format(name=file_name(run.id))
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(secret if kind == "link" else os.path.relpath(secret, path.parent))
    arguments = ["merge", str(folder), "-o", str(tmp_path / "out")]
    code = main(arguments)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    if code == 2:
        assert str(path) in printed.err
        assert not (tmp_path / "out").exists()
    else:
        assert kind == "pipe"  # a pipe in the place of a folder has no files
    assert all(b"secret" not in content for content in tree(tmp_path / "out").values())


@pytest.mark.parametrize("trace", ["/etc/hostname", "../secret", "traces/../../secret", "traces/\x00", ""])
def test_a_trace_that_leads_out_of_the_folder_is_not_read(tmp_path: Path, capsys: Captured, trace: str) -> None:
    (tmp_path / "secret").write_text(TRACE)
    folder = session(tmp_path / "0", one("a", trace=trace.replace("\x00", "")))
    text = (folder / "verdicts.json").read_text()
    if "\x00" in trace:
        (folder / "verdicts.json").write_text(text.replace('"traces/"', '"traces/\\u0000"'))
    assert main(["merge", str(folder), "-o", str(tmp_path / "out")]) == 0
    assert ("not in the report folders" in capsys.readouterr().err) is bool(trace)
    assert {path.name for path in (tmp_path / "out").rglob("*.csv")} <= {f"{file_name(one('a').id)}.csv"}


HOSTILE = ["../../x", "/abs", "\udcff", "\x1b]0;\x07", "<img src=x>", "a" * 5000, "%s", ".", "", "::", "\x00"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.dictionaries(
        st.sampled_from(["id", "verdict", "reason", "text", "facts", "findings", "curve", "mode", "cell", "recipe"]),
        st.one_of(st.sampled_from(HOSTILE), st.none(), st.integers(), st.lists(st.none()), st.just({"trace": "../x"})),
        max_size=3,
    )
)
def test_a_damaged_outcome_is_an_error_or_merged_inside_the_folder(
    tmp_path_factory: pytest.TempPathFactory, capsys: Captured, edits: dict[str, Any]
) -> None:
    work = tmp_path_factory.mktemp("merge")
    folder = session(work / "0", one("a"))
    file = folder / "verdicts.json"
    content = json.loads(file.read_text())
    content["outcomes"][0] |= edits
    file.write_text(json.dumps(content))
    code = main(["merge", str(folder), "-o", str(work / "out")])
    printed = capsys.readouterr()
    assert code in (0, 1, 2)
    assert "Traceback" not in printed.err
    assert sorted(os.listdir(work)) == (["0"] if code == 2 else ["0", "out"])


def test_keys_of_another_version_are_kept(tmp_path: Path) -> None:
    folder = session(tmp_path / "0", one("a"))
    content = json.loads((folder / "verdicts.json").read_text())
    content["outcomes"][0]["facts"]["cosmic_rays"] = 3
    content["outcomes"][0]["later"] = ["x"]
    (folder / "verdicts.json").write_text(json.dumps(content))
    assert main(["merge", str(folder), "-o", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "verdicts.json").read_text()) == content
