"""Run `watch` on real commands: which ones it stops, and that all others keep their output and exit status."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_smoke.__main__ import main

WATCH = (sys.executable, "-m", "pytest_smoke", "watch", "--poll", "0.05")
TRAINER = """
import math, os, random, signal, sys, time
steps, rises_at, options = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
if "ignores-term" in options:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "handles" in options:
    def leave(number, frame):
        print("got", number, flush=True)
        sys.exit(40 + number)
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
out = open(options[-1], "w") if options and options[-1].endswith(".log") else sys.stdout
noise = random.Random(0)
for step in range(steps):
    loss = 1 + 2 * math.exp(-step / 50) + noise.gauss(0, 0.03) + (step > rises_at) * (step - rises_at)
    lr = 0.5 + 0.5 * math.cos(math.pi * step / steps)
    print(f"step {step}: loss {loss:.4f} lr {lr:.3e}", file=out, flush=True)
    if step == 100:
        open("checkpoint-100.pt", "w").write("weights")
    time.sleep(0.004)
print("bye", file=sys.stderr)
"""
NEVER = "1000000"


@dataclass(frozen=True)
class Ended:
    """A `watch` that has ended."""

    status: int
    out: str
    err: list[str]
    folder: Path


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Run all commands at once: they sleep most of the time."""
    python = [sys.executable, "trainer.py"]
    commands = {
        "healthy": ["--", *python, "300", NEVER],
        "healthy with a log": ["--log", "out/run.log", "--", *python, "300", NEVER, "out/run.log"],
        "diverges": ["--", *python, "2000", "150"],
        "diverges in a log": ["--log", "run.log", "--", *python, "2000", "150", "run.log"],
        "ignores SIGTERM": ["--grace", "0.3", "--", "sh", "-c", f"{sys.executable} trainer.py 2000 150 ignores-term"],
        "ends early": ["--", *python, "20", NEVER],
        "has a log elsewhere": ["--log", "elsewhere.log", "--", *python, "60", "10", "run.log"],
        "has no disk": ["--", *python, "300", NEVER],
    }
    started = {}
    for name, arguments in commands.items():
        folder = tmp_path_factory.mktemp("run")
        (folder / "trainer.py").write_text(TRAINER)
        (folder / "out").mkdir()
        if name == "has no disk":
            (folder / "stdout").symlink_to("/dev/full")
        with open(folder / "stdout", "wb") as out, open(folder / "stderr", "wb") as err:
            process = subprocess.Popen([*WATCH, *arguments], cwd=folder, stdout=out, stderr=err)
        started[name] = (process, folder)
    found = {}
    for name, (process, folder) in started.items():
        status = process.wait(60)
        out_text = "" if name == "has no disk" else (folder / "stdout").read_text()
        found[name] = Ended(status, out_text, (folder / "stderr").read_text().splitlines(), folder)
    return found


def test_a_healthy_cosine_run_is_left_alone(ended: dict[str, Ended]) -> None:
    run = ended["healthy"]
    alone = subprocess.run(
        [sys.executable, "trainer.py", "300", NEVER], cwd=run.folder, capture_output=True, text=True, check=True
    )
    assert (run.status, run.out) == (0, alone.stdout)
    assert run.err == ["bye", "watch: not unstable: 300 losses of 'loss' judged"]


def test_a_healthy_run_with_a_log_is_left_alone(ended: dict[str, Ended]) -> None:
    run = ended["healthy with a log"]
    assert (run.status, run.err) == (0, ["bye", "watch: not unstable: 300 losses of 'loss' judged"])


@pytest.mark.parametrize("name", ["diverges", "diverges in a log"])
def test_a_diverging_run_is_stopped(ended: dict[str, Ended], name: str) -> None:
    run = ended[name]
    verdict, sent, good, last = run.err
    assert run.status == 3
    assert verdict.startswith("watch: unstable (rise) at step 1")
    assert sent.startswith("watch: sent SIGTERM to process group ")
    assert good.startswith("watch: the last good step is 1")
    assert good.endswith("; newest checkpoint at or before it: checkpoint-100.pt")
    assert last.startswith("watch: the run ended ")


def test_a_command_that_ignores_sigterm_is_killed_with_its_group(ended: dict[str, Ended]) -> None:
    run = ended["ignores SIGTERM"]
    assert (run.status, run.err[-1]) == (3, "watch: the run did not end within 0.3 s of SIGTERM: killed")
    assert "bye" not in run.err


