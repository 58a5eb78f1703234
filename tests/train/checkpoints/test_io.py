"""Checkpoints on disk: what was saved is loaded again, what is damaged or does not fit is an error."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from pytest_smoke.errors import CheckpointError
from pytest_smoke.train.checkpoints.io import load_torch, load_weights, read_state, read_weights, write_state
from pytest_smoke.train.device import generator_states, set_generator_states

CPU = torch.device("cpu")


class Tied(nn.Module):
    """An embedding that shares its weight with the head, and a buffer."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embed.weight
        self.register_buffer("seen", torch.randn(2, generator=generator))
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))


def equal(left: nn.Module, right: nn.Module) -> bool:
    a, b = left.state_dict(), right.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_tied_weights_are_saved_and_loaded_with_a_description_and_checksums(tmp_path: Path) -> None:
    written = Tied(1)
    folder = write_state(tmp_path, "trained", written, {"step": 7}, {"step": 7, "args": {"a": 1}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trained"]
    state = read_state(folder)
    assert (state.step, state.about["args"]) == (7, {"a": 1})
    assert state.about["sha256"].keys() == {"model.safetensors", "training.pt"}
    other = Tied(2)
    assert not equal(other, written)
    load_weights(other, read_weights(folder), source="trained")
    assert equal(other, written)
    assert other.head.weight is other.embed.weight


def test_a_checkpoint_has_the_permissions_of_any_new_folder_and_file(tmp_path: Path) -> None:
    """Also its weights, which safetensors writes so that only their owner may read them."""
    before = os.umask(0o027)
    try:
        folder = write_state(tmp_path, "trained", nn.Linear(1, 1), {}, {"step": 1})
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o750
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == dict.fromkeys(
        ("checkpoint.json", "model.safetensors", "training.pt"), 0o640
    )


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad])
def test_an_optimizer_state_is_loaded_bit_for_bit_with_weights_only(tmp_path: Path, optimizer: Any) -> None:
    model = nn.Linear(3, 2)
    first = optimizer(model.parameters(), lr=0.1)
    model(torch.ones(4, 3)).sum().backward()
    first.step()
    training = {"optimizer": first.state_dict(), "generators": generator_states(CPU)}
    loaded = read_state(write_state(tmp_path, "x", model, training, {"step": 1})).training()
    second = optimizer(model.parameters(), lr=0.1)
    second.load_state_dict(loaded["optimizer"])
    for p in model.parameters():
        assert all(
            torch.equal(torch.as_tensor(v), torch.as_tensor(second.state[p][k])) for k, v in first.state[p].items()
        )


@given(seed=st.integers(0, 2**32 - 1), drawn=st.integers(0, 700))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_generators_of_python_numpy_and_torch_continue_from_a_saved_state(
    tmp_path: Path, seed: int, drawn: int
) -> None:

    def draw() -> tuple[float, float, float, float]:
        return random.random(), random.gauss(0, 1), numpy.random.standard_normal(), torch.rand(()).item()

    random.seed(seed), numpy.random.seed(seed), torch.manual_seed(seed)
    for _ in range(drawn):
        draw()
    torch.save(generator_states(CPU), tmp_path / "rng.pt")
    expected = [draw() for _ in range(5)]
    set_generator_states(load_torch(tmp_path / "rng.pt"), CPU)
    assert [draw() for _ in range(5)] == expected


@pytest.mark.parametrize("file", ["model.safetensors", "training.pt"])
def test_a_file_with_one_changed_bit_is_an_error_that_names_it(tmp_path: Path, file: str) -> None:
    folder = write_state(tmp_path, "x", nn.Linear(2, 2), {"step": 1}, {"step": 1})
    data = bytearray((folder / file).read_bytes())
    data[-1] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(CheckpointError, match=f"damaged: {file} changed"):
        read_state(folder)


def test_a_failed_write_leaves_the_earlier_checkpoint_and_no_partial_one(tmp_path: Path) -> None:
    write_state(tmp_path, "x", nn.Linear(2, 2), None, {"step": 1})
    with pytest.raises((AttributeError, TypeError)):
        write_state(tmp_path, "x", nn.Linear(2, 2), {"f": lambda: None}, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert read_state(tmp_path / "x").step == 1


@pytest.mark.parametrize("wrap", [None, "model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_ddp_and_torch_compile_and_keys_of_trainers_are_understood(
    tmp_path: Path, wrap: str | None, prefix: str
) -> None:
    written, other = Tied(1), Tied(2)
    state: Any = {prefix + name: value for name, value in written.state_dict().items()}
    torch.save({wrap: state, "epoch": 3} if wrap else state, tmp_path / "a.pt")
    load_weights(other, read_weights(tmp_path / "a.pt"), source="a.pt")
    assert equal(other, written)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch.compile's own imports
def test_a_compiled_model_loads_the_weights_of_one_that_is_not(tmp_path: Path) -> None:
    plain = nn.Linear(3, 3)
    compiled: Any = torch.compile(nn.Linear(3, 3))
    load_weights(compiled, plain.state_dict(), source="x")
    assert torch.equal(compiled.weight, plain.weight)


def test_weights_that_do_not_fit_are_an_error_with_the_first_names_of_each_kind(tmp_path: Path) -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
    state = {f"layer.{n}": torch.zeros(2) for n in range(5)}
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, state, source="a.pt")
    assert str(caught.value) == (
        "a.pt does not fit the recipe's model (8 tensors): 8 missing: 0.weight, 0.bias, 1.weight and 5 more; "
        "5 unexpected: layer.0, layer.1, layer.2 and 2 more"
    )
    with pytest.raises(CheckpointError, match=r"0\.bias has shape \[3\], the model has \[2\]"):
        load_weights(model, {**model.state_dict(), "0.bias": torch.zeros(3)}, source="a.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["a", "b"], "holds a list; it must hold a state_dict"),
        ({"epoch": 3, "args": {"lr": 0.1}}, "holds a dict with the keys epoch and args; it must hold a state_dict"),
        (Path("x"), "cannot be read by torch.load(weights_only=True), which accepts tensors and plain values"),
    ],
)
def test_a_file_without_weights_is_an_error_that_says_what_it_holds(tmp_path: Path, content: Any, message: str) -> None:
    """A pickle of objects is never executed."""
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError) as caught:
        read_weights(tmp_path / "a.pt")
    assert message in str(caught.value)


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "checkpoint.json").write_text(json.dumps({"step": 1}))
    for name in ("a.pt", "a.safetensors", "b.safetensors", "c"):
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            read_weights(tmp_path / name)
