"""Checkpoints on disk: what was saved comes back, and what is not whole or does not fit is refused."""

from __future__ import annotations

import json
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
from pytest_smoke.train.checkpoints.io import load_torch, read_state, write_state
from pytest_smoke.train.checkpoints.weights import load_weights, read_weights
from pytest_smoke.train.rng import generators, set_generators

CPU = torch.device("cpu")


class Tied(nn.Module):
    """An embedding whose matrix is the head's too, and a buffer."""

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


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_tied_weights_go_and_come_back_whole(tmp_path: Path) -> None:
    """The folder says what it is of, in JSON, with a sum a file."""
    written = Tied(1)
    folder = write_state(tmp_path, "trained", written, {"step": 7}, {"step": 7, "args": {"a": 1}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trained"]
    state = read_state(folder)
    assert (state.step, state.about["args"]) == (7, {"a": 1})
    assert state.about["sha256"].keys() == {"model.safetensors", "training.pt"}
    other = Tied(2)
    assert not same(other, written)
    load_weights(other, read_weights(folder), source="it")
    assert same(other, written)
    assert other.head.weight is other.embed.weight


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad])
def test_an_optimizer_is_loaded_without_running_a_pickle(tmp_path: Path, optimizer: Any) -> None:
    """weights_only, bit for bit."""
    model = nn.Linear(3, 2)
    first = optimizer(model.parameters(), lr=0.1)
    model(torch.ones(4, 3)).sum().backward()
    first.step()
    training = {"optimizer": first.state_dict(), "generators": generators(CPU)}
    found = read_state(write_state(tmp_path, "x", model, training, {"step": 1})).training()
    second = optimizer(model.parameters(), lr=0.1)
    second.load_state_dict(found["optimizer"])
    for p in model.parameters():
        assert all(
            torch.equal(torch.as_tensor(v), torch.as_tensor(second.state[p][k])) for k, v in first.state[p].items()
        )


@given(seed=st.integers(0, 2**32 - 1), drawn=st.integers(0, 700))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_generators_go_on_where_they_were(tmp_path: Path, seed: int, drawn: int) -> None:
    """Python's, NumPy's and torch's, through the disk."""

    def draw() -> tuple[float, float, float, float]:
        return random.random(), random.gauss(0, 1), numpy.random.standard_normal(), torch.rand(()).item()

    random.seed(seed), numpy.random.seed(seed), torch.manual_seed(seed)
    for _ in range(drawn):
        draw()
    torch.save(generators(CPU), tmp_path / "rng.pt")
    ahead = [draw() for _ in range(5)]
    set_generators(load_torch(tmp_path / "rng.pt"), CPU)
    assert [draw() for _ in range(5)] == ahead


@pytest.mark.parametrize("file", ["model.safetensors", "training.pt"])
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, file: str) -> None:
    """One byte is enough."""
    folder = write_state(tmp_path, "x", nn.Linear(2, 2), {"step": 1}, {"step": 1})
    data = bytearray((folder / file).read_bytes())
    data[-1] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(CheckpointError, match=f"damaged: {file}"):
        read_state(folder)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """And nothing half-written beside it."""
    write_state(tmp_path, "x", nn.Linear(2, 2), None, {"step": 1})
    with pytest.raises((AttributeError, TypeError)):
        write_state(tmp_path, "x", nn.Linear(2, 2), {"f": lambda: None}, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert read_state(tmp_path / "x").step == 1


@pytest.mark.parametrize("wrap", [None, "model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_common_wrappings_of_a_state_dict_are_seen_through(tmp_path: Path, wrap: str | None, prefix: str) -> None:
    """DistributedDataParallel's and torch.compile's names, and a trainer's keys."""
    written, other = Tied(1), Tied(2)
    state: Any = {prefix + name: value for name, value in written.state_dict().items()}
    torch.save({wrap: state, "epoch": 3} if wrap else state, tmp_path / "a.pt")
    load_weights(other, read_weights(tmp_path / "a.pt"), source="a.pt")
    assert same(other, written)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch.compile's own imports
def test_a_compiled_model_takes_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    """Names are compared without what torch.compile puts into them."""
    plain = nn.Linear(3, 3)
    compiled: Any = torch.compile(nn.Linear(3, 3))
    load_weights(compiled, plain.state_dict(), source="x")
    assert torch.equal(compiled.weight, plain.weight)


def test_what_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    """Missing, unexpected and misshapen names, the first few of each."""
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
    state = {f"layer.{n}": torch.zeros(2) for n in range(5)}
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, state, source="a.pt")
    assert str(caught.value) == (
        "a.pt does not fit the recipe's model (8 tensors): 8 missing: 0.weight, 0.bias, 1.weight and 5 more; "
        "5 unexpected: layer.0, layer.1, layer.2 and 2 more"
    )
    with pytest.raises(CheckpointError, match=r"0\.bias has shape \[3\], the model's has \[2\]"):
        load_weights(model, {**model.state_dict(), "0.bias": torch.zeros(3)}, source="a.pt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (["a", "b"], "holds a list, not weights by name"),
        ({"epoch": 3, "args": {"lr": 0.1}}, "holds a dict with the keys epoch, args"),
        (Path("x"), "no file of tensors and plain values"),
    ],
)
def test_a_file_that_holds_no_weights_says_what_it_holds(tmp_path: Path, content: Any, words: str) -> None:
    """A pickle of objects is never executed."""
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError) as caught:
        read_weights(tmp_path / "a.pt")
    assert words in str(caught.value)


def test_a_file_that_is_not_there_or_is_none_is_named(tmp_path: Path) -> None:
    """Each format's own failure becomes one sentence with the path."""
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "checkpoint.json").write_text(json.dumps({"step": 1}))
    for name in ("a.pt", "a.safetensors", "b.safetensors", "c"):
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            read_weights(tmp_path / name)
