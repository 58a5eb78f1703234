"""`python -m pytest_smoke judge`: what it prints and how it exits."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pytest_smoke.__main__ import main
from pytest_smoke.cli import follow
from pytest_smoke.cli import judged_log as lines
from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.logs.log import Names
from pytest_smoke.logs.read import read_text

COMMAND = (sys.executable, "-m", "pytest_smoke", "judge")


def curve(count: int = 400) -> list[float]:
    noise = random.Random(0)
    return [1 + 3 * math.exp(-n / 40) + noise.gauss(0, 0.02) for n in range(count)]


def csv(losses: list[float], *, head: str = "step,loss") -> str:
    return head + "\n" + "".join(f"{n},{loss}\n" for n, loss in enumerate(losses))


@pytest.fixture
def logs(tmp_path: Path) -> dict[str, str]:
    """A log by what becomes of it."""
    texts = {
        "good": csv(curve()),
        "nan": csv(curve(200) + [math.nan] * 200),
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
        (["good", "nan"], 1, ["promote", "unstable"]),
        (["nan", "held", "good"], 2, ["unstable", "error", "promote"]),
    ],
)
def test_exit_codes(logs: dict[str, str], names: list[str], code: int, verdicts: list[str]) -> None:
    """0 if all promote, 1 if something does not, 2 if something could not be judged; a line a log, in order."""
    returned, out, err = judge("--format", "json", *(logs[name] for name in names))
    lines = [json.loads(line) for line in out.splitlines()]
    assert (returned, err) == (code, "")
    assert [line["verdict"] for line in lines] == verdicts
    assert [line["log"] for line in lines] == [logs[name] for name in names]


def strict(text: str) -> Any:
    """JSON without the NaN that Python would let through."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_a_json_line_has_exactly_the_promised_keys(logs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Judged or not, a line is strict JSON with the same keys in the same order."""
    main(["judge", "--format", "json", logs["nan"], logs["held"]])
    doomed, refused = map(strict, capsys.readouterr().out.splitlines())
    assert list(doomed) == list(refused) == ["log", "verdict", "reason", "step", "text", "points"]
    assert (doomed["verdict"], doomed["reason"], doomed["step"]) == ("unstable", "non-finite", 200)
    assert "judged on its loss alone" in doomed["text"]
    assert (refused["verdict"], refused["reason"], refused["step"], refused["points"]) == (
        "error",
        "no-loss-column",
        None,
        0,
    )
    assert "'val_loss'" in refused["text"]


