"""Looking at a model must leave no trace on its training."""

from __future__ import annotations

import random
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pytest_smoke.errors import TaskError
from pytest_smoke.train.device import isolated_eval, resolve, seed_all, to_device

Sample = namedtuple("Sample", "x y")


def test_quiet_puts_back_modes_and_every_random_generator() -> None:
    """What is drawn after it is what would have been drawn without it; a frozen batch norm stays in evaluation mode."""
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    model.train()
    model[0].eval()

    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    seed_all(3)
    expected = draws()
    seed_all(3)
    with isolated_eval(model, torch.device("cpu")):
        assert not model[1].training
        assert not torch.is_grad_enabled()
        draws()
    assert draws() == expected
    assert (model[0].training, model[1].training) == (False, True)


def test_quiet_goes_through_train_of_modules_that_work_there() -> None:
    """Merged LoRA weights are unmerged in `train()`, not by a flag."""

    class Merging(nn.Module):
        merged = False

        def train(self, mode: bool = True) -> Merging:
            self.merged = not mode
            return super().train(mode)

    model = nn.Sequential(Merging())
    model.train()
    with isolated_eval(model, torch.device("cpu")):
        assert model[0].merged
    assert not model[0].merged


def test_batches_of_any_nesting_move_to_the_device() -> None:
    """Mappings, lists, tuples and named tuples keep their shape, and what is no tensor stays."""
    batch: Any = {"a": torch.ones(2), "b": [torch.ones(1), "text"], "c": Sample(torch.ones(1), (torch.ones(1), 3))}
    moved = to_device(batch, torch.device("meta"))
    assert moved["a"].device.type == "meta"
    assert moved["b"][0].device.type == "meta"
    assert moved["b"][1] == "text"
    assert isinstance(moved["c"], Sample)
    assert moved["c"].y[0].device.type == "meta"
    assert moved["c"].y[1] == 3


def test_a_device_that_is_not_there_is_named() -> None:
    """The sentence says what torch sees."""
    with pytest.raises(TaskError, match=r"no device 'cuda:99': torch .* sees \d+"):
        resolve("cuda:99")
