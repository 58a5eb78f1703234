"""In which mode a model trains, and which of its parameters share memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pytest_smoke.events import ModelMode, SharedStorage, Step
from pytest_smoke.train.model_mode import compiled_frames, depends_on_mode, shared_storage
from tests.train.conftest import Pair, make_plan
from tests.train.test_loop import run


class Functional(nn.Module):
    """Drops out without a module for it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self._dropped(self.linear(x))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.1, self.training)


@pytest.mark.parametrize(
    ("module", "depends"),
    [
        (nn.Dropout(0.1), True),
        (nn.Dropout(0.0), False),
        (nn.BatchNorm1d(3), True),
        (nn.BatchNorm1d(3, track_running_stats=False), False),
        (nn.LayerNorm(3), False),
        (nn.GRU(3, 3, dropout=0.0), False),
        (nn.GRU(3, 3, num_layers=2, dropout=0.1), True),
        (nn.MultiheadAttention(4, 2, dropout=0.1), True),
        (nn.TransformerEncoderLayer(4, 2), False),  # its parts do
        (nn.Linear(3, 3), False),
        (Functional(), True),
    ],
)
def test_a_module_depends_on_the_mode_if_its_own_forward_does(module: nn.Module, depends: bool) -> None:
    assert depends_on_mode(module) is depends


class Moded(Pair):
    """Trains a model with dropout and batch norm; `change` is called with it before each forward pass."""

    def __init__(self, change: Callable[[nn.Module], Any], *, after: Callable[[nn.Module], Any] = lambda model: None):
        super().__init__(torch.float32)
        self.change, self.after = change, after

    def model(self) -> nn.Module:
        model = super().model()
        model["shared"] = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), Functional4())
        return model

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        self.change(model)
        values = super().losses(model, batch)
        self.after(model)
        return values


class Functional4(Functional):
    def forward(self, x: Tensor) -> Tensor:
        return self._dropped(x)


def modes(task: Any, **changes: Any) -> list[ModelMode]:
    return run(make_plan(max_steps=40, run_steps=40, **changes), task).of(ModelMode)


def freeze_batch_norm(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()


def freeze_shared(model: nn.Module) -> None:
    model["shared"].eval().requires_grad_(False)


def score_in_between(model: nn.Module) -> None:
    """A teacher's pass, or one for pseudo-labels."""
    model.eval()
    with torch.no_grad():
        model["shared"](torch.zeros(2, 3))
    model.train()


@pytest.mark.parametrize("change", [lambda model: None, freeze_batch_norm, freeze_shared, score_in_between])
def test_training_mode_and_parts_that_are_frozen_on_purpose_pass(change: Callable[[nn.Module], Any]) -> None:
    seen = modes(Moded(change))
    assert [(event.watched, event.eval_count) for event in seen] == [(3, 0)] * 40


@pytest.mark.parametrize(
    "task",
    [
        Moded(lambda model: model.eval()),
        Moded(lambda model: model["shared"].eval()),
        Moded(lambda model: model.eval(), after=lambda model: model.train()),
    ],
    ids=["the whole model", "one of its parts", "only during the forward pass"],
)
def test_modules_that_train_in_evaluation_mode_are_named(task: Any) -> None:
    late = [event for event in modes(task) if event.step]
    assert {event.eval_count for event in late} == {3}
    assert late[0].in_eval == ("shared.1", "shared.2", "shared.3")


def test_a_model_that_is_left_in_evaluation_mode_later_is_seen_at_the_next_probe() -> None:
    calls = iter(range(10**6))
    seen = modes(Moded(lambda model: model.eval() if torch.is_grad_enabled() and next(calls) > 25 else None))
    first = next(event.step for event in seen if event.eval_count)
    assert first == 26


@pytest.mark.parametrize("evaluates", [False, True])
def test_a_compiled_model_is_watched_without_compiling_it_again(evaluates: bool) -> None:
    class Compiled(Moded):
        def model(self) -> nn.Module:
            model = super().model()
            model["shared"] = torch.compile(model["shared"], backend="eager")
            return model

    before = compiled_frames()
    seen = modes(Compiled(lambda model: model.eval() if evaluates else None))
    assert {event.eval_count for event in seen} == {3 if evaluates else 0}
    in_training_and_in_evaluation = 2  # the probe batch is scored in evaluation mode
    assert 0 < compiled_frames() - before <= 2 * in_training_and_in_evaluation  # each frame is counted twice


def test_an_evaluation_that_leaves_the_model_in_evaluation_mode_has_no_effect() -> None:
    task = Moded(lambda model: None)
    task.evaluate = lambda model: {"val": float(model.eval().training)}  # type: ignore[attr-defined]  # an optional hook
    assert {event.eval_count for event in modes(task, evaluate_every_steps=3)} == {0}


def test_watching_changes_no_step() -> None:
    def losses(task: Any) -> list[float]:
        torch.manual_seed(0)
        return [step.loss for step in run(make_plan(), task).of(Step)]

    class Unwatched(Moded):
        def model(self) -> nn.Module:
            model = super().model()
            model["shared"].train = lambda mode=True: model["shared"]  # type: ignore[method-assign]  # a frozen mode
            return model

    assert losses(Moded(lambda model: None)) == losses(Unwatched(lambda model: None))


def test_a_model_without_modules_that_depend_on_the_mode_is_not_watched(pair: Any) -> None:
    assert run(make_plan(), pair).of(ModelMode) == []


# memory


def tied(how: str) -> nn.Module:
    model = nn.ModuleDict({"emb": nn.Embedding(6, 4), "norm": nn.LayerNorm(4), "head": nn.Linear(4, 6, bias=False)})
    match how:
        case "parameter":
            model["head"].weight = model["emb"].weight
        case "data":
            model["head"].weight.data = model["emb"].weight.data
        case "part":
            model["head"].weight.data = model["emb"].weight.data[2:].t().contiguous().t().expand(4, 4)
            model["norm"].weight.data = model["head"].weight.data[0]
        case "flat":  # the parameters of a recurrent layer on an accelerator share one storage without an overlap
            flat = torch.randn(48)
            model["emb"].weight.data, model["head"].weight.data = flat[:24].view(6, 4), flat[24:].view(6, 4)
        case "frozen":
            model["head"].weight.data = model["emb"].weight.data
            model.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("how", "pairs"),
    [
        ("no", ()),
        ("parameter", ()),
        ("flat", ()),
        ("frozen", ()),
        ("data", ("emb.weight and head.weight",)),
        ("part", ("norm.weight and head.weight",)),
    ],
)
def test_different_parameters_that_overlap_in_memory_are_named(how: str, pairs: tuple[str, ...]) -> None:
    found = shared_storage(tied(how))
    assert (found.pairs if found else ()) == pairs


def test_a_run_reports_shared_memory_once(pair: Any) -> None:
    class Tied(Pair):
        def model(self) -> nn.Module:
            model = super().model()
            model["own"].bias.data = model["shared"].bias.data[:1]
            return model

    assert run(make_plan(), Tied()).of(SharedStorage) == [
        SharedStorage(pairs=("shared.bias and own.bias",), count=1),
    ]
    assert run(make_plan(), pair).of(SharedStorage) == []