def test_text_has_a_line_and_its_notes(logs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """The log, its verdict and reason, then a note a line, indented."""
    main(["judge", logs["nan"]])
    first, *notes = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{logs['nan']}: unstable (non-finite): ")
    assert any("judged on its loss alone" in note for note in notes)
    assert all(note.startswith("    ") for note in notes)


def test_the_standard_input_is_judged() -> None:
    """`-` reads what a trainer prints."""
    text = "".join(f"iter {n}: loss {loss}, time 3.1ms\n" for n, loss in enumerate(curve()))
    code, out, _ = judge("-", "--format", "json", stdin=text)
    assert (code, strict(out)["log"], strict(out)["points"]) == (0, "-", 400)


def test_a_declared_edge_is_no_rise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The loss jumps to other data at step 200; without `--edge` that is an instability."""
    path = tmp_path / "two_stages.csv"
    path.write_text(csv([*curve(200), *(2 + loss for loss in curve(200))]))
    assert main(["judge", str(path), "--edge", "200"]) == 0
    assert "1 declared edge" in capsys.readouterr().out
    assert main(["judge", str(path)]) == 1


def test_a_flat_log_from_scratch_is_no_promotion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sideways promotes a fine-tuning run with a warning; random weights that learn nothing show nothing."""
    path = tmp_path / "flat.csv"
    path.write_text(csv([loss - math.exp(-n / 40) * 3 for n, loss in enumerate(curve())]))
    assert main(["judge", str(path)]) == 0
    assert "promote (no-progress)" in capsys.readouterr().out
    assert main(["judge", str(path), "--from-scratch"]) == 1
    assert "inconclusive (no-progress)" in capsys.readouterr().out


def test_a_reader_that_leaves_early_is_no_traceback(logs: dict[str, str]) -> None:
    """`judge LOG... | head -1` ends quietly, and not with a promotion."""
    with subprocess.Popen([*COMMAND, *[logs["good"]] * 50], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 2


def test_an_interrupted_watch_is_no_traceback(
    logs: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C says that there is no verdict, and exits with 2."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow, "_watch", interrupted)
    assert main(["judge", "--follow", logs["good"], "--planned", "400"]) == 2
    assert capsys.readouterr().err == "judge: interrupted before there was a verdict\n"


def test_a_folder_is_searched(logs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each known log in it is judged; a folder without any could not be."""
    run = tmp_path / "lightning_logs" / "version_0"
    run.mkdir(parents=True)
    (run / "metrics.csv").write_text(csv(curve()))
    assert main(["judge", str(tmp_path / "lightning_logs")]) == 0
    assert capsys.readouterr().out.startswith(str(run / "metrics.csv"))
    (run / "metrics.csv").unlink()
    assert main(["judge", "--format", "json", str(tmp_path / "lightning_logs"), logs["good"]]) == 2
    assert [strict(line)["reason"] for line in capsys.readouterr().out.splitlines()] == ["no-log", ""]


def test_in_a_folder_any_csv_that_names_a_loss_is_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A smoke's own trace is called after its recipe; other tables, and validation losses, are left out."""
    (tmp_path / "lm.smoke.yaml__constant.csv").write_text(csv(curve()))
    (tmp_path / "people.csv").write_text("name,age\na,3\n")
    (tmp_path / "scores.csv").write_text("step,val_loss\n0,3\n")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    assert main(["judge", str(tmp_path), "--format", "json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert strict(line)["log"].endswith("lm.smoke.yaml__constant.csv")


def test_columns_are_named_by_options(logs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """--loss takes a column that is not taken by itself; a name that is not there is an error."""
    assert main(["judge", "--loss", "val_loss", logs["held"]]) == 0
    assert main(["judge", "--lr", "rate", logs["good"]]) == 2
    assert "--lr 'rate': no such column; columns: 'step', 'loss'" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args", [["--planned", "0"], ["--planned", "x"], ["--idle", "0"], ["--poll", "nan"], ["--format", "xml"]]
)
def test_bad_options_are_refused(args: list[str], logs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """An option that makes no sense is a usage error that shows it."""
    with pytest.raises(SystemExit) as stopped:
        main(["judge", logs["good"], *args])
    assert stopped.value.code == 2
    assert repr(args[1]) in capsys.readouterr().err


class Engine(CurveJudge):
    """The real engine, which also remembers what it was fed."""

    made: ClassVar[list[Engine]] = []

    def __init__(self, *, planned_points: int, **more: Any) -> None:
        super().__init__(planned_points=planned_points, **more)
        self.planned, self.fed, self.cut = planned_points, list[tuple[int, float]](), False
        Engine.made.append(self)

    def add(self, step: int, loss: float, **more: Any) -> CurveVerdict | None:
        self.fed.append((step, loss))
        return super().add(step, loss, **more)

    def finish(self, *, cut: bool = False) -> CurveVerdict:
        self.cut = cut
        return super().finish(cut=cut)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Engine]]:
    """The engines made in a test."""
    monkeypatch.setattr(lines, "CurveJudge", Engine)
    Engine.made.clear()
    yield Engine.made
    Engine.made.clear()


@pytest.mark.parametrize(
    ("planned", "cut", "code"), [([], False, 0), (["--planned", "400"], False, 0), (["--planned", "500"], True, 1)]
)
def test_a_log_shorter_than_planned_was_cut(
    engines: list[Engine], logs: dict[str, str], planned: list[str], cut: bool, code: int
) -> None:
    """A finished log plans as many points as it has, unless --planned says more."""
    assert main(["judge", logs["good"], *planned]) == code
    assert engines[0].planned == int((planned or ["", "400"])[1])
    assert engines[0].cut == cut
    assert len(engines[0].fed) == 400


def log_of(*rows: tuple[int, float]) -> Any:
    return read_text("x.csv", "step,loss\n" + "".join(f"{n},{loss}\n" for n, loss in rows), Names())


def test_following_feeds_each_point_once(engines: list[Engine]) -> None:
    """What was fed is not fed again, and nothing is fed beyond what was planned."""
    follower = follow.Follower(lines.Window(planned=3))
    assert follower.feed(log_of((0, 3))) is None
    assert follower.feed(log_of((0, 3), (1, 2))) is None
    verdict = follower.feed(log_of((0, 3), (1, 2), (2, 1), (3, 100)))
    assert verdict is not None
    assert verdict.points == 3
    assert [engine.fed for engine in engines] == [[(0, 3), (1, 2), (2, 1)]]


def test_following_a_resumed_run_starts_anew(engines: list[Engine]) -> None:
    """Where the past has changed, the engine is made again and fed what holds now."""
    follower = follow.Follower(lines.Window(planned=9))
    follower.feed(log_of((0, 3), (1, 2), (2, 1)))
    follower.feed(log_of((0, 3), (1, 2), (2, 1), (1, 7)))
    assert [engine.fed for engine in engines] == [[(0, 3), (1, 2), (2, 1)], [(0, 3), (1, 7)]]


def following(file: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "--follow", str(file), "--poll", "0.02", "--format", "json", *args],
        stdout=subprocess.PIPE,
        text=True,
    )


def fed_slowly(file: Path, text: str, done: Callable[[], bool], *, piece: int = 211) -> int:
    """Write `text` in pieces that cut lines anywhere, until it is written or `done`; the characters written."""
    at = 0
    with file.open("a") as out:
        while at < len(text) and not done():
            out.write(text[at : at + piece])
            out.flush()
            at += piece
            time.sleep(0.01)
    return at


def test_following_stops_a_doomed_run_while_it_runs(tmp_path: Path) -> None:
    """The command exits with 1 while the log is still being written."""
    text = csv(curve(100) + [math.nan] * 20_000)
    with following(tmp_path / "log.csv", "--planned", "20100") as process:
        written = fed_slowly(tmp_path / "log.csv", text, lambda: process.poll() is not None)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, strict(out)["verdict"], strict(out)["step"]) == (1, "unstable", 100)
    assert written < len(text)


def test_following_ends_at_the_planned_points(tmp_path: Path) -> None:
    """A whole log is judged at once, without waiting for more."""
    with following(tmp_path / "log.csv", "--planned", "400") as process:
        fed_slowly(tmp_path / "log.csv", csv(curve()), lambda: False)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, strict(out)["verdict"], strict(out)["points"]) == (0, "promote", 400)


def test_following_a_log_that_rests_is_cut(engines: list[Engine], logs: dict[str, str]) -> None:
    """After --idle seconds without growth the run is judged as cut short."""
    assert main(["judge", "--follow", logs["good"], "--planned", "500", "--poll", "0.01", "--idle", "0.1"]) == 1
    assert [(engine.cut, len(engine.fed)) for engine in engines] == [(True, 400)]


def test_following_reads_a_last_line_without_its_end(engines: list[Engine], tmp_path: Path) -> None:
    """A line without an end is held back while the log grows, and read when it rests."""
    (tmp_path / "log.csv").write_text("step,loss\n0,3\n1,2\n2,1")
    main(["judge", "--follow", str(tmp_path / "log.csv"), "--planned", "9", "--poll", "0.01", "--idle", "0.1"])
    assert engines[0].fed == [(0, 3), (1, 2), (2, 1)]


def test_following_waits_for_the_rest_of_a_line(engines: list[Engine], tmp_path: Path) -> None:
    """Half a number is no error while the log grows, and no point when it rests."""
    (tmp_path / "log.csv").write_text("step,loss\n0,3\n1,2e")
    assert (
        main(["judge", "--follow", str(tmp_path / "log.csv"), "--planned", "9", "--poll", "0.01", "--idle", "0.1"]) == 1
    )
    assert [engine.fed for engine in engines] == [[(0, 3)]]


@pytest.mark.parametrize(
    ("name", "reason", "seconds"),
    [("absent", "unreadable", 0.1), ("empty", "empty", 0.1), ("text", "not-a-number", 60)],
)
def test_following_what_cannot_be_judged(
    logs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, reason: str, seconds: float
) -> None:
    """What may still come is waited for, what is wrong for good is said at once; both exit with 2."""
    (tmp_path / "text.csv").write_text("step,loss\n1,2\n2,x\n")
    args = ["--planned", "9", "--poll", "0.01", "--idle", str(seconds), "--format", "json"]
    began = time.monotonic()
    assert main(["judge", "--follow", str(tmp_path / f"{name}.csv"), *args]) == 2
    assert time.monotonic() - began < 5
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
def test_following_says_what_it_needs(args: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--follow takes one text file and the length of the whole log."""
    assert main(["judge", "--follow", *args]) == 2
    assert says in capsys.readouterr().err
