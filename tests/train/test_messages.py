"""Every error message of the training room once, with real values, to be read as one text."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import re
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import Replicate

import pytest_smoke.train as room
from pytest_smoke.allowed import PROJECT_ONLY
from pytest_smoke.errors import (
    CheckpointError,
    DeviceError,
    ExportError,
    PackageError,
    SmokeError,
    TaskError,
    UnsplittableBatchError,
)
from pytest_smoke.events import BatchEquivalence
from pytest_smoke.judge.checks import pipeline as pipeline_check
from pytest_smoke.judge.checks import run as run_check
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.text import count
from pytest_smoke.train import launch, predictions
from pytest_smoke.train.batch_equivalence import BatchSplitter, _compared, compare_batch_sizes
from pytest_smoke.train.checkpoints import io
from pytest_smoke.train.crash import crash_of
from pytest_smoke.train.data import count_sources, next_micro_batches
from pytest_smoke.train.device import resolve_device
from pytest_smoke.train.export import model_io, onnx_model, package, pipeline, verify
from pytest_smoke.train.freezing import ParameterFreezer, call_on_stage_start
from pytest_smoke.train.gradient_probe import _stage_of, probe
from pytest_smoke.train.plan import PipelinePlan, RunPlan
from pytest_smoke.train.processes import device_of, visible_devices
from pytest_smoke.train.ranks import Ranks
from pytest_smoke.train.sharding import Sharding, check_returned
from pytest_smoke.train.step import Stepper
from pytest_smoke.train.task import (
    MAX_DATA_FILES,
    counts_of,
    data_files_of,
    load_task,
    metrics_of,
    optimizer_of,
    sources_of,
)
from tests.train.conftest import Pair, make_plan
from tests.train.test_loop import run as run_loop

CPU = torch.device("cpu")
MODULE = "tests.train.test_messages"
ROOT = Path(__file__).parents[2]
Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Case:
    """An error: what raises it, in a folder of its own, and its message."""

    call: Callable[[Path, Patch], object]
    text: str
    kind: type[SmokeError] = TaskError
    reason: str = ""
    """Reason of an ExportError."""
    key: str = ""
    """Recipe key of a TaskError."""


class Empty:
    """Neither a task nor a batch."""


class Misspelt(Pair):
    def evalute(self, model: nn.Module) -> None: ...


class EvaluatesNothing(Pair):
    def evaluate(self) -> dict[str, float]:
        raise AssertionError("not called")


class CountsOnce(Pair):
    counts = 64


class NoIterator:
    def __iter__(self) -> None: ...


class Uninitialized(nn.Module):
    def __init__(self) -> None: ...


class NoGroups(torch.optim.SGD):
    def __init__(self, parameters: Any) -> None: ...


class AsksForClosure(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        return closure()


class OneTerm(Pair):
    loss_weights: Mapping[str, float] = {}

    def losses(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        return {"ce": super().losses(model, batch)["second"]}


class Sharded(nn.Module):
    """Has a parameter with what marks one that is split among two processes."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        self.model.weight.device_mesh = SimpleNamespace(size=lambda: 2)
        self.model.weight.placements = [Replicate()]


class Labelled(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"logits": x, "kind": "softmax"}


class Ignores(Pair):
    def batches(self, batch_size: int, **how: Any) -> Iterator[Tensor]:
        return super().batches(4, **how)


def pair(**attributes: Any) -> Any:
    """Return the two-term task with some attributes replaced."""
    task = Pair()
    for name, value in attributes.items():
        setattr(task, name, value)
    return task


def stepper(task: Any, **changes: Any) -> Stepper:
    made = Stepper(make_plan(**changes), task, CPU)
    made.learn_terms(torch.zeros(8, 3, dtype=torch.float64))
    return made


def update(task: Any) -> object:
    return stepper(task).update([torch.ones(8, 3, dtype=torch.float64)], 1.0)


