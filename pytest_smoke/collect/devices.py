"""What the machine has against what a smoke run or a test needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.errors import ChildDiedError
from pytest_smoke.options import skip_or_fail
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe, Requires
from pytest_smoke.text import count
from pytest_smoke.train.device_pool import DevicePool, Need, environment_of, shared_folder, slots_needed
from pytest_smoke.train.launch import accelerators

DEVICE_FILES = ("nvidia[0-9]*", "nvhost-*", "nvgpu*", "kfd", "dxg")
"""Names in `/dev` of what CUDA and ROCm need: GPUs, parts of Jetson modules, AMD's driver, and Windows' under WSL."""


def need_device(recipe: Recipe, config: pytest.Config) -> str:
    """Return the device to run on. Skips the test (fails it under --smoke-strict) if the machine lacks it."""
    requires = recipe.requires
    chosen: str = config.option.smoke_device
    kind = chosen.partition(":")[0]
    if requires.kind == "any" and not requires.memory_gib:
        if recipe.processes > 1 and (kind == "cuda" or (kind == "auto" and _has_cuda())):
            need_accelerators(config, kinds=("cuda",), amount=recipe.gpus, memory_gib=0.0, named=chosen)
        return chosen
    if requires.kind not in ("any", kind) and kind != "auto":
        skip_or_fail(f"needs {requires.kind}, but --smoke-device is {chosen}", config)
    if requires.kind == "cpu":
        return "cpu"
    usable = need_accelerators(
        config, kinds=_kinds(requires, kind), amount=recipe.gpus, memory_gib=requires.memory_gib, named=chosen
    )
    return _named(usable[0], recipe) if kind == "auto" else chosen


def _named(device: str, recipe: Recipe) -> str:
    """Return the name of what a run uses whose first device is `device`: each process of a launch takes its own."""
    return device.partition(":")[0] if recipe.processes > 1 else device


def _has_cuda() -> bool:
    try:
        return _may_have_gpu() and any(one["kind"] == "cuda" for one in accelerators())
    except ChildDiedError:
        return False  # the run says what is wrong with torch


@contextmanager
def held_device(case: Case, config: pytest.Config, device: str, on_wait: Callable[[str], object]) -> Iterator[str]:
    """Wait for devices that no other run uses, hold them for the block, and yield the name that the run has for them.

    In a worker of pytest-xdist; in any other process, and without accelerators, `device` is what it was.
    """
    recipe, isolated = case.recipe, config.option.smoke_isolation == "process"
    found = {one["key"]: one for one in _pooled(recipe, config)}
    if not found:
        yield device
        return
    amount = recipe.gpus
    # Processes that communicate with each other need whole devices.
    shared_gib = recipe.requires.memory_gib if amount == 1 else 0.0
    slots = {key: slots_needed(shared_gib, one["memory_gib"]) for key, one in found.items()}
    pool = DevicePool(shared_folder())
    what = f"waiting for {count(amount, 'GPU') if amount > 1 else 'a GPU'} that no other run uses"
    with ExitStack() as stack:
        granted = stack.enter_context(pool.held(Need(amount, slots), lambda: on_wait(what)))
        names = [found[key]["id"] for key in granted]
        indices = [int(name.partition(":")[2]) for name in names if name.startswith("cuda:")]
        stack.enter_context(environment_of(pool.paths(granted), indices if isolated else []))
        yield _named("cuda:0" if isolated and indices else names[0], recipe)


def _kinds(requires: Requires, chosen: str) -> tuple[str, ...]:
    """Return the kinds of accelerator that a run may use."""
    return (requires.kind,) if requires.kind != "any" else ("cuda", "mps") if chosen == "auto" else (chosen,)


def _pooled(recipe: Recipe, config: pytest.Config) -> list[dict[str, Any]]:
    """Return the accelerators that a run could use, each with a key that is its own on this machine."""
    requires = recipe.requires
    chosen: str = config.option.smoke_device
    kind = chosen.partition(":")[0]
    if not hasattr(config, "workerinput") or "cpu" in (kind, requires.kind):
        return []
    if recipe.trainer == "command" and requires.kind == "any" and not requires.memory_gib and not _may_have_gpu():
        return []  # to ask torch would import it, which a command may not need
    try:
        seen = accelerators()
    except ChildDiedError:
        return []  # as if there were none; the run says what is wrong with torch
    found = [one for one in seen if _is_usable(one, _kinds(requires, kind), requires.memory_gib, named=chosen)]
    return found if len(found) >= recipe.gpus else []


def _may_have_gpu() -> bool:
    """Tell whether the machine may have a GPU, without asking its driver."""
    return sys.platform != "linux" or any(True for name in DEVICE_FILES for _ in Path("/dev").glob(name))


def _is_usable(device: Mapping[str, Any], kinds: Sequence[str], memory_gib: float, *, named: str) -> bool:
    return (
        device["kind"] in kinds and device["memory_gib"] >= memory_gib and (":" not in named or device["id"] == named)
    )


def need_gpus(mark: pytest.Mark, config: pytest.Config) -> None:
    """Honour the marker `gpu(count=1, memory_gib=0)`. Raises UsageError for other arguments."""
    given = {**dict(zip(("count", "memory_gib"), mark.args, strict=False)), **mark.kwargs}
    unknown = [name for name in given if name not in ("count", "memory_gib")]
    if unknown or len(mark.args) > 2:
        raise pytest.UsageError(f"marker gpu got {unknown or mark.args}; it takes count and memory_gib")
    need_accelerators(config, kinds=("cuda",), amount=given.get("count", 1), memory_gib=given.get("memory_gib", 0.0))


def need_accelerators(
    config: pytest.Config, *, kinds: tuple[str, ...], amount: int, memory_gib: float, named: str = ""
) -> list[str]:
    """Return the devices of one of `kinds` with `memory_gib` GiB each, only `named` if it has an index.

    Skips the test (fails it under --smoke-strict) unless torch sees `amount` of them.
    """
    try:
        found = accelerators()
    except ChildDiedError as error:
        pytest.fail(f"torch could not list its devices: {error}", pytrace=False)
    usable = [device["id"] for device in found if _is_usable(device, kinds, memory_gib, named=named)]
    if len(usable) < amount:
        seen = ", ".join(f"{device['name']} ({device['memory_gib']:.0f} GiB)" for device in found) or "none"
        memory = f" with {memory_gib:g} GiB" if memory_gib else ""
        which = f" as {named}" if ":" in named else ""
        needed = count(amount, f"{' or '.join(kinds)} device")
        skip_or_fail(f"needs {needed}{memory}{which}; torch sees: {seen}", config)
    return usable
