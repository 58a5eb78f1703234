"""Devices, batches on them, and evaluation without a trace."""

from __future__ import annotations

import random
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pytest_smoke.errors import TaskError
from pytest_smoke.train.device import isolated_eval, resolve_device, seed_all, to_device

Sample = namedtuple("Sample", "x y")


def test_isolated_eval_restores_module_modes_and_every_random_number_generator() -> None:
    """A batch norm in evaluation mode stays in it."""
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


def test_isolated_eval_calls_train_of_modules_that_do_work_there() -> None:
    """LoRA layers unmerge their weights in `train()`."""

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


def test_tensors_in_nested_mappings_lists_tuples_and_named_tuples_move_to_the_device() -> None:
    batch: Any = {"a": torch.ones(2), "b": [torch.ones(1), "text"], "c": Sample(torch.ones(1), (torch.ones(1), 3))}
    moved = to_device(batch, torch.device("meta"))
    assert moved["a"].device.type == "meta"
    assert moved["b"][0].device.type == "meta"
    assert moved["b"][1] == "text"
    assert isinstance(moved["c"], Sample)
    assert moved["c"].y[0].device.type == "meta"
    assert moved["c"].y[1] == 3


@pytest.mark.parametrize(("name", "device"), [("cuda", "cuda:0"), ("auto", "cuda:0"), ("cuda:2", "cuda:2")])
def test_a_cuda_device_has_an_index(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.cuda.set_device refuses one without."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert resolve_device(name) == torch.device(device)
    assert torch.device(device).index is not None


def test_a_missing_device_is_named_with_the_number_of_those_that_torch_sees() -> None:
    with pytest.raises(TaskError, match=r"there is no device 'cuda:99': torch .* sees \d+ cuda devices?$"):
        resolve_device("cuda:99")
