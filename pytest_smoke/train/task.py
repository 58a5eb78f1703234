"""Load a task and call its optional hooks; what they return is checked here."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from operator import index
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_smoke.allowed import PROJECT_ONLY, AllowedCode, outside_fault
from pytest_smoke.data_files import data_digest
from pytest_smoke.errors import TaskError
from pytest_smoke.events import DataFiles
from pytest_smoke.files import read_failure
from pytest_smoke.task import Task
from pytest_smoke.text import closest, listed
from pytest_smoke.train.hooks import has_hook, hook_of
from pytest_smoke.train.learning_rates import same_rate
from pytest_smoke.train.sharding import is_sharded

PROBE_SAMPLES = 64
"""Samples of the default probe batch, at least: its standard error is an eighth of one sample's standard deviation."""
PROBE_SEED_OFFSET = 1_000_003
"""Added to the seed of the default probe batch, so that it differs from the training batches."""
REQUIRED = ("model", "batches", "losses")
"""Methods that every task has."""
OPTIONAL = (
    *("loss_weights", "optimizer", "counts", "evaluate", "probe_batch", "sources", "on_stage_start", "predictions"),
    *("example_inputs", "dynamic_shapes", "labels", "largest_batch", "data_files", "parallelize"),
)
"""Hooks that a task may have."""
CALLS = {
    "model": (),
    "losses": ("model", "batch"),
    "optimizer": ("model", "learning_rate"),
    "counts": ("batch",),
    "evaluate": ("model",),
    "predictions": ("model",),
    "probe_batch": (),
    "largest_batch": (),
    "sources": ("batch",),
    "on_stage_start": ("model", "stage", "phase"),
    "example_inputs": (),
    "dynamic_shapes": (),
    "parallelize": ("model", "mesh"),
}
"""Arguments that a method or hook is called with, by position. `batches` has keywords, see `loader_of`."""
NOT_CALLABLE = ("loss_weights",)
"""Hooks that are no method."""
MAX_DATA_FILES = 1000
"""Files and folders that `data_files` may name. A receipt has a line for each."""
MISSPELT_SIMILARITY = 0.8
"""Similarity (`difflib`) to an optional hook from which a name is taken for a misspelt one."""


def load_task(reference: str, args: Mapping[str, Any], *, root: Path, allowed: AllowedCode = PROJECT_ONLY) -> Task:
    """Import `package.module:Name` and call it with `args`.

    Raises TaskError if the name does not exist, is not a class or function that a task can be, does not accept the
    arguments, lacks a required method or misspells an optional one.
    Whatever the module or the call raises comes out, too. See `call_factory` for `root` and `allowed`.
    """
    task = call_factory(reference, args, root=root, allowed=allowed)
    missing = [f"{method}()" for method in REQUIRED if not callable(hook_of(task, method))]
    if missing:
        raise TaskError(f"{reference} is not a task: it lacks {listed(missing)}")
    for hook, arguments in CALLS.items():
        _check_call(task, hook, arguments)
    absent = [hook for hook in OPTIONAL if not has_hook(task, hook)]
    for attribute in dir(task):
        if attribute.startswith("_") or attribute in (*REQUIRED, *OPTIONAL):
            continue
        near = closest(attribute, absent, cutoff=MISSPELT_SIMILARITY)
        # A file name in `self.source` is not a misspelt sources().
        if near is not None and callable(getattr(task, attribute)) == (near not in NOT_CALLABLE):
            raise TaskError(f"{reference} has {attribute!r}, which is never called; did you mean {near!r}?")
    return task  # type: ignore[no-any-return]  # checked above as far as a protocol can be at run time


def _check_call(task: Any, hook: str, arguments: tuple[str, ...]) -> None:
    """Raise TaskError if a hook of a task cannot be called with these arguments. A property is not evaluated."""
    if not has_hook(task, hook) or isinstance(inspect.getattr_static(task, hook, None), property):
        return
    method = hook_of(task, hook)
    if method is None:  # how a subclass takes a hook away
        return
    if not callable(method):
        raise TaskError(f"{hook} is {method!r:.200}: it must be a method {hook}({', '.join(arguments)})")
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # implemented in C
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise TaskError(f"{hook} cannot be called as {hook}({', '.join(arguments)}): {error}") from None


def call_factory(
    reference: str,
    args: Mapping[str, Any],
    *,
    root: Path,
    key: str = "task",
    allowed: AllowedCode = PROJECT_ONLY,
) -> Any:
    """Import `package.module:Name` and call it with `args`.

    `key` is the recipe key that names it. What it names must be defined below `root`, or in a module that `allowed`
    names: a module may have imported it, and `torch.load` executes what is in a file. A class with the methods of a
    task may be from anywhere. Raises TaskError if the name does not exist, is not such a class or function, or does not
    accept the arguments, and whatever the module or the call raises.
    """
    module_name, _, name = reference.partition(":")
    module = importlib.import_module(module_name)
    try:
        factory = getattr(module, name)
    except AttributeError:
        raise TaskError(f"{module.__file__} has no {name!r}") from None
    fault = _factory_fault(factory, root, allowed)
    if fault:
        raise TaskError(f"{key} {reference} {fault}", key=key)
    try:
        inspect.signature(factory).bind(**args)
    except TypeError as error:
        text = f"{reference} does not take the recipe's args {dict(args)}: {error}"
        raise TaskError(text, key="args") from None
    return factory(**args)


