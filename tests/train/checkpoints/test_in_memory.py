"""Copies of weights in memory: what is restored, and how far back they reach."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_smoke.train.checkpoints.in_memory import SLOTS, WeightHistory


class Counter(nn.Module):
    """A model whose parameter and buffer hold the step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("seen", torch.zeros(()))

    def set_step(self, step: int) -> None:
        with torch.no_grad():
            self.weight.fill_(step)
            self.seen.fill_(step)


def saved(every: int, count: int) -> tuple[Counter, WeightHistory]:
    model = Counter()
    history = WeightHistory(model)
    for number in range(count):
        model.set_step(number * every)
        history.save(number * every)
    return model, history


@given(every=st.integers(1, 50), count=st.integers(1, 60), asked=st.integers(0, 3000))
def test_restore_loads_the_newest_copy_at_or_before_a_step(every: int, count: int, asked: int) -> None:
    """Parameters and buffers are those of the returned step."""
    model, history = saved(every, count)
    steps = history.steps
    assert steps == sorted(steps)
    assert len(steps) <= SLOTS
    step = history.restore(asked)
    assert step == max((s for s in steps if s <= asked), default=steps[0])
    assert model.weight.tolist() == [step] * 3
    assert model.seen.item() == step


def test_a_buffer_whose_tensor_is_replaced_during_training_is_saved_and_restored() -> None:
    model = Counter()
    history = WeightHistory(model)
    for step in range(3):
        model.set_step(step)
        model.seen = model.seen * 1.0
        history.save(step)
    model.seen = torch.tensor(float("nan"))
    assert history.restore(1) == 1
    assert model.seen.item() == 1


def test_weights_of_a_model_with_an_expanded_buffer_are_restored() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("mask", torch.ones(1).expand(3, 3))
    history = WeightHistory(model)
    history.save(1)
    with torch.no_grad():
        model.weight.zero_()
    assert history.restore(1) == 1
    assert model.weight.all()


@given(count=st.integers(SLOTS, 200))
def test_for_any_delay_up_to_8_copies_one_is_kept_that_is_less_than_four_times_as_old(count: int) -> None:
    """The first one is never dropped."""
    _, history = saved(1, count)
    newest = count - 1
    assert history.steps[-1] == newest
    assert history.steps[0] == 0
    for delay in range(1, min(8, newest) + 1):
        age = newest - max(step for step in history.steps if step <= newest - delay)
        assert age < 4 * delay