def changing_terms() -> Any:
    terms, real = iter(({"first", "second"}, {"first"})), Pair().losses

    def losses(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        wanted = next(terms)
        return {name: loss for name, loss in real(model, batch).items() if name in wanted}

    return pair(losses=losses)


def late_layer(model: Any, stage: str, phase: str | None) -> None:
    model["late"] = nn.Linear(2, 2)


def layers() -> nn.Module:
    return nn.ModuleDict({name: nn.Linear(2, 2) for name in ("encoder", "head", "adapter", "decoder", "probe")})


def damaged(folder: Path) -> Path:
    saved = io.write_state(folder, "trained", nn.Linear(2, 2), None, {"step": 7})
    (saved / "model.safetensors").write_bytes(b"x")
    return saved


def described(folder: Path, about: str) -> Path:
    (folder / "checkpoint.json").write_text(about)
    return folder


def saved_with(folder: Path, value: Any) -> Path:
    torch.save(value, folder / "a.pt")
    return folder / "a.pt"


def load_into_another_optimizer(folder: Path) -> object:
    made = stepper(pair())
    path = io.write_state(folder, "trained", made.model, {"x": 1}, {"step": 7})
    return io.load_state(io.read_state(path), {"optimizer": {"state": {}, "param_groups": []}, "scaler": {}}, made)


def manifest(folder: Path, **changes: Any) -> Path:
    values = {"schema": package.SCHEMA, "files": {}, "tolerance": 1e-4, **changes}
    (folder / package.MANIFEST).write_text(json.dumps(values))
    return folder


def check(folder: Path) -> object:
    return list(verify.check_package(folder, root=folder))


def fresh(lines: list[dict[str, Any]], patch: Patch) -> object:
    patch.setattr(verify, "_lines", lambda *_: iter([*map(json.dumps, lines), "Killed"]))
    wanted = ["model.onnx", "model.int8.onnx"]
    return verify.check_in_fresh_process("package", ".", wanted, lambda: None, allowed=PROJECT_ONLY)


def exiting(patch: Patch) -> object:
    @contextmanager
    def popen(*args: Any, **kwargs: Any) -> Iterator[Any]:
        yield SimpleNamespace(stdout=["\n", "no package\n"], returncode=2)

    patch.setattr(verify.subprocess, "Popen", popen)
    return list(verify._lines("package", ".", []))


def stages(folder: Path, task: Any = None) -> pipeline.Stages:
    """Return stages that have exported a linear layer already."""
    plan = make_plan(pipeline=PipelinePlan(folder=str(folder / "package"), recipe={}, quantize=True, tolerance=1e-4))
    model, inputs = nn.Linear(6, 3), (torch.ones(2, 6),)
    made = pipeline.Stages(plan, task or pair(), model, lambda events: None, lambda: {"f1": 0.5})
    made._folder.mkdir()
    (made._folder / package.ONNX).write_bytes(b"onnx")
    made._exported = (model, inputs, *model_io.flat_outputs(model, inputs))
    return made


def other_outputs(folder: Path) -> object:
    made = stages(folder)
    session = SimpleNamespace(
        shapes=[[2, 6]],
        run=lambda inputs: [1.25 * output for output in model_io.tensors(made._exported[2])],
        dynamic_dimensions=list,
    )
    return made._compared(session)  # type: ignore[arg-type]  # as much of a session as it uses


def noisy(folder: Path) -> object:
    task = pair(example_inputs=lambda: (torch.ones(2, 6),))
    made = stages(folder, task)
    torch.manual_seed(0)

    class Noisy(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            Noisy.calls += 1
            return x * Noisy.calls

    made._model = Noisy()
    return made.export()


def quantized(folder: Path, patch: Patch, weights: int) -> object:
    patch.setattr(pipeline, "write_int8", lambda source, path: weights)
    session = SimpleNamespace(names=["x"], calls=0, run=lambda inputs: [torch.ones(2, 3)])
    patch.setattr(pipeline.Stages, "_session", lambda self, name: session)
    return stages(folder, pair(evaluate=lambda model: {"f1": 0.5})).quantize()


def called_with_three_inputs(folder: Path, patch: Patch) -> object:
    class Tagger(nn.Module):
        def forward(self, ids: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
            return ids

    model, session = Tagger(), SimpleNamespace(names=["ids", "mask"])
    with onnx_model.onnx_forward(model, session, [], None):  # type: ignore[arg-type]  # it fails before it uses them
        return model(*[torch.ones(1)] * 3)


def checkpoint_of(stage: str) -> Any:
    return SimpleNamespace(about={"stage": stage}, step=3)


def staged_plan() -> RunPlan:
    a = Stage(name="A", steps=5, max_steps=5, learning_rate=0.1)
    return make_plan(stages=(a, Stage(name="B", first_step=5, steps=5, max_steps=5, learning_rate=0.1)))


def lone_term(folder: Path, patch: Patch) -> object:
    patch.setattr("pytest_smoke.train.gradient_probe.seeded_task", lambda plan: OneTerm())
    return probe(make_plan(), None, batches=1)


def misnamed_metric(folder: Path, patch: Patch) -> object:
    return run_loop(make_plan(run_steps=1, max_steps=1), pair(evaluate=lambda model: {"loss": 1.0, "second": 2.0}))


def with_optimizer(make: Callable[[Any], torch.optim.Optimizer]) -> Any:
    return pair(optimizer=lambda model, learning_rate: make(model.parameters()))


CASES = [
    # Tasks
    Case(
        lambda *_: stepper(pair(model=lambda: nn.Sequential(nn.LazyLinear(2)))),
        "0.weight belongs to a lazy module and has no shape yet: let model() pass one batch through the model",
    ),
    Case(
        lambda *_: stepper(pair(model=lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta")))),
        "1.weight is on the meta device and has no values: let model() call to_empty(device='cpu') and initialize the "
        "parameters",
    ),
    Case(
        lambda *_: stepper(with_optimizer(torch.optim.LBFGS)),
        "LBFGS.step() needs a closure that computes the loss again, and a smoke run computes it once per step: use "
        "another optimizer",
    ),
    Case(
        lambda *_: stepper(pair(loss_weights=[1.0, 2.0])),
        "loss_weights is [1.0, 2.0]: it must be a mapping from loss terms to numbers",
    ),
    Case(
        lambda *_: run_loop(make_plan(), pair(batches=lambda batch_size, *, seed, rank, world_size: None)),
        "batches() returned NoneType: it must return an iterator over micro-batches",
    ),
    Case(
        lambda *_: run_loop(make_plan(), pair(batches=lambda batch_size: iter(()))),
        "batches cannot be called as batches(batch_size, *, seed, rank, world_size): got an unexpected keyword "
        "argument 'seed'",
    ),
    Case(
        lambda *_: run_loop(make_plan(), pair(probe_batch=lambda: None)),
        "probe_batch() returned None: it must return one micro-batch",
    ),
    Case(
        lambda *_: update(pair(losses=lambda model, batch: dict.fromkeys(("first", "second"), torch.ones(()) * 1j))),
        "loss term 'first' is a complex number: take its real part or its absolute value",
    ),
    Case(
        lambda *_: stepper(pair(losses=lambda model, batch: {1: torch.zeros(())})),
        "losses(model, batch) named a term 1 (int): names must be text, not empty",
    ),
    Case(
        lambda *_: update(
            pair(losses=lambda model, batch: dict.fromkeys(("first", "second"), torch.empty((), device="meta")))
        ),
        "loss term 'first' is on the meta device and has no value",
    ),
    Case(
        lambda *_: stepper(pair(model=Uninitialized)),
        "model() returned Uninitialized, whose __init__ does not call super().__init__()",
    ),
    Case(
        lambda *_: stepper(with_optimizer(NoGroups)),
        "optimizer(model, learning_rate) returned NoGroups, whose __init__ does not call super().__init__()",
    ),
    Case(
        lambda *_: update(with_optimizer(lambda parameters: AsksForClosure(parameters, lr=0.1))),
        "AsksForClosure.step() needs a closure that computes the loss again, and a smoke run computes it once per "
        "step: use another optimizer",
    ),
    Case(
        lambda *_: stepper(with_optimizer(lambda parameters: torch.optim.SGD([{"params": parameters, "lr": [0.1]}]))),
        "optimizer(model, learning_rate) made parameter groups with lr [[0.1]]: each must have one number",
    ),
    Case(
        lambda *_: stepper(
            with_optimizer(
                lambda parameters: torch.optim.SGD([{"params": parameters, "lr": 0.1}, {"params": [], "lr": math.nan}])
            )
        ),
        "optimizer(model, learning_rate=0.1) made parameter groups with lr 0.1 and nan: every one must be finite and "
        "not negative",
    ),
    Case(
        lambda *_: run_loop(make_plan(), pair(batches=lambda batch_size, *, seed, rank, world_size: NoIterator())),
        "batches() returned NoIterator, which cannot be iterated over: iter() returned non-iterator of type 'NoneType'",
    ),
    Case(
        lambda *_: load_task(f"{MODULE}:EvaluatesNothing", {}, root=ROOT),
        "evaluate cannot be called as evaluate(model): too many positional arguments",
    ),
    Case(
        lambda *_: load_task(f"{MODULE}:CountsOnce", {}, root=ROOT),
        "counts is 64: it must be a method counts(batch)",
    ),
    Case(lambda *_: load_task(f"{MODULE}:Absent", {}, root=ROOT), f"{__file__} has no 'Absent'"),
    Case(
        lambda *_: load_task(f"{MODULE}:Empty", {"width": 64}, root=ROOT),
        f"{MODULE}:Empty does not take the recipe's args {{'width': 64}}: got an unexpected keyword argument 'width'",
        key="args",
    ),
    Case(
        lambda *_: load_task(f"{MODULE}:Empty", {}, root=ROOT),
        f"{MODULE}:Empty is not a task: it lacks model(), batches() and losses()",
    ),
    Case(
        lambda *_: load_task("os:system", {"command": "true"}, root=ROOT),
        "task os:system is system of Python's standard library; it must be your own class or function",
        key="task",
    ),
    Case(
        lambda *_: load_task(f"{MODULE}:Misspelt", {}, root=ROOT),
        f"{MODULE}:Misspelt has 'evalute', which is never called; did you mean 'evaluate'?",
    ),
    Case(
        lambda *_: optimizer_of(pair(optimizer=lambda model, learning_rate: None), nn.Linear(1, 1), 0.1),
        "optimizer(model, learning_rate) returned NoneType, not a torch.optim.Optimizer",
    ),
    Case(
        lambda *_: optimizer_of(
            pair(optimizer=lambda model, learning_rate: torch.optim.SGD(model.parameters(), lr=7.0)),
            nn.Linear(1, 1),
            0.003,
        ),
        "optimizer(model, learning_rate=0.003) made parameter groups with lr 7: at least one must have the given "
        "learning rate, or the recipe's schedule does not apply",
    ),
    Case(
        lambda *_: counts_of(pair(counts=lambda batch: {"first": 1}), None, ("first", "second")),
        "counts(batch) has no entry for the loss term 'second', only for first",
    ),
    Case(
        lambda *_: counts_of(pair(counts=lambda batch: None), None, ("first",)),
        "counts(batch) returned None: it must return one number, or one number per loss term",
    ),
    Case(
        lambda *_: counts_of(pair(counts=lambda batch: -1.0), None, ("first",)),
        "counts(batch) returned -1.0: every count must be finite and not negative",
    ),
    Case(
        lambda *_: sources_of(pair(sources=lambda batch: "osm"), None),
        "sources(batch) returned 'osm': it must map source names to numbers of samples, or list the source of each "
        "sample, and count at least one",
    ),
    Case(
        lambda *_: data_files_of(pair(data_files=[3]), "."),
        "data_files returned [3]: it must return the paths of files and folders",
    ),
    Case(
        lambda *_: data_files_of(pair(data_files=["a"] * (MAX_DATA_FILES + 1)), "."),
        f"data_files names {MAX_DATA_FILES + 1:,} files, and may name {MAX_DATA_FILES:,}: name their folder, which is "
        "one",
    ),
    Case(
        lambda folder, _: data_files_of(pair(data_files=["train.txt"]), str(folder)),
        "data_files names FOLDER/train.txt: file not found",
    ),
    Case(lambda *_: metrics_of([0.4]), "evaluate(model) returned [0.4]: it must map metric names to numbers"),
    Case(lambda *_: next_micro_batches([iter([])], 1), "batches() ended: it must return an infinite iterator"),
    Case(
        lambda *_: count_sources(make_plan(task=f"{MODULE}:Pair"), 1),
        f"{MODULE}:Pair has no sources(batch), so the source of a sample is not known",
    ),
    Case(
        misnamed_metric,
        "evaluate(model) returned loss and second: the smoke run records its own series under these names; rename "
        "the metrics",
    ),
    Case(
        lambda folder, _: predictions.write_predictions(pair(predictions=lambda model: None), None, folder / "p.jsonl"),
        "predictions(model) returned None: it must return rows, one per held-out example",
    ),
    Case(
        lambda folder, _: predictions.write_predictions(
            pair(predictions=lambda model: [{"raw": "a"}, {"raw": float("nan")}]), None, folder / "p.jsonl"
        ),
        "predictions(model) returned {'raw': nan} as row 1: it must be a mapping with 'raw', 'gold' and 'pred' that "
        "consists of strings, finite numbers, lists and mappings",
    ),
    Case(
        lambda *_: resolve_device("cuda:77"),
        f"there is no device 'cuda:77': torch {torch.__version__} sees "
        f"{count(torch.cuda.device_count(), 'cuda device')}",
        kind=DeviceError,
    ),
    # Several processes
    Case(
        lambda *_: device_of(make_plan(processes=2, device="mps"), 0, 0),
        "launch starts 2 processes, and torch has no way to connect them on mps: use the CPU",
        kind=DeviceError,
    ),
    Case(
        lambda *_: device_of(make_plan(processes=2, device="cuda:1"), 0, 2),
        "launch starts 2 processes, each on a device of its own, but the run is to use cuda:1 alone: use "
        "--smoke-device cuda",
        kind=DeviceError,
    ),
    Case(
        lambda *_: device_of(make_plan(processes=99, device="cuda"), 0, 1),
        f"launch.nproc_per_node is 99, but torch {torch.__version__} sees 1 cuda device, and each process "
        "needs its own: lower nproc_per_node, or "
        "use --smoke-device cpu",
        kind=DeviceError,
        key="launch.nproc_per_node",
    ),
    Case(
        lambda _, patch: (patch.setattr(torch.cuda, "device_count", lambda: os.abort()), visible_devices()),
        "torch could not count the devices: the process that counted them was killed by SIGABRT",
        kind=DeviceError,
    ),
    Case(
        lambda *_: Ranks.parallel(SimpleNamespace(), list, Sharded(), in_step=True),
        "the parameter weight is sharded, and DistributedDataParallel needs whole parameters: call fully_shard in the "
        "task's parallelize(model, mesh), and nowhere else",
        key="launch",
    ),
    Case(
        lambda *_: Sharding._check_placements(SimpleNamespace(_parts=[], _model=Sharded().model, size=4)),
        "parallelize(model, mesh) made weight a DTensor (R) on 2 devices, not one that fully_shard splits among all 4: "
        "each process of launch draws samples of its own, which tensor parallelism does not allow; call "
        "fully_shard(module, mesh=mesh) alone, or start such a training with torchrun as a command",
        key="launch",
    ),
    Case(
        lambda *_: check_returned(nn.Sequential(), nn.Linear(1, 1)),
        "parallelize(model, mesh) returned a new Sequential: it must change the model in place, as fully_shard does, "
        "and return None or the same model",
        key="launch",
    ),
    # The model and its losses
    Case(lambda *_: stepper(pair(model=lambda: None)), "model() returned NoneType, not a torch.nn.Module"),
    Case(
        lambda *_: update(pair(losses=lambda model, batch: {})),
        "losses(model, batch) returned no term: it must map at least one name to a scalar",
    ),
    Case(
        lambda *_: stepper(pair(), loss_weights={"thrid": 1.0}),
        "loss_weights names thrid, but the loss terms are first and second",
        key="full.loss_weights",
    ),
    Case(
        lambda *_: update(changing_terms()),
        "losses(model, batch) returned other terms than before (first; before: first and second): every batch of a "
        "stage or phase must have the same terms",
    ),
    Case(
        lambda *_: update(pair(losses=lambda model, batch: {"second": 1.0})),
        "loss term 'second' is float, not a tensor",
    ),
    Case(
        lambda *_: update(pair(losses=lambda model, batch: {"second": batch.sum(1)}, loss_weights={})),
        "loss term 'second' has shape (8,): it must be a scalar",
    ),
    Case(
        lambda *_: update(pair(losses=lambda model, batch: {"second": batch.sum()})),
        "no loss term has a gradient (second): is a loss detached?",
    ),
    Case(
        lambda *_: update(pair(counts=lambda batch: {"first": 8, "second": 0})),
        "counts(batch) is 0 for the loss term 'second' in a whole step, so its mean is not defined",
    ),
    # Parameters
    Case(
        lambda *_: ParameterFreezer(layers()).apply(["encodr.*"], key="stages[0].train"),
        "train: 'encodr.*' matches no parameter; did you mean encoder.*?",
        key="stages[0].train",
    ),
    Case(
        lambda *_: ParameterFreezer(layers()).apply(["lora_*"], key="stages[0].train"),
        "train: 'lora_*' matches no parameter; the parameters are encoder.weight, encoder.bias, head.weight, "
        "head.bias, adapter.weight, adapter.bias, decoder.weight, decoder.bias and 2 more",
        key="stages[0].train",
    ),
    Case(
        lambda *_: ParameterFreezer(nn.Identity()).apply(None),
        "the model has no parameter that requires a gradient: there is nothing to train",
    ),
    Case(
        lambda *_: call_on_stage_start(
            pair(on_stage_start=late_layer), nn.ModuleDict(), "A", "latent", new_stage=False
        ),
        "on_stage_start(model, 'A', 'latent') added late.weight and late.bias, which the stage's optimizer does not "
        "hold: add parameters at the start of a stage, or make this phase a stage",
    ),
    # Batches in micro-batches of two sizes
    Case(
        lambda *_: BatchSplitter({"ids": torch.ones(8)}, {"ids": [1] * 4}, samples=8, few=4),
        "batch['ids'] is of type Tensor in a batch of 8 samples and of type list in one of 4",
        kind=UnsplittableBatchError,
    ),
    Case(
        lambda *_: BatchSplitter({"tokens": 24}, {"tokens": 12}, samples=8, few=4),
        "batch['tokens'] is 24 in a batch of 8 samples and 12 in one of 4: it depends on the whole batch, so compute "
        "it in losses()",
        kind=UnsplittableBatchError,
    ),
    Case(
        lambda *_: BatchSplitter(torch.ones(3, 8), torch.ones(3, 4), samples=8, few=4),
        "batch is of shape (3, 8) in a batch of 8 samples and of shape (3, 4) in one of 4: only the first dimension "
        "can be split",
        kind=UnsplittableBatchError,
    ),
    Case(
        lambda *_: BatchSplitter(
            (torch.ones(8), torch.tensor([24])), (torch.ones(4), torch.tensor([12])), samples=8, few=4
        ),
        "batch[1] is of shape (1,) in batches of both sizes, but has other values: it depends on the whole batch, so "
        "compute it in losses()",
        kind=UnsplittableBatchError,
    ),
    Case(
        lambda *_: BatchSplitter({"a": 1}, {"b": 1}, samples=8, few=4),
        "batch has different keys in batches of 8 and of 4 samples",
        kind=UnsplittableBatchError,
    ),
    Case(
        lambda *_: BatchSplitter([1, 2, 3], [1, 2], samples=8, few=4),
        "batch is of length 3 in a batch of 8 samples and of length 2 in one of 4",
        kind=UnsplittableBatchError,
    ),
    Case(
        lambda *_: BatchSplitter(Empty(), Empty(), samples=8, few=4),
        "batch is of type Empty, which cannot be split",
        kind=UnsplittableBatchError,
    ),
    Case(
        lambda *_: _compared(
            BatchEquivalence(step=0, samples=8, smoke_batch_size=4, full_batch_size=8, batch_norm_layers=0),
            make_plan(),
            Ignores(),
            stepper(pair()),
        ),
        "batches(8) yields as many samples as batches(4)",
        kind=UnsplittableBatchError,
    ),
    # Checkpoints
    Case(
        lambda folder, _: io.StateFile(folder=Path("trained"), about={"sha256": {}}).training(),
        "trained holds weights only: a run cannot be resumed from it",
        kind=CheckpointError,
    ),
    Case(
        lambda *_: io.read_state(Path("absent")),
        "absent is not a checkpoint of a smoke run: No such file or directory: absent/checkpoint.json",
        kind=CheckpointError,
    ),
    Case(
        lambda folder, _: io.read_state(described(folder, "{}")),
        "FOLDER/checkpoint.json is not the description of a checkpoint: KeyError('sha256')",
        kind=CheckpointError,
    ),
    Case(
        lambda folder, _: io.read_state(described(folder, '{"sha256": {}, "step": "7"}')),
        "FOLDER/checkpoint.json: 'step' is '7'; it must be an integer, 0 or more",
        kind=CheckpointError,
    ),
    Case(
        lambda folder, _: io.read_state(damaged(folder)),
        "FOLDER/trained is damaged: model.safetensors changed since it was written (SHA-256)",
        kind=CheckpointError,
    ),
    Case(
        lambda *_: io.read_weights(Path("absent.pt")),
        "absent.pt: No such file or directory",
        kind=CheckpointError,
    ),
    Case(
        lambda folder, _: io.read_weights(saved_with(folder, Path("x"))),
        "FOLDER/a.pt cannot be read by torch.load(weights_only=True), which accepts tensors and plain values: WHY",
        kind=CheckpointError,
    ),
    Case(
        lambda *_: io.read_weights(Path("absent.safetensors")),
        "absent.safetensors: No such file or directory: absent.safetensors",
        kind=CheckpointError,
    ),
    Case(
        lambda folder, _: (
            (folder / "b.safetensors").write_bytes(b"nothing"),
            io.read_weights(folder / "b.safetensors"),
        ),
        "FOLDER/b.safetensors is not a safetensors file: WHY",
        kind=CheckpointError,
    ),
    Case(
        lambda folder, _: io.read_weights(saved_with(folder, {"epoch": 3, "args": {"lr": 0.1}})),
        "FOLDER/a.pt holds a dict with the keys epoch and args; it must hold a state_dict, or one under the key model, "
        "state_dict or model_state_dict",
        kind=CheckpointError,
    ),
    Case(
        lambda *_: io.load_weights(nn.Linear(2, 2), {"weight": torch.ones(2, 2), "scale": 1.0}, source="a.pt"),
        "a.pt does not fit the recipe's model (2 tensors): 1 missing: bias; 1 unexpected: scale",
        kind=CheckpointError,
    ),
    Case(
        lambda folder, _: load_into_another_optimizer(folder),
        "FOLDER/trained does not fit the recipe's optimizer: ValueError: loaded state dict has a different number of "
        "parameter groups",
        kind=CheckpointError,
    ),
    Case(
        lone_term,
        "nowhere:Task has one loss term, 'ce': a gradient probe compares two or more terms of losses(model, batch)",
    ),
    Case(
        lambda *_: _stage_of(staged_plan(), Path("trained"), checkpoint_of("C")),
        "trained was saved in stage 'C', but the recipe's stages are: A and B",
    ),
    # The export pipeline
    Case(
        lambda folder, patch: (
            patch.setattr(pipeline, "find_spec", lambda name: None if name == "onnxruntime" else name),
            pipeline.check_needs(pair(), nn.Identity(), CPU),
        ),
        "smoke.pipeline needs the library onnxruntime, the task's evaluate() and the task's example_inputs(); run pip "
        'install "pytest-verdict-smoke[export]"',
        key="smoke.pipeline",
    ),
    Case(
        lambda *_: model_io.example_inputs_of(pair(example_inputs=lambda: (torch.ones(2), 3))),
        "example_inputs() returned (Tensor, int): it must return a tuple of at least one tensor",
    ),
    Case(
        lambda *_: package.labels_of(pair(labels="BIO")),
        "labels is 'BIO': it must be a list of strings",
    ),
    Case(
        called_with_three_inputs,
        "evaluate(model) called the model with 3 inputs (ids, mask, scale), but it was exported with 2 tensors from "
        "example_inputs(): they must be the same, in the same order",
    ),
    Case(
        lambda *_: pipeline._finite({}),
        "evaluate(model) returned no metric",
        kind=ExportError,
        reason="invalid-task",
    ),
    Case(
        lambda *_: pipeline._finite({"f1": 0.5, "nll": float("nan")}),
        "evaluate(model) returned a metric that is not finite: nll is NaN",
        kind=ExportError,
        reason="non-finite",
    ),
    Case(
        lambda folder, _: noisy(folder),
        "two calls with the same inputs in evaluation mode differ by 100 % of the largest output: the model draws "
        "random numbers or keeps state between calls",
        kind=ExportError,
        reason="nondeterministic",
    ),
    Case(
        lambda *_: model_io.flat_outputs(Labelled(), [torch.ones(2)]),
        "the model returns str: only tensors, and nested containers of them, can be exported",
        kind=ExportError,
        reason="unsupported-output",
    ),
    Case(
        lambda *_: pipeline._check_input_count(SimpleNamespace(names=["ids"]), (1, 2)),  # type: ignore[arg-type]
        "the ONNX file has 1 input (ids), but example_inputs() returns 2",
        kind=ExportError,
        reason="input-count",
    ),
    Case(
        lambda folder, _: other_outputs(folder),
        "on the example inputs onnxruntime's outputs differ from the model's by 25 % of the largest output; "
        "0.01 % is allowed",
        kind=ExportError,
        reason="outputs-differ",
    ),
    Case(
        lambda folder, patch: quantized(folder, patch, 0),
        "no weight was quantized: the model has no matrix product, embedding or LSTM",
        kind=ExportError,
        reason="nothing-quantized",
    ),
    Case(
        lambda folder, patch: quantized(folder, patch, 2),
        "evaluate(model) never calls model(...): the cost of quantization cannot be measured",
        kind=ExportError,
        reason="invalid-task",
    ),
    # Packages
    Case(
        lambda _, patch: fresh([{"part": "model.onnx", "ok": False, "text": "outputs differ", "difference": 1}], patch),
        "model.onnx: outputs differ",
        kind=ExportError,
        reason="outputs-differ",
    ),
    Case(
        lambda _, patch: fresh([{"part": "model.onnx", "ok": True, "text": "outputs match", "difference": 0}], patch),
        "the fresh process did not check model.int8.onnx; its last line: Killed",
        kind=ExportError,
        reason="crash",
    ),
    Case(
        lambda _, patch: exiting(patch),
        "the fresh process ended with exit status 2: no package",
        kind=ExportError,
        reason="crash",
    ),
    Case(
        lambda folder, _: verify._model_of({"task": "subprocess:run", "args": {}}, folder, PROJECT_ONLY),
        "task subprocess:run is part of Python's standard library; name a class or function of your own",
    ),
    Case(
        lambda *_: check(Path("absent")),
        "absent/manifest.json: No such file or directory; a package is a folder with a manifest.json",
        kind=PackageError,
    ),
    Case(
        lambda folder, _: ((folder / package.MANIFEST).write_text("no json"), check(folder)),
        "FOLDER/manifest.json is not valid JSON: Expecting value: line 1 column 1 (char 0)",
        kind=PackageError,
    ),
    Case(
        lambda folder, _: check(manifest(folder, schema=99)),
        "FOLDER/manifest.json is not a manifest of schema 1",
        kind=PackageError,
    ),
    Case(
        lambda folder, _: check(manifest(folder, files=["model.onnx"])),
        "FOLDER/manifest.json: 'files' must give 'bytes' and 'sha256' of each file",
        kind=PackageError,
    ),
    Case(
        lambda folder, _: check(manifest(folder, files={"../model.onnx": {"bytes": 1, "sha256": ""}})),
        "FOLDER/manifest.json: 'files' has '../model.onnx', which does not name a file in the same folder",
        kind=PackageError,
    ),
    Case(
        lambda folder, _: check(manifest(folder, tolerance=2)),
        "FOLDER/manifest.json: 'tolerance' is 2; it must be a number from 0 to 1",
        kind=PackageError,
    ),
    Case(
        lambda folder, _: check(manifest(folder)),
        "FOLDER was not written by smoke.pipeline: FileNotFoundError: [Errno 2] No such file or directory: "
        "'FOLDER/recipe.json'",
        kind=PackageError,
    ),
]


def raised(case: Case, folder: Path, patch: Patch) -> SmokeError:
    with pytest.raises(SmokeError) as caught:
        case.call(folder, patch)
    return caught.value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text[:60])
def test_message_of_an_error(case: Case, tmp_path: Path, monkeypatch: Patch) -> None:
    error = raised(case, tmp_path, monkeypatch)
    text = str(error).replace(str(tmp_path), "FOLDER")
    if case.text.endswith("WHY"):  # the rest is torch's or safetensors' own message
        text = text[: len(case.text) - 3] + "WHY"
    assert text == case.text
    assert type(error) is case.kind
    assert getattr(error, "reason", "") == case.reason
    assert getattr(error, "key", "") == case.key


MESSAGE_ERRORS = {
    *("TaskError", "DeviceError", "CheckpointError", "ExportError", "PackageError", "UnsplittableBatchError"),
    "_differs",
}
"""Names in a raise statement whose message a user can read."""


def raise_statements() -> dict[tuple[str, int], int]:
    """Return the last line of every raise statement of the room, by file and first line.

    Those of adapters need their trainers; tests/train/adapters has them.
    """
    statements = {}
    adapters = Path(room.__file__).parent / "adapters"
    for path in set(Path(room.__file__).parent.rglob("*.py")) - set(adapters.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = node.exc.func.attr if isinstance(node.exc.func, ast.Attribute) else ast.unparse(node.exc.func)
                if name in MESSAGE_ERRORS:
                    statements[str(path), node.lineno] = node.end_lineno or node.lineno
    return statements


def test_every_raise_statement_of_the_room_has_a_case(tmp_path: Path) -> None:
    statements, reached = raise_statements(), set()
    for number, case in enumerate(CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        with Patch.context() as patch:
            frames = traceback.extract_tb(raised(case, folder, patch).__traceback__)
        reached |= {
            (file, first)
            for (file, first), last in statements.items()
            for frame in frames
            if frame.filename == file and first <= (frame.lineno or 0) <= last
        }
    missing = sorted(f"{Path(file).name}:{line}" for file, line in statements.keys() - reached)
    assert missing == []


def test_every_reason_of_the_room_is_a_registered_one() -> None:
    used = set()
    for path in Path(room.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "ExportError":
                used.add(ast.literal_eval(node.args[0]))
    crashes = [ValueError("x"), TaskError("x"), MemoryError(), RuntimeError("can't allocate memory")]
    pipeline_reasons = {reason.id for reason in pipeline_check.CHECK.reasons}
    assert used | {crash_of(error, ".").reason for error in crashes} <= pipeline_reasons
    run_reasons = {reason.id for reason in run_check.CHECK.reasons}
    assert {crash_of(error, ".").reason for error in [*crashes, DeviceError("x")]} <= run_reasons
    assert {case.reason for case in CASES if case.reason} == used


@pytest.mark.parametrize(
    ("exit_code", "text"),
    [
        (None, "it closed its connection and did not exit"),
        (3, "it ended with exit status 3"),
        (-signal.SIGSEGV, "it was killed by SIGSEGV"),
        (-signal.SIGKILL, "it was killed by SIGKILL, as the kernel does when memory runs out"),
    ],
)
def test_message_of_a_training_process_that_died(exit_code: int | None, text: str) -> None:
    assert launch._how_it_ended(exit_code) == text


class Exhausted(Pair):
    def losses(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().losses(model, batch)


class Random(Pair):
    def losses(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        return super().losses(model, batch + torch.randn_like(batch))


class Rejects(Pair):
    def losses(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        if torch.is_grad_enabled():
            raise ValueError("expected 16 samples\ngot 4")
        return super().losses(model, batch)


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (Exhausted(), "8 samples do not fit into the device's memory in fp32"),
        (
            Random(),
            "two passes over the same micro-batches differ: in evaluation mode, losses() draws random numbers or keeps "
            "state from call to call",
        ),
        (Rejects(), f"ValueError: expected 16 samples at {__file__}:LINE (in evaluation mode, without autocast)"),
    ],
)
def test_message_of_batch_sizes_that_could_not_be_compared(task: Pair, problem: str) -> None:
    plan = make_plan(batch_size=4, full_batch_size=8, root="/nowhere")
    made = Stepper(plan, task, CPU)
    made.learn_terms(torch.ones(4, 3, dtype=torch.float64))
    event = compare_batch_sizes(plan, task, made, made.stage, 0)
    assert re.sub(r"(\.py):\d+", r"\1:LINE", event.problem) == problem


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (lambda: [torch.tensor([1.0])], "outputs match the packaged ones (difference 0, at most 0.0001)"),
        (lambda: [torch.tensor([1.5])], "outputs differ from the packaged ones (difference 0.5, at most 0.0001)"),
        (lambda: {}["x"], "cannot be loaded and run: KeyError: 'x' at FILE"),
    ],
)
def test_message_of_a_part_of_a_package(run: Callable[[], list[Tensor]], text: str) -> None:
    part = verify._check_part("model.onnx", run, [torch.tensor([1.0])], 1e-4, Path(__file__).parent)
    assert re.sub(r"test_messages\.py:\d+", "FILE", part.text) == text


def test_message_of_a_changed_file(tmp_path: Path) -> None:
    for name in ("labels.json", "model.onnx", "notes.txt"):
        (tmp_path / name).write_text("[]")
    recorded = {
        "labels.json": {"bytes": 2, "sha256": "0123"},
        "metrics.json": {"bytes": 2, "sha256": "0123"},
        "model.onnx": {"bytes": 7, "sha256": "0123"},
    }
    checksum = hashlib.sha256(b"[]").hexdigest()
    assert package.changed_files(tmp_path, recorded) == [
        f"labels.json was changed: its SHA-256 is {checksum}, the manifest says 0123",
        "metrics.json is missing",
        "model.onnx has 2 bytes, the manifest says 7",
        "notes.txt is not in the manifest",
    ]
