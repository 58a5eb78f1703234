"""Run `judge` and check its output and exit codes."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pytest_smoke.__main__ import main
from pytest_smoke.cli import judge as judge_command
from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.logs import judging
from pytest_smoke.logs.judging import GrowingLogJudge, RunDescription
from pytest_smoke.logs.log import ColumnNames
from pytest_smoke.logs.read import read_text

COMMAND = (sys.executable, "-m", "pytest_smoke", "judge")


def curve(count: int = 400) -> list[float]:
    noise = random.Random(0)
    return [1 + 3 * math.exp(-n / 40) + noise.gauss(0, 0.02) for n in range(count)]


def csv(losses: list[float], *, head: str = "step,loss") -> str:
    return head + "\n" + "".join(f"{n},{loss}\n" for n, loss in enumerate(losses))


@pytest.fixture
def logs(tmp_path: Path) -> dict[str, str]:
    """Return the paths of five logs by name."""
    texts = {
        "good": csv(curve()),
        "nan": csv(curve(200) + [math.nan] * 200),
        "cosine": "step,loss,lr\n"
        + "".join(f"{n},{loss},{1e-3 if n < 100 else 1e-5}\n" for n, loss in enumerate(curve())),
        "held": csv(curve(), head="step,val_loss"),
        "empty": "",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return {name: str(tmp_path / f"{name}.csv") for name in texts}


def judge(*args: str, stdin: str = "") -> tuple[int, str, str]:
    done = subprocess.run([*COMMAND, *args], input=stdin, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("names", "code", "verdicts"),
    [
        (["good"], 0, ["promote"]),
        (["good", "cosine"], 1, ["promote", "invalid"]),
        (["good", "cosine", "held"], 2, ["promote", "invalid", "error"]),
        (["nan"], 3, ["unstable"]),
        (["nan", "held", "cosine", "good"], 3, ["unstable", "error", "invalid", "promote"]),
    ],
)
def test_the_exit_code_is_that_of_the_worst_log(
    logs: dict[str, str], names: list[str], code: int, verdicts: list[str]
) -> None:
    returned, out, err = judge("--format", "json", *(logs[name] for name in names))
    lines = [json.loads(line) for line in out.splitlines()]
    assert (returned, err) == (code, "")
    assert [line["verdict"] for line in lines] == verdicts
    assert [line["log"] for line in lines] == [logs[name] for name in names]


def test_decayed_learning_rate_can_be_ignored(tmp_path: Path) -> None:
    decayed = tmp_path / "decayed.csv"
    decayed.write_text(
        "step,loss,lr\n" + "".join(f"{n},{loss},{1e-3 if n < 100 else 1e-5}\n" for n, loss in enumerate(curve()))
    )
    masked, out, _ = judge(str(decayed))
    assert (masked, "invalid (masked)" in out) == (1, True)
    assert "for a verdict on the loss alone, add --ignore-lr" in out
    ignored, out, _ = judge("--ignore-lr", str(decayed))
    assert (ignored, "promote" in out, "no learning rate" in out) == (0, True, False)


def test_dead_run_in_a_file_of_several_is_the_worst(tmp_path: Path) -> None:
    rows = [f"{n},a,{loss}" for n, loss in enumerate(curve(200))] + [f"{n},b,0.0" for n in range(200)]
    (tmp_path / "runs.csv").write_text("step,run,loss\n" + "\n".join(rows))
    code, out, _ = judge("--format", "json", str(tmp_path / "runs.csv"))
    assert (code, json.loads(out)["verdict"], json.loads(out)["reason"]) == (1, "hold", "constant")


def strict(text: str) -> Any:
    """Parse JSON, refusing the NaN that Python would accept."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_a_json_line_is_strict_and_has_exactly_the_documented_keys(
    logs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["judge", "--format", "json", logs["nan"], logs["held"]])
    unstable, refused = map(strict, capsys.readouterr().out.splitlines())
    assert list(unstable) == list(refused) == ["log", "verdict", "reason", "step", "text", "points", "notes"]
    assert (unstable["verdict"], unstable["reason"], unstable["step"]) == ("unstable", "non-finite", 200)
    assert "no learning rate column: judged by the loss alone" in unstable["notes"]
    assert "no learning rate" not in unstable["text"]
    assert (refused["verdict"], refused["reason"], refused["step"], refused["points"]) == (
        "error",
        "no-loss-column",
        None,
        0,
    )
    assert "'val_loss'" in refused["text"]


def test_the_text_form_has_one_line_and_indented_notes(
    logs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["judge", logs["nan"]])
    first, *notes = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{logs['nan']}: unstable (non-finite): ")
    assert any("no learning rate column: judged by the loss alone" in note for note in notes)
    assert all(note.startswith("    ") for note in notes)


def test_standard_input_is_judged() -> None:
    text = "".join(f"iter {n}: loss {loss}, time 3.1ms\n" for n, loss in enumerate(curve()))
    code, out, _ = judge("-", "--format", "json", stdin=text)
    assert (code, strict(out)["log"], strict(out)["points"]) == (0, "-", 400)


def test_an_expected_jump_is_not_a_rise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two_stages.csv"
    path.write_text(csv([*curve(200), *(2 + loss for loss in curve(200))]))
    assert main(["judge", str(path), "--expected-jump", "200"]) == 0
    assert "1 expected jump" in capsys.readouterr().out
    assert main(["judge", str(path)]) == 3


def test_a_flat_log_of_training_from_scratch_is_inconclusive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "flat.csv"
    path.write_text(csv([loss - math.exp(-n / 40) * 3 for n, loss in enumerate(curve())]))
    assert main(["judge", str(path)]) == 0
    assert "promote (no-progress)" in capsys.readouterr().out
    assert main(["judge", str(path), "--from-scratch"]) == 1
    assert "inconclusive (no-progress)" in capsys.readouterr().out


def test_a_closed_pipe_ends_quietly_with_exit_code_2(logs: dict[str, str]) -> None:
    with subprocess.Popen([*COMMAND, *[logs["good"]] * 50], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 2


@pytest.mark.parametrize(
    ("redirect", "says"),
    [("> /dev/full", "judge: stopped: No space left on device\n"), (">&-", "judge: the standard output is closed")],
)
def test_an_output_that_cannot_be_written_is_no_verdict(logs: dict[str, str], redirect: str, says: str) -> None:
    """Status 1 means "not promoted", and Python ends a crash with it."""
    command = f'"$0" -m pytest_smoke judge "$1" {redirect}'
    done = subprocess.run(["sh", "-c", command, sys.executable, logs["good"]], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "error (unreadable): not enough memory to read the log"),
        (OSError(5, "Input/output error"), "error (unreadable): cannot be read: Input/output error"),
        (TypeError("x"), "error (internal-error): the reader failed with TypeError: x; please report it"),
    ],
)
def test_whatever_happens_to_one_log_the_others_are_judged(
    logs: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    says: str,
) -> None:
    read_all = judge_command.logs.read_all

    def failing(path: str, names: ColumnNames) -> Any:
        if path == logs["nan"]:
            raise error
        return read_all(path, names)

    monkeypatch.setattr(judge_command.logs, "read_all", failing)
    assert main(["judge", logs["nan"], logs["good"]]) == 2
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == f"{logs['nan']}: {says}"
    assert second.startswith(f"{logs['good']}: promote")


