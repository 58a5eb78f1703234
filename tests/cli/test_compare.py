"""Run `compare` on logs and check its output and exit codes."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from pytest_smoke.__main__ import main


def write_log(path: Path, *, steps: int, seed: int, level: float) -> Path:
    """Write a CSV as trainers do: the loss at each step, a metric at every tenth, and the elapsed time."""
    noise = random.Random(seed)
    lines = ["step,train_loss,grad_norm,val_f1,elapsed"]
    for step in range(steps):
        loss = level + 3 * math.exp(-step / 40) + noise.gauss(0, 0.02)
        metric = f"{min(step, 200) / 400:.4f}" if step % 10 == 0 else ""
        lines.append(f"{step},{loss},{1 + noise.random()},{metric},{step * 0.5}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def logs(tmp_path: Path) -> tuple[str, str]:
    old = write_log(tmp_path / "old.csv", steps=160, seed=1, level=1.0)
    new = write_log(tmp_path / "new.csv", steps=400, seed=2, level=0.8)
    return str(old), str(new)


def test_two_logs_are_compared_at_equal_steps(logs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *logs, "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    rows = {row["name"]: row for row in found["rows"]}
    assert next(iter(rows)) == "verdict"
    assert (rows["steps"]["old"], rows["steps"]["new"], rows["steps"]["change"]) == (160, 400, "+150 %")
    assert "samples seen" not in rows
    assert (rows["val_f1, peak"]["new"], rows["val_f1, peak"]["new_step"]) == (0.5, 200)
    assert (rows["val_f1 at step 160"]["old"], rows["val_f1 at step 160"]["new"]) == (0.375, 0.4)
    assert rows["loss, last tenth"]["change"].endswith("better")
    assert (rows["seconds"]["old"], rows["seconds"]["new"]) == (79.5, 199.5)
    assert not [name for name in rows if name.startswith("elapsed")]
    assert (
        "the runs are compared at equal steps, up to step 160, because their effective batches are unknown"
        in found["alignment"]
    )


def test_given_effective_batches_align_two_logs_by_samples(
    logs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *logs, "--old-batch", "64", "--new-batch", "128"]) == 0
    out = capsys.readouterr().out
    assert "effective batches differ (64 and 128)" in out
    assert "10,240 samples are step 160 of OLD and step 80 of NEW" in out
    assert "val_f1 at 10,240 samples" in out


def test_the_same_curve_on_another_scale_is_no_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write_log(tmp_path / "old.csv", steps=60, seed=1, level=1.0)
    rows = [line.split(",") for line in old.read_text().splitlines()]
    scaled = [[step, f"{4 * float(loss):.4f}", f"{4 * float(norm):.3g}", *more] for step, loss, norm, *more in rows[1:]]
    (tmp_path / "new.csv").write_text("\n".join(map(",".join, [rows[0], *scaled])) + "\n")
    assert main(["compare", str(old), str(tmp_path / "new.csv"), "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    changes = {row["name"]: row["change"] for row in found["rows"] if row["name"].startswith(("loss", "gradient norm"))}
    assert len(changes) >= 4
    assert all(change.endswith("another scale") for change in changes.values()), changes
    assert "the loss of NEW is 4x that of OLD and the gradient norm of NEW is 4x that of OLD" in found["notes"][0]
    assert "not a regression" in found["notes"][0]


def test_a_log_of_several_runs_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "seeds.csv"
    path.write_text("seed,step,loss\n" + "".join(f"{seed},{step},{seed}\n" for seed in (1, 2) for step in range(9)))
    assert main(["compare", str(path), str(path)]) == 2
    assert "the log holds 2 runs (seed 1 and seed 2): split it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("write", "argument", "fragments"),
    [
        (None, "absent.csv", ["absent.csv: file not found"]),
        ("", "empty.csv", ["empty.csv", "the log is empty"]),
        ("{", "verdicts.json", ["verdicts.json:1:2: not valid JSON"]),
        ("[1]", "verdicts.json", ["is not a report of smoke runs"]),
        ('{"schema": 9, "outcomes": []}', "verdicts.json", ["has schema 9, but this version reads schema 1"]),
        ('{"schema": 1, "outcomes": []}', "verdicts.json", ["contains no smoke runs"]),
        ('{"schema": 1, "outcomes": [{"id": "a"}]}', "verdicts.json", ["is not a report of smoke runs", "facts"]),
        ('{"schema": 1, "outcomes": []}', "verdicts.json::a", ["has no smoke run 'a'; it has: none"]),
    ],
)
def test_a_failed_comparison_is_one_error_line_and_exit_code_2(
    logs: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    write: str | None,
    argument: str,
    fragments: list[str],
) -> None:
    path = tmp_path / argument
    if write is not None:
        Path(str(path).partition("::")[0]).write_text(write)
    assert main(["compare", logs[0], str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("compare: ")
    assert err.count("\n") == 1
    assert all(fragment in err for fragment in fragments), err


@pytest.mark.parametrize(
    ("column", "values", "options", "words"),
    [
        ("samples per step", [32] * 8, [], "8 steps and an effective batch of 32"),
        ("global_batch_size", [32] * 8, [], "8 steps and an effective batch of 32"),
        ("samples_per_step", [32] * 8, ["--new-batch", "64"], "effective batches differ (32 and 64)"),
        ("samples_per_step", [32, 64] * 4, [], "their effective batches are unknown"),
        ("samples_per_step", [32.5] * 8, [], "their effective batches are unknown"),
        ("samples_per_step", [0] * 8, [], "their effective batches are unknown"),
    ],
)
def test_a_constant_column_of_samples_is_the_effective_batch_unless_an_option_says_another(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    column: str,
    values: list[float],
    options: list[str],
    words: str,
) -> None:
    lines = [f"step,loss,{column}", *(f"{step},{2 - step / 10},{value}" for step, value in enumerate(values))]
    log = tmp_path / "run.csv"
    log.write_text("\n".join(lines) + "\n")
    main(["compare", str(log), str(log), *options])
    assert words in " ".join(capsys.readouterr().out.split())