def _factory_fault(factory: Any, root: Path, allowed: AllowedCode) -> str:
    """Say why calling `factory` must not be tried; empty if it may."""
    if not callable(factory):
        return f"is a {type(factory).__name__}; it must be a class, or a function that returns an object"
    while isinstance(factory, functools.partial):
        factory = factory.func
    # What a decorator returns may be an object of the decorator's module; `functools.wraps` gives it that of the
    # function. Methods implemented in C have no module of their own.
    name = getattr(factory, "__module__", None) or getattr(type(getattr(factory, "__self__", None)), "__module__", "")
    module = sys.modules.get(str(name))
    file = getattr(module, "__file__", None)
    shown = getattr(factory, "__qualname__", type(factory).__qualname__)
    if _is_of_python(file):
        return f"is {shown} of Python's standard library; it must be your own class or function"
    if allowed.allows_module(str(name), file, root):
        return ""
    if inspect.isclass(factory) and all(callable(getattr(factory, method, None)) for method in REQUIRED):
        return ""
    return f"is {shown} of {name}, which {outside_fault(str(name), file, root)}"


def _is_of_python(file: str | None) -> bool:
    return file is None or _is_in_standard_library(Path(file))


def _is_in_standard_library(file: Path) -> bool:
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    installed = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    return any(map(file.is_relative_to, folders)) and not (
        any(map(file.is_relative_to, installed)) or {"site-packages", "dist-packages"} & set(file.parts)
    )


