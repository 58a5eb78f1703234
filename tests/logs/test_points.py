"""Restarts, duplicates, blanks, cuts and gaps: what was done to a log is in its notes."""

from __future__ import annotations

import json
import math

import pytest

from pytest_smoke.errors import LogError
from pytest_smoke.logs.log import Log, Names
from pytest_smoke.logs.read import read_text


def read(text: str, **names: str) -> Log:
    return read_text("log.csv" if text.startswith("step") else "log", text, Names(**names))


def noted(log: Log, *fragments: str) -> bool:
    return any(all(fragment in note for fragment in fragments) for note in log.notes)


def losses(log: Log) -> list[tuple[int, float]]:
    return [(point.step, point.loss) for point in log.points]


def test_a_clean_log_has_no_notes() -> None:
    """Nothing done, nothing said."""
    assert read("step,loss,lr\n1,3,0.1\n2,2,0.1\n3,1,0.1\n").notes == ()


def test_a_resumed_run_keeps_the_newest_values() -> None:
    """Steps that go back cut the older points from there on, and the note says which."""
    log = read("step,loss\n1,9\n2,8\n3,7\n4,6\n3,1.5\n4,1.0\n5,0.5\n")
    assert losses(log) == [(1, 9), (2, 8), (3, 1.5), (4, 1.0), (5, 0.5)]
    assert noted(log, "go back from 4 to 3", "the 2 older points from step 3 on were cut")


def test_mixed_ranks_are_refused() -> None:
    """Steps that go back all the time are several runs in one log."""
    text = "step,loss\n" + "".join(
        f"{step},{rank}\n" for step in range(0, 60, 2) for rank, step in ((1, step + 1), (2, step))
    )
    with pytest.raises(LogError, match="several runs or ranks in one log") as refused:
        read(text)
    assert refused.value.reason == "steps-unordered"


def test_steps_that_start_anew_each_epoch_are_counted_on() -> None:
    """A batch counter beside an epoch is no resumed run."""
    log = read("\n".join(f"Epoch [{e}/3], Step [{s}/4], Loss: {10 * e + s}" for e in (1, 2, 3) for s in (1, 2, 3, 4)))
    assert [step for step, _ in losses(log)] == list(range(1, 13))
    assert [loss for _, loss in losses(log)] == [11, 12, 13, 14, 21, 22, 23, 24, 31, 32, 33, 34]
    assert noted(log, "starts anew with each 'Epoch'", "over 3 epochs")


def test_a_duplicated_step_keeps_the_newest() -> None:
    """The newest loss of a step counts, and the note counts the others."""
    log = read("step,loss\n1,9\n2,8\n2,7\n3,6\n")
    assert losses(log) == [(1, 9), (2, 7), (3, 6)]
    assert noted(log, "1 losses are of a step logged before (first: 2)")


@pytest.mark.parametrize("cut", ["4,", "4", "4,2.0,"])
def test_a_truncated_last_line_is_left_out(cut: str) -> None:
    """A last line with too few cells and no line end is left out, with a note."""
    log = read("step,loss,lr,x\n1,9,1,1\n2,8,1,1\n3,7,1,1\n" + cut)
    assert losses(log) == [(1, 9), (2, 8), (3, 7)]
    assert noted(log, "the last line (5) is cut off")


@pytest.mark.parametrize("cut", ['{"step": 4, "lo', '{"step": 4, "loss": 2', "{"])
def test_a_truncated_last_record_is_left_out(cut: str) -> None:
    """So is a JSON line."""
    log = read("".join(json.dumps({"step": n, "loss": n}) + "\n" for n in (1, 2, 3)) + cut)
    assert losses(log) == [(1, 1), (2, 2), (3, 3)]
    assert noted(log, "the last line (4) is cut off")


def test_broken_lines_inside_are_counted() -> None:
    """Lines that are no record are left out, and the first is named."""
    log = read('{"step": 1, "loss": 1}\nWARNING: x\n{"step": 2, "loss": 1}\noops\n{"step": 3, "loss": 1}\n')
    assert len(log.points) == 3
    assert noted(log, "2 lines are not JSON (first: line 2)")
    assert noted(read("step,loss\n1,2\n1,2,3\n2,3\n"), "1 lines have not the header's 2 cells (first: line 3, with 3)")


def test_a_repeated_header_is_noted() -> None:
    """A run that appends to its old log writes the header again."""
    log = read("step,loss\n1,9\n2,8\nstep,loss\n1,7\n2,6\n")
    assert losses(log) == [(1, 7), (2, 6)]
    assert noted(log, "header is repeated 1 times")
    assert noted(log, "go back from 2 to 1")


def test_a_null_where_losses_are_dense_is_a_nan() -> None:
    """JSON has no NaN: a null loss among numbers is one."""
    rows = [{"step": n, "loss": None if n == 12 else 2.0} for n in range(20)]
    log = read("".join(json.dumps(row) + "\n" for row in rows))
    assert [step for step, loss in losses(log) if math.isnan(loss)] == [12]
    assert noted(log, "line 13: the loss is null", "1 such cells read as NaN")


def test_nulls_at_the_end_are_nan() -> None:
    """A log that ends in null losses ends in NaNs."""
    log = read("".join(json.dumps({"step": n, "loss": 2.0 if n < 5 else None}) + "\n" for n in range(8)))
    assert [math.isnan(loss) for _, loss in losses(log)] == [False] * 5 + [True] * 3


