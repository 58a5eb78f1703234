"""Several runs or ranks in one log: split, reduced to the last or the first one, or refused; never mixed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_smoke.errors import LogError
from pytest_smoke.logs.judging import RunDescription, judge_log, judge_logs
from pytest_smoke.logs.log import ColumnNames, Log
from pytest_smoke.logs.read import _table, read_text
from pytest_smoke.logs.runs import logs_of
from pytest_smoke.logs.source import of_text

STEPS = range(6)


def read_all(text: str, path: str = "x.log") -> list[Log]:
    return logs_of(path, _table(path, of_text(text)), ColumnNames())


def interleaved(line: Callable[[int, int, float], str]) -> str:
    """Return lines of two ranks; those of the second are 5 higher."""
    return "".join(line(rank, step, 3 - step / 10 + 5 * rank) for step in STEPS for rank in (0, 1))


def losses(log: Log) -> list[float]:
    return [round(point.loss, 6) for point in log.points]


FIRST = [3.0, 2.9, 2.8, 2.7, 2.6, 2.5]
SECOND = [8.0, 7.9, 7.8, 7.7, 7.6, 7.5]

RANKS = {
    "torchrun": interleaved(lambda rank, step, loss: f"[rank{rank}]: step {step}: loss {loss}\n"),
    "elastic": interleaved(lambda rank, step, loss: f"[default{rank}]:step {step}: loss {loss}\n"),
    "srun": interleaved(lambda rank, step, loss: f"{rank}: step {step}: loss {loss}\n"),
    "named": interleaved(lambda rank, step, loss: f"INFO rank={rank} step={step} loss={loss}\n"),
    "deepspeed": interleaved(lambda rank, step, loss: f"[INFO] [Rank {rank}] step={step}, loss={loss}\n"),
    "gpu": interleaved(lambda rank, step, loss: f"GPU {rank} | step {step} | loss {loss}\n"),
    "ray": interleaved(lambda rank, step, loss: f"(RayTrainWorker pid=12{rank}) step {step} loss {loss}\n"),
    "mpi": interleaved(lambda rank, step, loss: f"[1,{rank}]<stdout>: step {step} loss {loss}\n"),
    "glued": interleaved(lambda rank, step, loss: f"[GPU{rank}] Epoch 1 | Step {step} | Loss {loss}\n"),
    "node": interleaved(lambda rank, step, loss: f"node{rank}: step {step} loss {loss}\n"),
    "brackets": interleaved(lambda rank, step, loss: f"[{rank}] step {step} loss {loss}\n"),
    "json": interleaved(lambda rank, step, loss: f'{{"rank": {rank}, "step": {step}, "loss": {loss}}}\n'),
}


@pytest.mark.parametrize("name", RANKS)
def test_of_several_ranks_the_first_one_is_judged(name: str) -> None:
    (log,) = read_all(RANKS[name])
    assert losses(log) == FIRST
    assert any("the log has lines of 2 ranks" in note for note in log.notes)


def test_nan_in_another_rank_decides() -> None:
    text = "".join(
        f"[rank{rank}]: step {s}: loss {'nan' if rank and s > 3 else 2.0}\n" for s in STEPS for rank in (0, 1)
    )
    (log,) = read_all(text)
    verdict = judge_log(log, RunDescription())
    assert (verdict.verdict, verdict.reason, verdict.step) == ("unstable", "non-finite", 4)


RUNS = {
    "seeds of a csv": "seed,step,loss\n"
    + "".join(f"{seed},{step},{3 - step / 10 + 5 * seed}\n" for seed in (0, 1) for step in STEPS),
    "names of a csv": "run,step,loss\n" + interleaved(lambda run, step, loss: f"r{run},{step},{loss}\n"),
    "wandb": "Step,a - loss,a - loss__MIN,a - loss__MAX,b - loss,b - loss__MIN,b - loss__MAX\n"
    + "".join(f"{s},{3 - s / 10},1,1,{8 - s / 10},1,1\n" for s in STEPS),
    "long table": "run,metric,step,value\n" + interleaved(lambda run, step, loss: f"r{run},loss,{step},{loss}\n"),
    "folds": "".join(f"Fold {f} Epoch {s} train_loss {3 - s / 10 + 5 * f}\n" for f in (0, 1) for s in STEPS),
}


@pytest.mark.parametrize("name", RUNS)
def test_labelled_runs_are_read_one_by_one(name: str) -> None:
    path = "x.log" if name == "folds" else "x.csv"
    first, second = read_all(RUNS[name], path)
    assert (losses(first), losses(second)) == (FIRST, SECOND)
    assert first.run != second.run
    with pytest.raises(LogError, match="the log holds 2 runs") as refused:
        read_text(path, RUNS[name], ColumnNames())
    assert refused.value.reason == "several-runs"


def test_the_verdict_on_several_runs_is_the_worst_and_names_all() -> None:
    text = "seed,step,loss\n" + "".join(
        f"{n},{s},{'nan' if n == 2 and s == 3 else 2.0}\n" for n in (1, 2, 3) for s in STEPS
    )
    log, verdict = judge_logs(read_all(text, "x.csv"), RunDescription())
    assert (log.run, verdict.verdict, verdict.step) == ("seed 2", "unstable", 3)
    assert verdict.text.startswith("seed 2: ")
    assert "seed 1 inconclusive (too-short), seed 2 unstable (non-finite) and seed 3 inconclusive" in verdict.notes[-1]


def twice(run: str) -> str:
    """Return the log of a run after that of another one, whose losses are higher by 0.001."""
    return run.replace("Z", "01") + run.replace("Z", "")


APPENDED = {
    "steps": twice("".join(f"step {s}: loss {3 - s / 10:.1f}Z\n" for s in STEPS)),
    "csv": twice("step,loss\n" + "".join(f"{s},{3 - s / 10:.1f}Z\n" for s in STEPS)),
    "epochs of a trainer": twice(
        "".join(f"{{'loss': {3 - s / 10:.1f}Z, 'epoch': {s / 10:.2f}}}\n" for s in STEPS)
        + "{'train_runtime': 10.2, 'train_samples_per_second': 3.2, 'train_loss': 1.3, 'epoch': 0.6}\n"
    ),
    "epochs and steps": twice(
        "".join(f"Epoch [{s // 3}/2], Step [{s % 3 + 1}/3], Loss: {3 - s / 10:.1f}Z\n" for s in STEPS)
    ),
    "epochs under a header": twice("New run\n" + "".join(f"Epoch {s}\ntrain_loss {3 - s / 10:.1f}Z\n" for s in STEPS)),
}


@pytest.mark.parametrize("name", APPENDED)
def test_of_runs_in_a_row_the_last_one_is_judged(name: str) -> None:
    (log,) = read_all(APPENDED[name], "x.csv" if name == "csv" else "x.log")
    assert losses(log) == FIRST
    assert any(
        "the log holds 2 runs, one after another: the last one is judged, from line" in note for note in log.notes
    )


def test_many_short_runs_in_a_row_are_no_mixture() -> None:
    (log,) = read_all("step,loss\n" + "".join(f"{s},{3 - s / 10}\n" for _ in range(9) for s in STEPS), "x.csv")
    assert losses(log) == FIRST
    assert any("holds 9 runs" in note for note in log.notes)


def test_a_run_of_another_form_is_not_continued() -> None:
    """A log of two algorithms: the steps of the second lie within those of the first."""
    text = "".join(f"step {s} updates {10 * s} loss {3 - s / 10} clip 0.2\n" for s in range(1, 20))
    text += "".join(f"step {s} updates {10 * s + 45} loss {0.3 - s / 100}\n" for s in range(6))
    (log,) = read_all(text)
    assert len(log.points) == 6
    assert any(
        "several runs with different columns: the last one is judged, from line 20 on" in note for note in log.notes
    )


def test_a_resumed_run_without_steps_goes_on_from_its_epoch() -> None:
    epochs = [0, 1, 2, 3, 4, 5, 3, 4, 5, 6]
    (log,) = read_all("".join(f"{{'loss': {3 - e / 10}, 'epoch': {e / 10}}}\n" for e in epochs))
    assert losses(log) == [*FIRST, 2.4]
    assert any("steps go back from epoch 0.5 to epoch 0.3" in note for note in log.notes)


MIXED = {
    "same steps": interleaved(lambda _, step, loss: f"step {step}: loss {loss}\n"),
    "same steps in a csv": "step,loss\n" + interleaved(lambda _, step, loss: f"{step},{loss}\n"),
    "steps apart": "".join(f"step {s + 1}: loss 1\nstep {s}: loss 2\n" for s in range(0, 40, 2)),
}


@pytest.mark.parametrize("name", MIXED)
def test_runs_or_ranks_that_cannot_be_told_apart_are_refused(name: str) -> None:
    with pytest.raises(LogError, match="share this log") as refused:
        read_all(MIXED[name], "x.csv" if "csv" in name else "x.log")
    assert refused.value.reason in ("steps-repeated", "steps-unordered")


def test_ranks_that_say_the_same_are_one_run() -> None:
    (log,) = read_all("".join(f"step: {s}  loss: {3 - s / 10}\n" for s in STEPS for _ in range(8)))
    assert losses(log) == FIRST


MICRO = {
    "another counter": "".join(f"iter {2 * s + m} step {s}: loss {3 - s - m / 2}\n" for s in range(3) for m in (0, 1)),
    "a micro counter": "".join(f"step {s} micro {m}/2: loss {3 - s - m / 2}\n" for s in range(3) for m in (0, 1)),
    "a count in brackets": "".join(f"step {s} [{m}/2] loss {3 - s - m / 2}\n" for s in range(3) for m in (0, 1)),
}


@pytest.mark.parametrize("name", MICRO)
def test_micro_batches_of_a_step_stay_points(name: str) -> None:
    (log,) = read_all(MICRO[name])
    assert losses(log) == [3.0, 2.5, 2.0, 1.5, 1.0, 0.5]


TABLES_OF_RUNS = {
    "wandb": "Name,State,User,Created,Runtime,_step,loss\n"
    + "".join(f"r{s},finished,me,2020-01-0{s + 1},30,100,{s}\n" for s in STEPS),
    "mlflow": "Start Time,Duration,Run ID,Name,User,Status,lr,loss\n"
    + "".join(f"2020-01-0{s + 1},3s,abc{s},run{s},me,FINISHED,0.1,{s}\n" for s in STEPS),
    "optuna": "number,value,datetime_start,duration,params_lr,state,train_loss\n"
    + "".join(f"{s},{s},2020-01-01 0{s}:00:00,0:10,0.1,COMPLETE,{s}\n" for s in STEPS),
    "ray": "| Trial name | status | lr | iter | loss |\n|---|---|---|---|---|\n"
    + "".join(f"| train_{s} | RUNNING | 0.{s} | 5 | {s} |\n" for s in STEPS),
}


@pytest.mark.parametrize("name", TABLES_OF_RUNS)
def test_a_table_of_runs_is_refused_as_such(name: str) -> None:
    with pytest.raises(LogError, match="this is a table of runs") as refused:
        read_all(TABLES_OF_RUNS[name], "x.log" if name == "ray" else "x.csv")
    assert refused.value.reason == "table-of-runs"


def test_a_log_with_timestamps_and_names_is_no_table_of_runs() -> None:
    rows = "".join(f"2020-01-01 00:0{s}:00,a,running,{s},{3 - s / 10}\n" for s in STEPS)
    (log,) = read_all("created,name,status,step,loss\n" + rows, "x.csv")
    assert losses(log) == FIRST


def test_records_printed_twice_in_two_forms_are_merged() -> None:
    text = "".join(
        f"INFO - callbacks - {{'loss': {3 - s / 10:.4f}, 'epoch': {s / 10:.2f}}}\n"
        f"{{'loss': {3 - s / 10}, 'grad_norm': {s}.5, 'epoch': {s / 10}}}\n"
        for s in STEPS
    )
    (log,) = read_all(text)
    assert losses(log) == FIRST
    assert [point.grad_norm for point in log.points] == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert any("6 lines repeat a neighbouring line in another format: merged" in note for note in log.notes)