def test_a_command_that_ends_early_or_logs_elsewhere_keeps_its_exit_status(ended: dict[str, Ended]) -> None:
    assert (ended["ends early"].status, ended["has a log elsewhere"].status) == (0, 0)
    assert ended["ends early"].err[-1] == "watch: not unstable: 20 losses of 'loss' judged"
    assert ended["has a log elsewhere"].err[-1] == "watch: the run was not watched: no log at elsewhere.log"


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["sh", "-c", "echo ready; exit 7"], 7, "the run was not watched: the output: no line of the log has a name"),
        (["sh", "-c", "kill -9 $$"], 137, "the run was not watched: the output is empty"),
        (["sh", "-c", "exit 3"], 3, "the run was not watched: the output is empty"),
        (["no-such-trainer"], 127, "no-such-trainer: No such file or directory"),
        (["./trainer.py"], 126, "./trainer.py: Permission denied"),
    ],
)
def test_every_other_command_keeps_its_exit_status(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: list[str],
    status: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trainer.py").write_text(TRAINER)
    assert main(["watch", "--", *command]) == status
    assert capfd.readouterr().err.partition(says)[0] == "watch: "


def test_output_passes_through_unchanged(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    script = "import os; os.write(1, bytes(range(256)) * 999); os.write(2, b'\\xff\\r')"
    assert main(["watch", "--", sys.executable, "-c", script]) == 0
    out, err = capfdbinary.readouterr()
    assert out == bytes(range(256)) * 999
    assert err.startswith(b"\xff\r")


def test_a_progress_bar_gives_the_steps_of_the_lines_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As with Hugging Face's Trainer: the bar is on the standard error, the losses are on the standard output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trainer.py").write_text(
        "import sys, time\n"
        "for step in range(60):\n"
        "    print(f'\\r{step}/60 [00:01<00:20, 80it/s]', end='', file=sys.stderr, flush=True)\n"
        "    print({'loss': 2 - step / 200, 'epoch': step / 50}, flush=True)\n"
        "    time.sleep(0.03)\n"
    )
    assert main(["watch", "--", sys.executable, "trainer.py"]) == 0
    last = capfd.readouterr().err.rpartition("watch: ")[2]
    assert last == "not unstable: 60 losses of 'loss' judged\n"


def test_a_full_disk_does_not_stop_the_run(ended: dict[str, Ended]) -> None:
    run = ended["has no disk"]
    lost = "watch: the command's output is lost from here on (No space left on device); the run continues"
    assert (run.status, run.err) == (0, [lost, "bye", "watch: not unstable: 300 losses of 'loss' judged"])


def test_a_run_whose_output_cannot_be_copied_is_not_watched(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", "/nonexistent")
        assert main(["watch", "--", "sh", "-c", "echo ready; exit 7"]) == 7
    out, err = capfd.readouterr()
    assert out == "ready\n"
    assert err.startswith("watch: no temporary file for the output (No such file or directory)")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on(tmp_path: Path, number: int) -> None:
    (tmp_path / "trainer.py").write_text(TRAINER)
    command = [*WATCH, "--", sys.executable, "trainer.py", "9000", NEVER, "handles"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"step 0")
        process.send_signal(number)
        out = process.stdout.read()
    assert process.returncode == 40 + number
    assert out.endswith(b"got %d\n" % number)


def test_a_note_in_a_terminal_does_not_continue_a_progress_bar(tmp_path: Path) -> None:
    terminal, end = pty.openpty()
    code = "print('50 %|###', end='')"
    subprocess.run([*WATCH, "--", sys.executable, "-c", code], stdout=end, stderr=end, cwd=tmp_path, check=True)
    os.close(end)
    assert os.read(terminal, 4096).startswith(b"50 %|###\r\nwatch: ")
    os.close(terminal)


def test_a_judge_that_dies_does_not_stop_the_run(tmp_path: Path) -> None:
    (tmp_path / "trainer.py").write_text(TRAINER)
    command = [*WATCH, "--", sys.executable, "trainer.py", "100", "10"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        children = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        (judge,) = (pid for pid in children if b"pytest_smoke" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(judge, signal.SIGKILL)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out.count(b"\n")) == (0, 99)
    assert b"the judging process was killed by signal 9: the run continues, but nothing watches it" in err


@pytest.mark.parametrize("rises_at", ["100", NEVER])
def test_a_running_process_is_watched_by_its_id(tmp_path: Path, rises_at: str) -> None:
    (tmp_path / "trainer.py").write_text(TRAINER)
    steps = "250" if rises_at == NEVER else "5000"
    with subprocess.Popen(
        [sys.executable, "trainer.py", steps, rises_at, "run.log"], cwd=tmp_path, stderr=subprocess.DEVNULL
    ) as trainer:
        watch = subprocess.run(
            [*WATCH, "--pid", str(trainer.pid), "--log", "run.log"], cwd=tmp_path, capture_output=True, text=True
        )
    expected = (0, 0) if rises_at == NEVER else (3, -signal.SIGTERM)
    assert (watch.returncode, trainer.returncode) == expected, watch.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give a command after --"),
        (["--pid", "1", "--", "true"], "give a command after --, or --pid N, not both"),
        (["--pid", "1"], "--pid needs --log"),
        (["--pid", "4194304", "--log", "x"], "there is no process 4194304"),
        (["--pid", str(os.getpid()), "--log", "x"], "is watch itself or the shell that started it"),
    ],
)
def test_wrong_arguments_start_nothing(arguments: list[str], says: str) -> None:
    done = subprocess.run([*WATCH, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr
