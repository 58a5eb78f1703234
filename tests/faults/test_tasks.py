"""A method of the task returns something else than it must, or raises. The message says what it must return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.session import SHORT_RECIPE, FaultSession
from tests.faults.table import Fault, assert_outcome, rows

SUBJECT = "The task"

TASK = '''
import asyncio
import os
import signal
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import tasks

AT_STEP = 29


class Faulty(tasks.Teacher):
    """A task with the losses, optimizer and so on of another function in this module."""

    def __init__(self, **faults):
        super().__init__()
        self.steps = 0
        for method, name in faults.items():
            setattr(self, method, getattr(self, name))

    def losses(self, model, batch):
        self.steps += model.training
        if self.steps > AT_STEP:
            self.at_step()
        return super().losses(model, batch)

    def at_step(self):
        pass

    # losses

    def returns_none(self, *args, **kwargs):
        return None

    def returns_loss(self, model, batch):
        return tasks.Teacher.losses(self, model, batch)["ce"]

    def returns_each(self, model, batch):
        return {"ce": self.returns_loss(model, batch).expand(64)}

    def returns_float(self, model, batch):
        return {"ce": self.returns_loss(model, batch).item()}

    def returns_detached(self, model, batch):
        return {"ce": self.returns_loss(model, batch).detach()}

    def returns_complex(self, model, batch):
        return {"ce": self.returns_loss(model, batch) * 1j}

    def returns_meta(self, model, batch):
        return {"ce": self.returns_loss(model, batch).to("meta")}

    def names_by_number(self, model, batch):
        return {1: self.returns_loss(model, batch)}

    # models

    def frozen(self):
        return tasks.Teacher.model(self).requires_grad_(False)

    def lazy(self):
        return nn.Sequential(nn.LazyLinear(4))

    def on_meta(self):
        return tasks.Teacher.model(self).to("meta")

    def not_initialized(self):
        class Model(nn.Module):
            def __init__(self):
                pass

        return Model()

    def with_integers(self):
        model = tasks.Teacher.model(self)
        model.register_parameter("code", nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False))
        return model

    # optimizers

    def lbfgs(self, model, learning_rate):
        return torch.optim.LBFGS(model.parameters(), lr=learning_rate)

    def calls_closure(self, model, learning_rate):
        class Sharpness(torch.optim.SGD):
            def step(self, closure=None):
                return closure()

        return Sharpness(model.parameters(), lr=learning_rate)

    def tensor_rate(self, model, learning_rate):
        return torch.optim.AdamW(model.parameters(), lr=torch.tensor(learning_rate))

    def rate_with_gradient(self, model, learning_rate):
        return torch.optim.SGD(model.parameters(), lr=torch.tensor(learning_rate, requires_grad=True))

    def own_rate(self, model, learning_rate):
        return torch.optim.AdamW(model.parameters(), lr=0.01)

    def nan_rate(self, model, learning_rate):
        groups = [{"params": model[0].parameters(), "lr": float("nan")}, {"params": model[2].parameters()}]
        return torch.optim.AdamW(groups, lr=learning_rate)

    def no_rate(self, model, learning_rate):
        made = torch.optim.AdamW(model.parameters(), lr=learning_rate)
        del made.param_groups[0]["lr"]
        return made

    # batches

    def ends(self, batch_size, **how):
        batches = tasks.Teacher.batches(self, batch_size, **how)
        return iter([next(batches) for _ in range(AT_STEP)])

    def not_iterable(self, batch_size, **how):
        class Loader:
            def __iter__(self):
                return None

        return Loader()

    def loads(self, batch_size, **how):
        def loaded(broken=None):
            return DataLoader(Samples(broken), batch_size=batch_size, num_workers=1)

        while True:
            yield from loaded()
            yield from loaded(getattr(self, "sample", None))

    def raises_in_worker(self):
        raise KeyError("city")

    def killed_in_worker(self):
        os.kill(os.getpid(), signal.SIGKILL)

    # other methods

    def evaluates_without_model(self):
        return {}

    def lists_metrics(self, model):
        return [0.5]

    def misses_weight(self):
        return [0.5, 0.5]

    # at step 29

    def interrupts(self):
        raise KeyboardInterrupt

    def exits_with_text(self):
        sys.exit("no labels")

    def stops(self):
        next(iter(()))

    def raises_odd(self):
        raise Odd

    def raises_group(self):
        async def read():
            raise ValueError("no labels")

        async def read_all():
            async with asyncio.TaskGroup() as group:
                group.create_task(read())

        asyncio.run(read_all())

    def asks(self):
        input("Continue? ")

    def debugs(self):
        breakpoint()

    def closes_streams(self):
        sys.stdout.close()
        sys.stderr.close()
        raise ValueError("no labels")

    def removes_streams(self):
        sys.stdout = sys.stderr = None

    def exits_at_once(self):
        os._exit(3)

    def default_dtype(self):
        torch.set_default_dtype(torch.float64)


class Odd(BaseException):
    def __str__(self):
        raise Odd


class Samples(Dataset):
    """Cannot be pickled, as a data set with an open file."""

    def __init__(self, broken):
        self.broken, self.pick = broken, lambda index: index % 4

    def __len__(self):
        return 64 * 20

    def __getitem__(self, index):
        if self.broken:
            self.broken()
        points = torch.randn(tasks.FEATURES, generator=torch.Generator().manual_seed(index))
        return {"points": points, "labels": (points[None] @ tasks.Teacher().teacher).argmax(1)[0]}
'''
INVALID = "error (invalid-task)"
RAISED = "error (exception)"
PROMOTED = "no rise in 40 points: loss fell from ... to ...; a lasting rise by ... would have been detected"
NO_TERMS = "losses(model, batch) returned {}: it must map at least one name to a scalar (before the first step)"

BY_ARGS: dict[str, Fault] = {
    args: Fault(name=name, happens=happens, verdict=verdict, sentence=sentence)
    for args, name, happens, verdict, sentence in (
        (
            "losses: returns_none",
            "losses-none",
            "`losses` returns nothing",
            INVALID,
            NO_TERMS.format("NoneType"),
        ),
        (
            "losses: returns_loss",
            "losses-tensor",
            "`losses` returns a tensor without a name",
            INVALID,
            NO_TERMS.format("Tensor"),
        ),
        (
            "losses: returns_each",
            "losses-shape",
            "`losses` returns the loss of each sample",
            INVALID,
            "loss term 'ce' has shape (64,): it must be a scalar (before the first step)",
        ),
        (
            "losses: returns_float",
            "losses-float",
            "`losses` returns a float",
            INVALID,
            "loss term 'ce' is float, not a tensor (before the first step)",
        ),
        (
            "losses: returns_detached",
            "losses-detached",
            "`losses` detaches its loss",
            INVALID,
            "no loss term has a gradient (ce): is a loss detached? (before the first step)",
        ),
        (
            "losses: returns_complex",
            "losses-complex",
            "A loss is a complex number",
            INVALID,
            "loss term 'ce' is a complex number: take its real part or its absolute value (before the first step)",
        ),
        (
            "losses: returns_meta",
            "losses-meta",
            "A loss is on the meta device",
            INVALID,
            "loss term 'ce' is on the meta device and has no value (before the first step)",
        ),
        (
            "losses: names_by_number",
            "losses-number",
            "The name of a loss term is not text",
            INVALID,
            "losses(model, batch) named a term 1 (int): names must be text, not empty (before the first step)",
        ),
        (
            "model: returns_none",
            "model-none",
            "`model` returns nothing",
            INVALID,
            "model() returned NoneType, not a torch.nn.Module (before the first step)",
        ),
        (
            "model: frozen",
            "model-frozen",
            "All parameters are frozen",
            INVALID,
            "the model has no parameter that requires a gradient: there is nothing to train (before the first step)",
        ),
        (
            "model: lazy",
            "model-lazy",
            "A module is lazy: its parameters have no shape before the first batch",
            INVALID,
            "0.weight belongs to a lazy module and has no shape yet: let model() pass one batch through the model "
            "(before the first step)",
        ),
        (
            "model: on_meta",
            "model-meta",
            "The model is on the meta device",
            INVALID,
            "0.weight is on the meta device and has no values: let model() call to_empty(device='cpu') and initialize "
            "the parameters (before the first step)",
        ),
        (
            "model: not_initialized",
            "model-not-initialized",
            "The model's `__init__` does not call that of `nn.Module`",
            INVALID,
            "model() returned Model, whose __init__ does not call super().__init__() (before the first step)",
        ),
        (
            "model: with_integers",
            "model-integers",
            "Some parameters are integers, as quantized weights are",
            "promote",
            PROMOTED,
        ),
        (
            "optimizer: returns_none",
            "optimizer-none",
            "`optimizer` returns nothing",
            INVALID,
            "optimizer(model, learning_rate) returned NoneType, not a torch.optim.Optimizer (before the first step)",
        ),
        (
            "optimizer: lbfgs",
            "optimizer-lbfgs",
            "The optimizer is L-BFGS",
            INVALID,
            "LBFGS.step() needs a closure that computes the loss again, and a smoke run computes it once per step: use "
            "another optimizer (before the first step)",
        ),
        (
            "optimizer: calls_closure",
            "optimizer-closure",
            "An optimizer calls a closure that it is not given",
            INVALID,
            "Sharpness.step() needs a closure that computes the loss again, and a smoke run computes it once per step: "
            "use another optimizer at faulty.py:... (before the first step)",
        ),
        (
            "optimizer: tensor_rate",
            "optimizer-tensor-rate",
            "The learning rate is a tensor in float32",
            "promote",
            PROMOTED,
        ),
        (
            "optimizer: rate_with_gradient",
            "optimizer-rate-gradient",
            "The learning rate is a tensor that requires a gradient",
            "promote (no-progress)",
            "loss did not improve on its initial level ...",
        ),
        (
            "optimizer: own_rate",
            "optimizer-own-rate",
            "The optimizer has another learning rate than it was given",
            INVALID,
            "optimizer(model, learning_rate=0.003) made parameter groups with lr 0.01: at least one must have the "
            "given learning rate, or the recipe's schedule does not apply (before the first step)",
        ),
        (
            "optimizer: nan_rate",
            "optimizer-nan-rate",
            "A learning rate is NaN",
            INVALID,
            "optimizer(model, learning_rate=0.003) made parameter groups with lr nan and 0.003: every one must be "
            "finite and not negative (before the first step)",
        ),
        (
            "optimizer: no_rate",
            "optimizer-no-rate",
            "A parameter group has no learning rate",
            INVALID,
            "optimizer(model, learning_rate) made parameter groups with lr [None]: each must have one number (before "
            "the first step)",
        ),
        (
            "batches: returns_none",
            "batches-none",
            "`batches` returns nothing",
            INVALID,
            "batches() returned NoneType: it must return an iterator over micro-batches (before the first step)",
        ),
        (
            "batches: not_iterable",
            "batches-not-iterable",
            "`batches` returns a loader without an iterator",
            INVALID,
            "batches() returned Loader, which cannot be iterated over: iter() returned non-iterator of type 'NoneType' "
            "(before the first step)",
        ),
        (
            "batches: ends",
            "batches-end",
            "The batches end after 29 steps",
            INVALID,
            "batches() ended: it must return an infinite iterator (after step 28)",
        ),
        (
            "batches: loads",
            "worker-lambda",
            "The data set of a data loader's worker cannot be pickled",
            "promote",
            PROMOTED,
        ),
        (
            "batches: loads, sample: raises_in_worker",
            "worker-raises",
            "An exception is raised in a data loader's worker",
            RAISED,
            "KeyError: 'city' (in DataLoader worker process 0) at faulty.py:... (after step 19)",
        ),
        (
            "batches: loads, sample: killed_in_worker",
            "worker-killed",
            "A data loader's worker is killed",
            RAISED,
            "RuntimeError: DataLoader worker ... at faulty.py:... (after step 19)",
        ),
        (
            "evaluate: evaluates_without_model",
            "evaluate-arguments",
            "A method does not take the arguments that it is called with",
            INVALID,
            "evaluate cannot be called as evaluate(model): too many positional arguments (before the first step)",
        ),
        (
            "evaluate: lists_metrics",
            "evaluate-list",
            "`evaluate` returns a list",
            INVALID,
            "evaluate(model) returned [0.5]: it must map metric names to numbers (before the first step)",
        ),
        (
            "probe_batch: returns_none",
            "probe-batch-none",
            "`probe_batch` returns nothing",
            INVALID,
            "probe_batch() returned None: it must return one micro-batch (before the first step)",
        ),
        (
            "loss_weights: misses_weight",
            "loss-weights-method",
            "`loss_weights` is a method",
            INVALID,
            "loss_weights is a method: it must be a mapping from loss terms to numbers (before the first step)",
        ),
        (
            "at_step: interrupts",
            "keyboard-interrupt",
            "The task raises KeyboardInterrupt at step 29",
            RAISED,
            "KeyboardInterrupt at faulty.py:... (after step 28)",
        ),
        (
            "at_step: exits_with_text",
            "exits-with-text",
            "The task calls `sys.exit` with a text at step 29",
            RAISED,
            "SystemExit: no labels at faulty.py:... (after step 28)",
        ),
        (
            "at_step: stops",
            "stop-iteration",
            "`next` is called on an iterator that is at its end",
            RAISED,
            "RuntimeError: generator raised StopIteration at faulty.py:... (after step 28)",
        ),
        (
            "at_step: raises_odd",
            "base-exception",
            "The message of an exception cannot be computed, and its class is not a subclass of `Exception`",
            RAISED,
            "Odd: (its message cannot be shown: Odd) at faulty.py:... (after step 28)",
        ),
        (
            "at_step: raises_group",
            "exception-group",
            "A task of asyncio raises",
            RAISED,
            "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception): ValueError: no labels at "
            "faulty.py:... (after step 28)",
        ),
        (
            "at_step: asks",
            "standard-input",
            "The task reads standard input",
            RAISED,
            "EOFError: EOF when reading a line at faulty.py:... (after step 28)",
        ),
        (
            "at_step: debugs",
            "breakpoint",
            "The task calls `breakpoint()`",
            RAISED,
            "BdbQuit at faulty.py:... (after step 28)",
        ),
        (
            "at_step: closes_streams",
            "closed-streams",
            "The task closes the standard streams, and raises",
            RAISED,
            "ValueError: no labels at faulty.py:... (after step 28)",
        ),
        (
            "at_step: removes_streams",
            "no-streams",
            "The task sets the standard streams to None",
            "promote",
            PROMOTED,
        ),
        (
            "at_step: exits_at_once",
            "exits-at-once-at-step",
            "The task calls `os._exit(3)` at step 29",
            "error (crash)",
            "the training process failed: it ended with exit status 3 (after step 28...)",
        ),
        (
            "at_step: default_dtype",
            "default-dtype",
            "The task changes torch's default dtype",
            RAISED,
            "RuntimeError: ... at tasks.py:... (after step 29)",
        ),
    )
}
"""Rows by the methods of a `Faulty` task that are replaced, as the recipe's `args`."""
FAULTS = tuple(BY_ARGS.values())


@pytest.fixture(scope="module")
def outcomes(fault_session: Callable[[str], FaultSession]) -> dict[str, dict[str, Any]]:
    """Run every fault in one session."""
    with fault_session("tasks") as session:
        (session.path / "faulty.py").write_text(TASK)
        base = SHORT_RECIPE.replace("tasks:Teacher", "faulty:Faulty")
        for args, fault in BY_ARGS.items():
            session.recipe(fault.name, f"args: {{{args}}}\n", base=base)
        session.recipe("zz-healthy")
        session.pytest("--smoke", "--smoke-report", "out", "--smoke-timeout", "60")
        return session.outcomes()


@rows(FAULTS)
def test_what_a_task_does_wrong(fault: Fault, outcomes: dict[str, dict[str, Any]]) -> None:
    assert_outcome(fault, outcomes[fault.name])


def test_a_healthy_run_after_them_is_promoted(outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes["zz-healthy"]["verdict"] == "promote"