def test_a_crash_of_a_command_has_the_status_of_an_error(
    logs: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(judge_command, "_show", crash)
    assert main(["judge", logs["good"]]) == 2
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err
    assert err.endswith("judge: stopped by an error of its own: please report it with the lines above\n")


def test_a_pipe_or_a_device_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.log")
    assert main(["judge", str(tmp_path / "pipe.log"), "/dev/zero"]) == 2
    pipe, device = capsys.readouterr().out.splitlines()
    assert "error (unreadable): this is a pipe, not a file: `judge -` judges what it yields on standard input" in pipe
    assert "error (unreadable): this is a device, not a file" in device
    assert main(["judge", "--follow", "--planned", "9", str(tmp_path / "pipe.log")]) == 2
    assert main(["judge", str(tmp_path)]) == 2  # a folder with nothing else
    assert "no log in this folder" in capsys.readouterr().out


def test_a_folder_of_many_runs_ends_with_a_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in range(60):
        (tmp_path / f"{run:03d}").mkdir()
        (tmp_path / f"{run:03d}" / "slurm.out").write_text(csv([*curve(60), math.nan] if run % 6 == 0 else curve(60)))
    (tmp_path / "notes.txt").write_text("step 1: buy milk\n")
    (tmp_path / "data.jsonl").write_text('{"text": "abc", "label": 1}\n')
    assert main(["judge", str(tmp_path)]) == 3
    *_, last = capsys.readouterr().out.splitlines()
    assert last == f"{tmp_path}: 60 logs: 50 promote, 10 unstable"


def test_a_long_log_takes_a_few_bytes_per_number(tmp_path: Path) -> None:
    """A record per line as Python objects would take some 1,000 bytes."""
    steps = 30_000
    text = "".join(f"iter {n}: loss {loss:.4f}, lr 0.1, norm 1.5, time 1ms\n" for n, loss in enumerate(curve(steps)))
    (tmp_path / "long.log").write_text(text)
    tracemalloc.start()
    try:
        log = judge_command.logs.read(str(tmp_path / "long.log"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(log.points) == steps
    assert peak < 250 * steps


def test_an_interrupt_while_following_has_no_traceback(
    logs: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(judge_command, "_follow", interrupted)
    assert main(["judge", "--follow", logs["good"], "--planned", "400"]) == 2
    assert capsys.readouterr().err == "judge: interrupted before there was a verdict\n"


def test_all_logs_of_a_folder_are_judged(
    logs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "lightning_logs" / "version_0"
    run.mkdir(parents=True)
    (run / "metrics.csv").write_text(csv(curve()))
    assert main(["judge", str(tmp_path / "lightning_logs")]) == 0
    assert capsys.readouterr().out.startswith(str(run / "metrics.csv"))
    (run / "metrics.csv").unlink()
    assert main(["judge", "--format", "json", str(tmp_path / "lightning_logs"), logs["good"]]) == 2
    assert [strict(line)["reason"] for line in capsys.readouterr().out.splitlines()] == ["no-log", ""]


def test_in_a_folder_any_csv_with_a_training_loss_is_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lm.smoke.yaml__constant.csv").write_text(csv(curve()))
    (tmp_path / "people.csv").write_text("name,age\na,3\n")
    (tmp_path / "scores.csv").write_text("step,val_loss\n0,3\n")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    assert main(["judge", str(tmp_path), "--format", "json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert strict(line)["log"].endswith("lm.smoke.yaml__constant.csv")


def test_options_select_columns(logs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", "--loss", "val_loss", logs["held"]]) == 0
    assert main(["judge", "--lr", "rate", logs["good"]]) == 2
    assert "--lr 'rate': no such column; columns: 'step' and 'loss'" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args", [["--planned", "0"], ["--planned", "x"], ["--idle", "0"], ["--poll", "nan"], ["--format", "xml"]]
)
def test_an_invalid_option_value_is_a_usage_error_that_shows_it(
    args: list[str], logs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["judge", logs["good"], *args])
    assert stopped.value.code == 2
    assert repr(args[1]) in capsys.readouterr().err


class RecordingJudge(CurveJudge):
    """The real judge, which also records its points."""

    created: ClassVar[list[RecordingJudge]] = []

    def __init__(self, *, planned_points: int, **more: Any) -> None:
        super().__init__(planned_points=planned_points, **more)
        self.planned, self.fed, self.ended_early = planned_points, list[tuple[int, float]](), False
        RecordingJudge.created.append(self)

    def add(self, step: int, loss: float, **more: Any) -> CurveVerdict | None:
        self.fed.append((step, loss))
        return super().add(step, loss, **more)

    def finish(self, *, ended_early: bool = False) -> CurveVerdict:
        self.ended_early = ended_early
        return super().finish(ended_early=ended_early)


@pytest.fixture
def judges(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RecordingJudge]]:
    """Return the list of judges that a test creates."""
    monkeypatch.setattr(judging, "CurveJudge", RecordingJudge)
    RecordingJudge.created.clear()
    yield RecordingJudge.created
    RecordingJudge.created.clear()


@pytest.mark.parametrize(
    ("planned", "ended_early", "code"),
    [([], False, 0), (["--planned", "400"], False, 0), (["--planned", "500"], True, 1)],
)
def test_a_log_with_fewer_points_than_planned_ended_early(
    judges: list[RecordingJudge], logs: dict[str, str], planned: list[str], ended_early: bool, code: int
) -> None:
    assert main(["judge", logs["good"], *planned]) == code
    assert judges[0].planned == int((planned or ["", "400"])[1])
    assert judges[0].ended_early == ended_early
    assert len(judges[0].fed) == 400


def log_of(*rows: tuple[int, float]) -> Any:
    return read_text("x.csv", "step,loss\n" + "".join(f"{n},{loss}\n" for n, loss in rows), ColumnNames())


def test_following_judges_each_point_once(judges: list[RecordingJudge]) -> None:
    follower = GrowingLogJudge(RunDescription(planned_points=3))
    assert follower.update(log_of((0, 3))) is None
    assert follower.update(log_of((0, 3), (1, 2))) is None
    verdict = follower.update(log_of((0, 3), (1, 2), (2, 1), (3, 100)))
    assert verdict is not None
    assert verdict.points == 3
    assert [judge.fed for judge in judges] == [[(0, 3), (1, 2), (2, 1)]]


def test_following_a_resumed_run_restarts_the_judge(judges: list[RecordingJudge]) -> None:
    follower = GrowingLogJudge(RunDescription(planned_points=9))
    follower.update(log_of((0, 3), (1, 2), (2, 1)))
    follower.update(log_of((0, 3), (1, 2), (2, 1), (1, 7)))
    assert [judge.fed for judge in judges] == [[(0, 3), (1, 2), (2, 1)], [(0, 3), (1, 7)]]


def following(file: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "--follow", str(file), "--poll", "0.02", "--format", "json", *args],
        stdout=subprocess.PIPE,
        text=True,
    )


def write_slowly(file: Path, text: str, done: Callable[[], bool], *, piece: int = 211) -> int:
    """Append `text` in pieces that end anywhere in a line, until `done`. Return the number of written characters."""
    at = 0
    with file.open("a") as out:
        while at < len(text) and not done():
            out.write(text[at : at + piece])
            out.flush()
            at += piece
            time.sleep(0.01)
    return at


def test_following_exits_as_soon_as_the_run_is_unstable(tmp_path: Path) -> None:
    text = csv(curve(100) + [math.nan] * 20_000)
    with following(tmp_path / "log.csv", "--planned", "20100") as process:
        written = write_slowly(tmp_path / "log.csv", text, lambda: process.poll() is not None)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, strict(out)["verdict"], strict(out)["step"]) == (3, "unstable", 100)
    assert written < len(text)


def test_following_exits_at_the_planned_points(tmp_path: Path) -> None:
    with following(tmp_path / "log.csv", "--planned", "400") as process:
        write_slowly(tmp_path / "log.csv", csv(curve()), lambda: False)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, strict(out)["verdict"], strict(out)["points"]) == (0, "promote", 400)


def test_following_an_idle_log_ends_early(judges: list[RecordingJudge], logs: dict[str, str]) -> None:
    assert main(["judge", "--follow", logs["good"], "--planned", "500", "--poll", "0.01", "--idle", "0.1"]) == 1
    assert [(judge.ended_early, len(judge.fed)) for judge in judges] == [(True, 400)]


def test_following_reads_an_incomplete_last_line_once_the_log_is_idle(
    judges: list[RecordingJudge], tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text("step,loss\n0,3\n1,2\n2,1")
    main(["judge", "--follow", str(tmp_path / "log.csv"), "--planned", "9", "--poll", "0.01", "--idle", "0.1"])
    assert judges[0].fed == [(0, 3), (1, 2), (2, 1)]


def test_following_does_not_read_half_a_number(judges: list[RecordingJudge], tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss\n0,3\n1,2e")
    assert (
        main(["judge", "--follow", str(tmp_path / "log.csv"), "--planned", "9", "--poll", "0.01", "--idle", "0.1"]) == 1
    )
    assert [judge.fed for judge in judges] == [[(0, 3)]]


@pytest.mark.parametrize(
    ("name", "reason", "seconds"),
    [("absent", "unreadable", 0.1), ("empty", "empty", 0.1), ("text", "not-a-number", 60)],
)
def test_following_waits_for_what_may_come_and_reports_the_rest_at_once(
    logs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, reason: str, seconds: float
) -> None:
    (tmp_path / "text.csv").write_text("step,loss\n1,2\n2,x\n")
    args = ["--planned", "9", "--poll", "0.01", "--idle", str(seconds), "--format", "json"]
    started = time.monotonic()
    assert main(["judge", "--follow", str(tmp_path / f"{name}.csv"), *args]) == 2
    assert time.monotonic() - started < 5
    assert strict(capsys.readouterr().out)["reason"] == reason


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["x.csv"], "--follow needs --planned N"),
        (["x.csv", "y.csv", "--planned", "9"], "one file, not 2"),
        (["-", "--planned", "9"], "a text file, not '-'"),
        ([".", "--planned", "9"], "a text file, not '.'"),
    ],
)
def test_following_needs_one_text_file_and_the_planned_points(
    args: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judge", "--follow", *args]) == 2
    assert says in capsys.readouterr().err
