"""NaN outside the points: in words, in a column that is not judged, in a log without a single loss."""

from __future__ import annotations

import pytest

from pytest_smoke.logs.judging import RunDescription, judge_log
from pytest_smoke.logs.log import ColumnNames
from pytest_smoke.logs.read import read_text
from pytest_smoke.logs.statements import is_statement

SAID = """
Loss is nan, stopping training
loss is infinite, stopping
ERROR:tensorflow:Model diverged with loss = NaN.
NanLossDuringTrainingError: NaN loss during training.
FloatingPointError: Loss became infinite or NaN at iteration=10!
ValueError: nan loss encountered
Batch 5: Invalid loss, terminating training
found NaN in local forward loss calculation
Loss got n a n, training suspends..
The loss returned in `training_step` is nan or inf.
InvalidArgumentError: LossTensor is inf or nan. : Tensor had NaN values
Non-finite loss, ending training {'loss_ce': 3}
WARNING: NaN or Inf found in loss
NaN detected in loss at step 4
FloatingPointError: Minimum loss scale reached (0.0001). Your loss is probably exploding.
Training diverged.
gradient norm is inf
Found nan in gradients, stopping
Loss NaN/Inf detected, recovering from last.pt
Exiting: loss went to NaN
RuntimeError: Loss is not finite: nan
loss = nan, exiting
"""
NOT_SAID = """
number of nan iterations: 0
W x2num.py:13] NaN or Inf found in input tensor.
terminate_on_nan: True
WARNING: overflow detected, setting loss scale to: 0.03125
Will stop if loss is nan
Checking for NaN loss every 10 steps
no nan loss found
loss_nan_patience=3
best loss is inf
Namespace(check_nan=True, loss='ce')
early_stopping: best_loss = inf
initial best val loss: inf
Loss improved from inf to 2.3, saving
Epoch 00001: val_loss improved from inf to 0.53, saving model
infinite data loader with loss
"""


def verdict_on(text: str, path: str = "x.log") -> tuple[str, str, int | None]:
    verdict = judge_log(read_text(path, text, ColumnNames()), RunDescription())
    return verdict.verdict, verdict.reason, verdict.step


@pytest.mark.parametrize("line", SAID.strip().splitlines())
def test_what_the_trainer_says_decides(line: str) -> None:
    assert verdict_on(f"step 1 loss 2.5\nstep 2 loss 2.4\n{line}\n")[:2] == ("unstable", "non-finite")


@pytest.mark.parametrize("line", NOT_SAID.strip().splitlines())
def test_a_condition_a_setting_or_a_denial_decides_nothing(line: str) -> None:
    assert not is_statement(line)
    assert verdict_on(f"step 1 loss 2.5\nstep 2 loss 2.4\n{line}\n")[:2] == ("inconclusive", "too-short")


def test_the_sentence_and_its_place_are_quoted() -> None:
    log = read_text("x.log", "step 7 loss 2.5\nERROR: Model diverged with loss = NaN.\n", ColumnNames())
    verdict = judge_log(log, RunDescription())
    assert verdict.step == 7
    assert (
        verdict.text
        == "the trainer reported a failure at line 2 after step 7: 'ERROR: Model diverged with loss = NaN.'"
    )


def test_a_log_of_words_alone_is_judged() -> None:
    assert verdict_on("Skipping time record\nERROR:tensorflow:Model diverged with loss = NaN.\n") == (
        "unstable",
        "non-finite",
        None,
    )


UNDECIDED = {
    "several losses": "step,loss_d,loss_g\n1,2,1\n2,nan,1\n3,nan,1\n",
    "infinity in one of them": "step,loss_d,loss_g\n1,2,1\n2,2,inf\n",
    "no loss, but a gradient norm": "step,grad_norm,loss_scale\n1,0.5,1\n2,nan,1\n3,nan,1\n",
    "two ranks of the same name": "step,loss\n"
    + "".join(f"{s},{x}\n" for s in range(9) for x in (1, 5, "nan"))[:-4]
    + "9\n",
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_nan_decides_where_no_curve_can_be_judged(name: str) -> None:
    assert verdict_on(UNDECIDED[name], "x.csv")[:2] == ("unstable", "non-finite")


def test_skipped_steps_of_a_loss_scaler_decide_nothing_without_a_loss() -> None:
    with pytest.raises(Exception, match="there is no loss column"):
        verdict_on("step,grad_norm\n1,0.5\n2,inf\n3,inf\n4,0.5\n", "x.csv")


def test_nan_in_a_sparse_term_decides_although_no_point_has_it() -> None:
    text = "step,loss,aux_loss\n" + "".join(f"{s},2.0,\n" for s in range(0, 40, 2)) + "31,,nan\n"
    assert verdict_on(text, "x.csv") == ("unstable", "non-finite", 31)


def test_nan_in_a_validation_loss_is_a_note() -> None:
    log = read_text("x.csv", "step,loss,val_loss\n1,2,3\n2,2,nan\n", ColumnNames())
    assert judge_log(log, RunDescription()).verdict == "inconclusive"
    assert log.notes == ("'val_loss' has NaN (first: line 3); this column does not affect the verdict",)


def test_an_earlier_instability_is_kept() -> None:
    text = (
        "".join(f"step {s} loss {2 if s < 40 else 2 + s * s}\n" for s in range(80)) + "Loss is nan, stopping training\n"
    )
    verdict, reason, step = verdict_on(text)
    assert (verdict, reason) != ("unstable", "non-finite")
    assert step is not None
    assert step < 79


def test_a_verdict_that_nan_decided_has_no_false_note_on_the_rate() -> None:
    log = read_text("x.log", "step 10/74 | loss nan (+nanz)| norm nan (+nanz)| lr 3.00e-04 | 9.2% MFU\n", ColumnNames())
    verdict = judge_log(log, RunDescription())
    assert (verdict.reason, verdict.step, verdict.notes) == ("non-finite", 10, ())
