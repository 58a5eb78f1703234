"""Restarts, duplicates, blanks, incomplete lines and gaps: every repair leaves a note."""

from __future__ import annotations

import json
import math

import pytest

from pytest_smoke.errors import LogError
from pytest_smoke.logs.log import ColumnNames, Log
from pytest_smoke.logs.read import read_text


def read(text: str, **names: str) -> Log:
    return read_text("log.csv" if text.startswith("step") else "log", text, ColumnNames(**names))


def noted(log: Log, *fragments: str) -> bool:
    return any(all(fragment in note for fragment in fragments) for note in log.notes)


def losses(log: Log) -> list[tuple[int, float]]:
    return [(point.step, point.loss) for point in log.points]


def test_a_clean_log_has_no_notes() -> None:
    assert read("step,loss,lr\n1,3,0.1\n2,2,0.1\n3,1,0.1\n").notes == ()


def test_a_resumed_run_keeps_the_newest_values() -> None:
    log = read("step,loss\n1,9\n2,8\n3,7\n4,6\n3,1.5\n4,1.0\n5,0.5\n")
    assert losses(log) == [(1, 9), (2, 8), (3, 1.5), (4, 1.0), (5, 0.5)]
    assert noted(log, "go back from 4 to 3", "skipped 2 older rows from step 3 on")


def test_a_log_of_mixed_ranks_is_refused() -> None:
    text = "step,loss\n" + "".join(
        f"{step},{rank}\n" for step in range(0, 60, 2) for rank, step in ((1, step + 1), (2, step))
    )
    with pytest.raises(LogError, match="several runs or ranks share this log") as refused:
        read(text)
    assert refused.value.reason == "steps-unordered"


def test_steps_that_restart_in_each_epoch_are_counted_across_epochs() -> None:
    log = read("\n".join(f"Epoch [{e}/3], Step [{s}/4], Loss: {10 * e + s}" for e in (1, 2, 3) for s in (1, 2, 3, 4)))
    assert [step for step, _ in losses(log)] == list(range(1, 13))
    assert [loss for _, loss in losses(log)] == [11, 12, 13, 14, 21, 22, 23, 24, 31, 32, 33, 34]
    assert noted(log, "starts again in each epoch ('Epoch')", "the steps of 3 epochs")


def test_a_duplicated_step_keeps_the_newest_loss() -> None:
    log = read("step,loss\n1,9\n2,8\n2,7\n3,6\n")
    assert losses(log) == [(1, 9), (2, 7), (3, 6)]
    assert noted(log, "skipped 1 row: a newer row has the same step (first: step 2)")


@pytest.mark.parametrize("cut", ["4,", "4", "4,2.0,"])
def test_an_incomplete_last_line_is_skipped(cut: str) -> None:
    log = read("step,loss,lr,x\n1,9,1,1\n2,8,1,1\n3,7,1,1\n" + cut)
    assert losses(log) == [(1, 9), (2, 8), (3, 7)]
    assert noted(log, "skipped the last row (line 5)")


@pytest.mark.parametrize("cut", ['{"step": 4, "lo', '{"step": 4, "loss": 2', "{"])
def test_an_incomplete_last_json_line_is_skipped(cut: str) -> None:
    log = read("".join(json.dumps({"step": n, "loss": n}) + "\n" for n in (1, 2, 3)) + cut)
    assert losses(log) == [(1, 1), (2, 2), (3, 3)]
    assert noted(log, "skipped the last line (line 4): it is incomplete")


def test_malformed_lines_are_skipped_and_counted() -> None:
    log = read('{"step": 1, "loss": 1}\nWARNING: x\n{"step": 2, "loss": 1}\noops\n{"step": 3, "loss": 1}\n')
    assert len(log.points) == 3
    assert noted(log, "skipped 2 lines without a JSON object (first: line 2)")
    assert noted(
        read("step,loss\n1,2\n1,2,3\n2,3\n"),
        "skipped 1 row that does not have 2 cells like the header (first: line 3 has 3)",
    )


def test_a_repeated_header_is_noted() -> None:
    """A run that appends to its old log writes the header again."""
    log = read("step,loss\n1,9\n2,8\nstep,loss\n1,7\n2,6\n")
    assert losses(log) == [(1, 7), (2, 6)]
    assert noted(log, "header is repeated 1 time inside")
    assert noted(log, "the log holds 2 runs, one after another: the last one is judged, from line 5 on")


def test_a_rare_null_loss_is_nan() -> None:
    rows = [{"step": n, "loss": None if n == 12 else 2.0} for n in range(20)]
    log = read("".join(json.dumps(row) + "\n" for row in rows))
    assert [step for step, loss in losses(log) if math.isnan(loss)] == [12]
    assert noted(log, "1 value of the loss is null and read as NaN (first: line 13)")


def test_nulls_at_the_end_are_nan() -> None:
    log = read("".join(json.dumps({"step": n, "loss": 2.0 if n < 5 else None}) + "\n" for n in range(8)))
    assert [math.isnan(loss) for _, loss in losses(log)] == [False] * 5 + [True] * 3


