"""Accumulated micro-batches train like the one big batch that they are parts of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.train.step import Stepper
from tests.train.conftest import Pair, make_plan
from tests.train.test_step import CPU, Planner, assert_close, train


@given(parts=st.integers(min_value=1, max_value=6))
def test_accumulated_micro_batches_train_like_one_big_batch(parts: int) -> None:
    task, size, plan = Pair(), 60, make_plan(grad_clip_norm=1.0)
    big = [torch.randn(size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in range(5)]
    whole, whole_rows = train(plan, task, [[batch] for batch in big])
    split, split_rows = train(plan, task, [list(batch.chunk(parts)) for batch in big])
    assert_close(whole, split)
    assert_close(whole_rows, split_rows, atol=1e-6)  # rows are float32


def test_micro_batches_of_unequal_token_counts_train_like_one_big_batch(plan: Planner, tokens: Any) -> None:
    values = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    counted = torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0], dtype=torch.float64)
    parts = [(values[a:b], counted[a:b]) for a, b in ((0, 4), (4, 6), (6, 12))]
    whole, whole_rows = train(plan(), tokens, [[(values, counted)]])
    split, split_rows = train(plan(), tokens, [parts])
    assert_close(whole, split)
    assert_close(whole_rows, split_rows, atol=1e-6)


def test_without_counts_unequal_micro_batches_do_not_train_like_one_big_batch(plan: Planner, tokens: Any) -> None:
    """The control of the test above: a plain mean of means is another number."""
    values = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    counted = torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0], dtype=torch.float64)
    parts = [(values[a:b], counted[a:b]) for a, b in ((0, 4), (4, 12))]
    whole, _ = train(plan(), tokens, [[(values, counted)]])
    tokens.counts = lambda batch: 1.0
    split, _ = train(plan(), tokens, [parts])
    assert max(float((a - b).abs().max()) for a, b in zip(whole, split, strict=True)) > 1e-3


def test_losses_of_many_micro_batches_in_bf16_are_summed_in_float32() -> None:
    """In bf16 itself, a sum of 1024 equal values stops growing at a quarter of the result."""
    task = Pair(torch.bfloat16)
    stepper = Stepper(make_plan(batch_size=1), task, CPU)
    batch = next(task.batches(1, seed=0))
    stepper.learn_terms(batch)
    one, _ = stepper.update([batch], 0.0)
    many, _ = stepper.update([batch] * 1024, 0.0)
    assert many[0].item() == pytest.approx(one[0].item(), rel=0.01)
