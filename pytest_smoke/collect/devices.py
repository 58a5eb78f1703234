"""What the machine has against what a smoke run or a test needs."""

from __future__ import annotations

import pytest

from pytest_smoke.errors import ChildDiedError
from pytest_smoke.options import skip_or_fail
from pytest_smoke.recipe.model import Requires
from pytest_smoke.text import count
from pytest_smoke.train.launch import accelerators


def need_device(requires: Requires, config: pytest.Config) -> str:
    """Return the device to run on. Skips the test (fails it under --smoke-strict) if the machine lacks it."""
    chosen: str = config.option.smoke_device
    kind = chosen.partition(":")[0]
    if requires.device == "any" and not requires.memory_gib:
        return chosen
    if requires.device != "any" and kind not in ("auto", requires.device):
        skip_or_fail(f"needs {requires.device}, but --smoke-device is {chosen}", config)
    if requires.device == "cpu":
        return "cpu"
    wanted = (requires.device,) if requires.device != "any" else ("cuda", "mps") if kind == "auto" else (kind,)
    usable = need_accelerators(config, kinds=wanted, amount=1, memory_gib=requires.memory_gib, named=chosen)
    return usable[0] if kind == "auto" else chosen


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
    usable = [
        device["id"]
        for device in found
        if device["kind"] in kinds
        and device["memory_gib"] >= memory_gib
        and (":" not in named or device["id"] == named)
    ]
    if len(usable) < amount:
        seen = ", ".join(f"{device['name']} ({device['memory_gib']:.0f} GiB)" for device in found) or "none"
        memory = f" with {memory_gib:g} GiB" if memory_gib else ""
        which = f" as {named}" if ":" in named else ""
        needed = count(amount, f"{' or '.join(kinds)} device")
        skip_or_fail(f"needs {needed}{memory}{which}; torch sees: {seen}", config)
    return usable