def test_blanks_at_the_end_are_nan() -> None:
    """pandas writes NaN as a blank."""
    log = read("step,loss,grad_norm\n1,2.0,1\n2,2.0,1\n3,,\n4,,\n")
    assert [math.isnan(loss) for _, loss in losses(log)] == [False, False, True, True]
    assert noted(log, "2 values of the loss are blank and read as NaN (first: line 4)")


def test_one_blank_at_the_end_is_skipped_with_a_note() -> None:
    log = read("step,loss\n1,2.0\n2,2.0\n3,\n")
    assert losses(log) == [(1, 2), (2, 2)]
    assert noted(log, "skipped 1 row without a loss (first: line 4)")


def test_blanks_of_a_sparse_loss_are_not_nan() -> None:
    log = read("step,loss,lr\n" + "".join(f"{n},{'' if n % 5 else 2.0},0.1\n" for n in range(100)))
    assert [step for step, _ in losses(log)] == list(range(0, 100, 5))
    assert not any(math.isnan(loss) for _, loss in losses(log))


def test_nulls_of_a_sparse_loss_are_not_nan() -> None:
    rows = [{"step": n, "loss": 2.0 if n % 5 == 0 else None} for n in range(50)]
    assert [step for step, _ in losses(read("".join(json.dumps(row) + "\n" for row in rows)))] == list(range(0, 50, 5))


def test_a_sparse_loss_with_far_more_blanks_at_the_end_ends_in_nan() -> None:
    text = "step,loss,lr\n" + "".join(f"{n},{2.0 if n % 5 == 0 and n < 50 else ''},0.1\n" for n in range(100))
    log = read(text)
    assert [step for step, loss in losses(log) if math.isnan(loss)] == list(range(46, 100))
    assert noted(log, "54 values of the loss are blank and read as NaN (first: line 48)")


def test_validation_rows_are_not_blank_losses() -> None:
    rows = [{"step": n, "loss": 2.0, "eval_loss": None} for n in range(9)]
    rows.append({"step": 9, "loss": None, "eval_loss": 1.5})
    assert len(read("".join(json.dumps(row) + "\n" for row in rows)).points) == 9


def test_text_in_another_column_is_skipped_with_a_note() -> None:
    log = read("step,loss,lr\n1,2,0.1\n2,2,fast\n3,2,0.1\n")
    assert [point.lr for point in log.points] == [0.1, 0.1, 0.1]
    assert noted(log, "skipped 1 value of 'lr' that is not a number (first: line 3 has 'fast')")


def test_a_printed_tensor_is_a_number() -> None:
    """`tensor(2.5, device='cuda:0')` is what a forgotten .item() prints."""
    log = read("step;loss\n1;tensor(2.5, device='cuda:0')\n2;tensor(nan)\n")
    assert log.points[0].loss == 2.5
    assert math.isnan(log.points[1].loss)


def test_a_learning_rate_applies_until_the_next_one() -> None:
    log = read("step,loss,lr\n0,,0.1\n1,9,\n2,8,\n3,,0.2\n4,7,\n")
    assert [point.lr for point in log.points] == [0.1, 0.1, 0.2]


def test_a_learning_rate_logged_later_applies_from_its_step() -> None:
    """TensorBoard writes one tag after another, so a rate may follow the losses of later steps."""
    log = read("step,loss,lr\n1,9,\n2,8,\n3,7,\n2,,0.3\n")
    assert [point.lr for point in log.points] == [None, 0.3, 0.3]


def test_a_wide_gap_is_noted() -> None:
    steps = [*range(0, 100, 10), *range(200, 300, 10)]
    assert noted(
        read("step,loss\n" + "".join(f"{n},1\n" for n in steps)),
        "no points between steps 90 and 200",
        "usual distance is 10",
    )
    assert not noted(read("step,loss\n" + "".join(f"{n},1\n" for n in range(0, 100, 10))), "no points between")


def test_nan_in_a_column_without_effect_is_noted() -> None:
    log = read("step,loss,val_loss,crf_loss\n1,2,3,1\n2,2,nan,nan\n")
    assert noted(log, "'val_loss' has NaN (first: line 3)")
    assert math.isnan(log.points[1].terms["crf_loss"])


def test_rising_epochs_are_steps_if_there_is_no_step_column() -> None:
    log = read("epoch,accuracy,loss,val_loss\n0,0.1,3,3\n1,0.2,2,3\n3,0.2,1,3\n")
    assert losses(log) == [(0, 3), (1, 2), (3, 1)]
    assert noted(log, "no step column: the steps are the epochs in column 'epoch'")


def test_a_selected_step_column_must_have_whole_numbers() -> None:
    text = "step,loss\n0.5,3\n1.5,2\n"
    with pytest.raises(LogError, match=r"line 2: 'step' is 0.5, not a whole number"):
        read(text, step="step")
    assert noted(read(text), "points are numbered")


def test_a_loss_without_a_step_is_skipped_with_a_note() -> None:
    log = read("step,loss\n1,9\n,8\nlast,7\n2,6\n3,5\n")
    assert losses(log) == [(1, 9), (2, 6), (3, 5)]
    assert noted(log, "skipped 2 rows with a loss but no 'step'")
    assert noted(log, "skipped 1 value of 'step' that is not a number (first: line 4 has 'last')")