def optimizer_of(task: Task, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Return the task's optimizer, or AdamW. Raises TaskError if no parameter group has `learning_rate`."""
    make = hook_of(task, "optimizer")
    if make is None:
        # The fused kernel needs no host synchronization if a loss scaler decides whether to step.
        trainable = [p for p in model.parameters() if p.requires_grad]
        # It takes no DTensors together with other parameters.
        groups = [[p for p in trainable if is_sharded(p) == sharded] for sharded in (False, True)]
        return torch.optim.AdamW(
            [{"params": group} for group in groups if group], lr=learning_rate, fused=trainable[0].is_cuda
        )
    optimizer = make(model, learning_rate)
    if not isinstance(optimizer, torch.optim.Optimizer):
        shown = type(optimizer).__name__
        raise TaskError(f"optimizer(model, learning_rate) returned {shown}, not a torch.optim.Optimizer")
    kind = type(optimizer).__name__
    if not isinstance(hook_of(optimizer, "param_groups"), list):
        raise TaskError(
            f"optimizer(model, learning_rate) returned {kind}, whose __init__ does not call super().__init__()"
        )
    if needs_closure(optimizer):
        raise TaskError(closure_fault(optimizer))
    try:
        rates = list(dict.fromkeys(float(group["lr"]) for group in optimizer.param_groups))
    except (KeyError, TypeError, ValueError, RuntimeError):  # a tensor of several values raises the last one
        made = [group.get("lr") for group in optimizer.param_groups]
        text = f"optimizer(model, learning_rate) made parameter groups with lr {made!r:.200}: each must have one number"
        raise TaskError(text) from None
    if not all(0 <= rate < float("inf") for rate in rates):
        given = listed(f"{rate:g}" for rate in rates)
        raise TaskError(
            f"optimizer(model, learning_rate={learning_rate:g}) made parameter groups with lr {given}: every one must "
            "be finite and not negative"
        )
    if not any(same_rate(rate, learning_rate) for rate in rates):
        given = listed(f"{rate:g}" for rate in rates)
        raise TaskError(
            f"optimizer(model, learning_rate={learning_rate:g}) made parameter groups with lr {given}: at least one "
            "must have the given learning rate, or the recipe's schedule does not apply"
        )
    return optimizer


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether `optimizer.step` cannot be called without a function that computes the loss again."""
    try:
        closure = inspect.signature(optimizer.step).parameters.get("closure")
    except (TypeError, ValueError):  # a step without a signature
        return False
    return closure is not None and closure.default is inspect.Parameter.empty


def closure_fault(optimizer: torch.optim.Optimizer) -> str:
    """Say why an optimizer that needs a closure cannot be used."""
    return (
        f"{type(optimizer).__name__}.step() needs a closure that computes the loss again, and a smoke run computes it "
        "once per step: use another optimizer"
    )


def loss_weights_of(task: Task) -> dict[str, float]:
    """Return the task's weights of loss terms; empty if it has none. Raises TaskError if they have another form."""
    given = hook_of(task, "loss_weights")
    if given is None:
        return {}
    try:
        return {name: float(weight) for name, weight in given.items()}
    except (AttributeError, TypeError, ValueError):
        shown = "a method" if inspect.ismethod(given) else f"{given!r:.200}"
        raise TaskError(f"loss_weights is {shown}: it must be a mapping from loss terms to numbers") from None


def loader_of(task: Task, batch_size: int, **how: int) -> Iterable[Any]:
    """Return what `batches` returns. Raises TaskError if it does not take the arguments, or returns nothing to draw."""
    try:
        inspect.signature(task.batches).bind(batch_size, **how)
    except TypeError as error:
        raise TaskError(f"batches cannot be called as batches(batch_size, *, {', '.join(how)}): {error}") from None
    loader = task.batches(batch_size, **how)
    if not isinstance(loader, Iterable):
        raise TaskError(f"batches() returned {type(loader).__name__}: it must return an iterator over micro-batches")
    return loader


def counts_of(task: Task, batch: Any, terms: tuple[str, ...]) -> list[float]:
    """Return how many items each term of a micro-batch is a mean over.

    Raises TaskError for a count that is missing, negative or not finite.
    """
    count = hook_of(task, "counts")
    if count is None:
        return [1.0] * len(terms)
    given = count(batch)
    try:
        counts = [float(given[term]) if isinstance(given, Mapping) else float(given) for term in terms]
    except KeyError as missing:
        raise TaskError(f"counts(batch) has no entry for the loss term {missing}, only for {listed(given)}") from None
    except (TypeError, ValueError, RuntimeError):  # a tensor of several values raises the last one
        raise TaskError(
            f"counts(batch) returned {given!r:.200}: it must return one number, or one number per loss term"
        ) from None
    if any(not 0 <= items < float("inf") for items in counts):
        raise TaskError(f"counts(batch) returned {given!r}: every count must be finite and not negative")
    return counts


def data_files_of(owner: Any, root: str) -> DataFiles | None:
    """Return the digests of the files and folders that a task or trainer names; None if it has no `data_files`.

    Paths are relative to `root`. Raises TaskError for another form, and for data that cannot be read.
    """
    given = hook_of(owner, "data_files")
    if given is None:
        return None
    named = given() if callable(given) else given
    if isinstance(named, str | os.PathLike):
        named = [named]
    paths: list[Any] = list(named) if isinstance(named, Iterable) else [None]
    if not all(isinstance(path, str | os.PathLike) for path in paths):
        raise TaskError(f"data_files returned {named!r:.200}: it must return the paths of files and folders")
    if len(paths) > MAX_DATA_FILES:
        text = (
            f"data_files names {len(paths):,} files, and may name {MAX_DATA_FILES:,}: name their folder, which is one"
        )
        raise TaskError(text)
    digests: dict[str, dict[str, Any]] = {}
    base = os.path.join(root, "")
    for path in paths:
        file = os.path.normpath(os.path.join(root, path))
        try:
            digest = data_digest(Path(file))
        except OSError as error:
            raise TaskError(f"data_files names {error.filename}: {read_failure(error)}") from None
        digests[file.removeprefix(base).replace(os.sep, "/")] = digest.to_dict()
    return DataFiles(digests)


def sources_of(task: Task, batch: Any) -> dict[str, int]:
    """Return the samples by source in a micro-batch. Raises TaskError if `sources` names none or has another form."""
    given = task.sources(batch)  # type: ignore[attr-defined]  # optional, and only called if it is there
    try:
        if isinstance(given, Mapping):
            counts = {source: index(count) for source, count in given.items()}
        else:
            counts = dict(Counter(() if isinstance(given, str) else given))
        if all(isinstance(source, str) for source in counts) and sum(counts.values()) > 0 <= min(counts.values()):
            return counts
    except TypeError:
        pass
    raise TaskError(
        f"sources(batch) returned {given!r:.200}: it must map source names to numbers of samples, or list the source "
        "of each sample, and count at least one"
    )


def probe_batches_of(task: Task, batch_size: int, *, seed: int) -> list[Any]:
    """Return the task's probe batch, or micro-batches of at least `PROBE_SAMPLES` samples, from another seed.

    Raises TaskError.
    """
    own = hook_of(task, "probe_batch")
    if own is not None:
        batch = own()
        if batch is None:
            raise TaskError("probe_batch() returned None: it must return one micro-batch")
        return [batch]
    count = -(-PROBE_SAMPLES // batch_size)
    return list(islice(task.batches(batch_size, seed=seed + PROBE_SEED_OFFSET), count))


def metrics_of(returned: Any) -> dict[str, float]:
    """Return what `evaluate` returned as numbers by name. Raises TaskError if it has another form."""
    try:
        return {str(name): float(value) for name, value in returned.items()}
    except (AttributeError, TypeError, ValueError):
        raise TaskError(f"evaluate(model) returned {returned!r:.200}: it must map metric names to numbers") from None