def test_blanks_at_the_end_are_nan() -> None:
    """pandas writes a NaN as nothing: two blank losses or more at the end are read so."""
    log = read("step,loss,grad_norm\n1,2.0,1\n2,2.0,1\n3,,\n4,,\n")
    assert [math.isnan(loss) for _, loss in losses(log)] == [False, False, True, True]
    assert noted(log, "line 4: the loss is blank", "2 such cells")


def test_one_blank_at_the_end_is_left_out_and_noted() -> None:
    """A single blank is in doubt: no point, and a note."""
    log = read("step,loss\n1,2.0\n2,2.0\n3,\n")
    assert losses(log) == [(1, 2), (2, 2)]
    assert noted(log, "1 records have no loss (first: line 4)")


def test_a_loss_logged_now_and_then_has_no_nan() -> None:
    """A column that is blank as a habit, at its end too, is sparse."""
    log = read("step,loss,lr\n" + "".join(f"{n},{'' if n % 5 else 2.0},0.1\n" for n in range(100)))
    assert [step for step, _ in losses(log)] == list(range(0, 100, 5))
    assert not any(math.isnan(loss) for _, loss in losses(log))


def test_a_null_as_a_habit_is_no_nan() -> None:
    """Nulls between losses, and as many at the end, say that the loss is logged now and then."""
    rows = [{"step": n, "loss": 2.0 if n % 5 == 0 else None} for n in range(50)]
    assert [step for step, _ in losses(read("".join(json.dumps(row) + "\n" for row in rows)))] == list(range(0, 50, 5))


def test_a_sparse_log_that_ends_in_blanks_ends_in_nan() -> None:
    """Far more blanks at the end than ever before are no habit."""
    text = "step,loss,lr\n" + "".join(f"{n},{2.0 if n % 5 == 0 and n < 50 else ''},0.1\n" for n in range(100))
    log = read(text)
    assert [step for step, loss in losses(log) if math.isnan(loss)] == list(range(46, 100))
    assert noted(log, "line 48: the loss is blank", "54 such cells")


def test_validation_rows_are_no_blanks() -> None:
    """A row without a loss that holds other columns is another kind of row."""
    rows = [{"step": n, "loss": 2.0, "eval_loss": None} for n in range(9)]
    rows.append({"step": 9, "loss": None, "eval_loss": 1.5})
    assert len(read("".join(json.dumps(row) + "\n" for row in rows)).points) == 9


def test_strings_beside_the_loss_are_noted() -> None:
    """Text in another numeric column costs that cell, and says so."""
    log = read("step,loss,lr\n1,2,0.1\n2,2,fast\n3,2,0.1\n")
    assert [point.lr for point in log.points] == [0.1, 0.1, 0.1]
    assert noted(log, "line 3: 'lr' is 'fast', not a number; 1 such cells")


def test_a_printed_tensor_is_a_number() -> None:
    """`tensor(2.5, device='cuda:0')` is what a forgotten .item() leaves."""
    log = read("step;loss\n1;tensor(2.5, device='cuda:0')\n2;tensor(nan)\n")
    assert log.points[0].loss == 2.5
    assert math.isnan(log.points[1].loss)


def test_the_learning_rate_holds_until_the_next() -> None:
    """A rate logged at its own steps is that of the losses after it."""
    log = read("step,loss,lr\n0,,0.1\n1,9,\n2,8,\n3,,0.2\n4,7,\n")
    assert [point.lr for point in log.points] == [0.1, 0.1, 0.2]


def test_a_learning_rate_that_comes_late_is_that_of_its_step() -> None:
    """TensorBoard writes tags one after another: a rate may follow the losses of later steps."""
    log = read("step,loss,lr\n1,9,\n2,8,\n3,7,\n2,,0.3\n")
    assert [point.lr for point in log.points] == [None, 0.3, 0.3]


def test_a_wide_gap_is_named() -> None:
    """Five usual strides without a point are said, with where."""
    steps = [*range(0, 100, 10), *range(200, 300, 10)]
    assert noted(
        read("step,loss\n" + "".join(f"{n},1\n" for n in steps)), "no point between steps 90 and 200", "stride 10"
    )
    assert not noted(read("step,loss\n" + "".join(f"{n},1\n" for n in range(0, 100, 10))), "no point between")


def test_a_nan_that_is_not_judged_is_noted() -> None:
    """A NaN in a metric does not decide, but is not hidden."""
    log = read("step,loss,val_loss,crf_loss\n1,2,3,1\n2,2,nan,nan\n")
    assert noted(log, "'val_loss' is NaN from line 3")
    assert math.isnan(log.points[1].terms["crf_loss"])


def test_epochs_are_steps_as_a_last_resort() -> None:
    """Whole epochs that count up stand in for steps."""
    log = read("epoch,accuracy,loss,val_loss\n0,0.1,3,3\n1,0.2,2,3\n3,0.2,1,3\n")
    assert losses(log) == [(0, 3), (1, 2), (3, 1)]
    assert noted(log, "no step column: steps are those of 'epoch'")


def test_a_named_step_must_be_whole() -> None:
    """A step column with fractions is refused where it was named, and no step otherwise."""
    text = "step,loss\n0.5,3\n1.5,2\n"
    with pytest.raises(LogError, match=r"line 2: 'step' is 0.5, not a whole number"):
        read(text, step="step")
    assert noted(read(text), "points are numbered")


def test_a_loss_without_a_step_is_left_out() -> None:
    """It is counted in a note."""
    log = read("step,loss\n1,9\n,8\nlast,7\n2,6\n3,5\n")
    assert losses(log) == [(1, 9), (2, 6), (3, 5)]
    assert noted(log, "2 losses have no 'step'")
    assert noted(log, "line 4: 'step' is 'last'")
