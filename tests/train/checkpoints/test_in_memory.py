"""Rolling checkpoints hold what they say, and reach back far enough."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_smoke.train.checkpoints.in_memory import SLOTS, WeightHistory


class Counter(nn.Module):
    """A parameter and a buffer that hold the step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("seen", torch.zeros(()))

    def at(self, step: int) -> None:
        with torch.no_grad():
            self.weight.fill_(step)
            self.seen.fill_(step)


def saved(every: int, count: int) -> tuple[Counter, WeightHistory]:
    model = Counter()
    checkpoints = WeightHistory(model)
    for number in range(count):
        model.at(number * every)
        checkpoints.save(number * every)
    return model, checkpoints


@given(every=st.integers(1, 50), count=st.integers(1, 60), asked=st.integers(0, 3000))
def test_restoring_loads_the_newest_kept_state_at_or_before_a_step(every: int, count: int, asked: int) -> None:
    """Parameters and buffers are those of the step that is returned."""
    model, checkpoints = saved(every, count)
    kept = checkpoints.steps
    assert kept == sorted(kept)
    assert len(kept) <= SLOTS
    step = checkpoints.restore(asked)
    assert step == max((s for s in kept if s <= asked), default=kept[0])
    assert model.weight.tolist() == [step] * 3
    assert model.seen.item() == step


def test_a_buffer_that_is_replaced_as_it_trains_is_kept_and_put_back() -> None:
    """By its name; another tensor holds it by then."""
    model = Counter()
    checkpoints = WeightHistory(model)
    for step in range(3):
        model.at(step)
        model.seen = model.seen * 1.0
        checkpoints.save(step)
    model.seen = torch.tensor(float("nan"))
    assert checkpoints.restore(1) == 1
    assert model.seen.item() == 1


@given(count=st.integers(SLOTS, 200))
def test_an_alarm_that_comes_late_still_finds_a_checkpoint_of_the_right_age(count: int) -> None:
    """For any delay up to 8 checkpoints there is one less than four times as old, and the first is never dropped."""
    _, checkpoints = saved(1, count)
    newest = count - 1
    assert checkpoints.steps[-1] == newest
    assert checkpoints.steps[0] == 0
    for delay in range(1, min(8, newest) + 1):
        age = newest - max(step for step in checkpoints.steps if step <= newest - delay)
        assert age < 4 * delay
