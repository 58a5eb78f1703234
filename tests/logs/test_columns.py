"""Recognize columns by their names."""

from __future__ import annotations

import pytest

from pytest_smoke.errors import LogError
from pytest_smoke.logs import columns

LOSSES = """
loss Loss train_loss train/loss loss/train Train/Loss train.loss trainLoss trainloss training_loss loss_total total_loss
TotalLoss train_loss_step train_loss_epoch batch_loss avg_loss train_total_loss metrics/train/loss train_inner_loss
smoothed_loss
"""
NOT_LOSSES = """
val_loss validation_loss eval_loss eval/loss loss/val valid_loss test_loss dev_loss best_loss valLoss loss_scale
aux_loss loss_ce gloss accuracy ppl lr step epoch
"""


@pytest.mark.parametrize("name", LOSSES.split())
def test_a_training_loss_is_recognized_without_a_note(name: str) -> None:
    assert columns.loss_column({"step": 9, name: 9, "val_loss": 9, "lr": 9}) == (name, [])


@pytest.mark.parametrize("name", NOT_LOSSES.split())
def test_other_columns_do_not_replace_the_training_loss(name: str) -> None:
    assert columns.loss_column({name: 9, "train/loss": 9})[0] == "train/loss"


@pytest.mark.parametrize(
    ("counts", "chosen"),
    [
        ({"train_loss_epoch": 90, "train_loss_step": 90}, "train_loss_step"),
        ({"smooth_loss": 90, "loss": 90}, "loss"),
        ({"avg_loss": 90, "total_loss": 90}, "total_loss"),
        ({"train loss": 9, "loss": 900}, "loss"),
        ({"loss": 3, "train_loss_step": 900}, "train_loss_step"),
    ],
)
def test_raw_and_dense_losses_come_before_averaged_and_sparse_ones(counts: dict[str, int], chosen: str) -> None:
    found, notes = columns.loss_column(counts)
    assert found == chosen
    assert [name for name in counts if name not in notes[0]] == []


def test_a_single_column_that_looks_like_a_loss_is_used_with_a_note() -> None:
    found, (note,) = columns.loss_column({"step": 9, "crf_nll": 9, "val_loss": 9})
    assert found == "crf_nll"
    assert "the only column" in note


@pytest.mark.parametrize(
    ("counts", "fragments"),
    [
        (
            {"step": 9, "val_loss": 9, "loss/eval": 9},
            ["no training loss, only 'val_loss' and 'loss/eval'", "--loss NAME"],
        ),
        ({"step": 9, "loss_ce": 9, "loss_crf": 9}, ["several columns", "'loss_ce' and 'loss_crf'", "--loss NAME"]),
        ({"step": 9, "acc": 9}, ["no loss column", "'step' and 'acc'", "--loss NAME"]),
        ({}, ["no loss column, and no other column with numbers"]),
    ],
)
def test_without_a_training_loss_the_error_lists_columns_and_the_option(
    counts: dict[str, int], fragments: list[str]
) -> None:
    with pytest.raises(LogError) as refused:
        columns.loss_column(counts)
    assert refused.value.reason == "no-loss-column"
    assert [fragment for fragment in fragments if fragment not in str(refused.value)] == []


@pytest.mark.parametrize(
    "name", ["lr", "LR", "learning_rate", "learning rate", "lr-AdamW", "train/lr", "learningRate", "optim/lr/pg0"]
)
def test_a_learning_rate_is_recognized(name: str) -> None:
    assert columns.lr_column({"loss": 9, name: 9}) == (name, [])


@pytest.mark.parametrize(
    "name", ["lr_scale", "lr_decay", "base_lr", "min_lr", "clr", "learning", "rate", "tokens_per_second"]
)
def test_other_columns_are_not_learning_rates(name: str) -> None:
    assert columns.lr_column({"loss": 9, name: 9}) == (None, [])


def test_the_learning_rate_of_the_first_parameter_group_is_used_with_a_note() -> None:
    found, (note,) = columns.lr_column({"lr-AdamW/pg1": 9, "lr-AdamW/pg2": 9})
    assert found == "lr-AdamW/pg1"
    assert "lr-AdamW/pg2" in note


@pytest.mark.parametrize(
    "name",
    ["grad_norm", "gnorm", "gradient_norm", "train/grad_norm", "grad norm", "total_grad_norm", "grad_2.0_norm_total"],
)
def test_the_global_gradient_norm_is_recognized(name: str) -> None:
    assert columns.grad_norm_column({"loss": 9, "grad_norm/layer1": 99, "weight_norm": 99, name: 9}) == name


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["epoch", "iter"], "iter"),
        (["step", "trainer/global_step"], "trainer/global_step"),
        (["_step"], "_step"),
        (["num_updates", "update"], "num_updates"),
        (["Iteration"], "Iteration"),
        (["epoch", "time", "steps_per_second", "max_steps"], None),
    ],
)
def test_the_step_column_is_recognized(names: list[str], chosen: str | None) -> None:
    assert next(iter(columns.step_columns(names)), None) == chosen


@pytest.mark.parametrize(
    ("name", "is_term"),
    [
        ("crf_loss", True),
        ("nll", True),
        ("loss/ce", True),
        ("kl", True),
        ("val_nll", False),
        ("price", False),
        ("acc", False),
    ],
)
def test_a_loss_term_has_a_loss_word_and_is_not_held_out(name: str, is_term: bool) -> None:
    assert columns.is_component(name) == is_term
