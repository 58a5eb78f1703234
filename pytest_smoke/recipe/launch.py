"""The recipe key `launch`: how many processes train one smoke run together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Annotated, Any

from pydantic import Field

from pytest_smoke.recipe.fields import Count, Frozen
from pytest_smoke.text import listed

SUGGESTED = 3
"""Numbers of processes that a message suggests."""
MAX_PROCESSES = 256
"""Processes of one run, at most: more than any machine has accelerators."""
INSTEAD = {
    "command": "let the command start them, as in [torchrun, --nproc_per_node={world_size}, train.py]",
    "hf": "train with a task, or start the trainer with torchrun as a command",
    "lightning": "train with a task, or start the trainer with torchrun as a command",
}
"""How recipes that train in another way get several processes."""


class Launch(Frozen):
    """Processes that train one smoke run together, each on a device of its own."""

    nproc_per_node: Annotated[int, Field(ge=1, le=MAX_PROCESSES)] = 1
    """Processes on this machine. On CUDA each needs a device; on a CPU they share it. `world_size` must be a multiple:
    each process accumulates the batches of as many data-parallel devices as the others."""
    nnodes: Count = 1
    """Machines. Only 1 is possible."""


def launch_faults(
    launch: Launch, *, trainer: str, world_sizes: Mapping[tuple[str, ...], int], data: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what makes a launch impossible: the keys to blame, and a sentence.

    `world_sizes`: each world size that a run of the recipe has, by the keys that set it.
    """
    if launch.nnodes > 1:
        text = (
            f"launch.nnodes is {launch.nnodes}, and a smoke run starts processes on one machine only; set it to 1, or "
            "let a scheduler start the others, with a command such as [srun, --ntasks-per-node=1, ./train.sh]"
        )
        yield ("launch", "nnodes"), text
    if trainer in INSTEAD:
        yield (
            ("launch",),
            f"launch starts processes for a task, and this recipe trains with {trainer}; {INSTEAD[trainer]}",
        )
        return
    processes = launch.nproc_per_node
    for keys, world_size in world_sizes.items():
        if world_size % processes:
            text = (
                f"world_size is {world_size}, which {processes} processes cannot share equally; set "
                f"launch.nproc_per_node to {_divisors_near(world_size, processes)}, or world_size to "
                f"{processes * ceil(world_size / processes)} (effective batch = batch_size x grad_accum_steps x "
                "world_size)"
            )
            yield keys, text
    requires = data.get("requires")
    gpus = requires.get("gpus") if isinstance(requires, Mapping) else None
    if gpus and processes > 1 and gpus != processes:
        text = (
            f"requires.gpus is {gpus}, and launch starts {processes} processes with one GPU each; remove requires.gpus "
            "(`requires: {device: cuda}` keeps the run off the CPU), or change launch.nproc_per_node"
        )
        yield ("requires", "gpus"), text


def _divisors_near(world_size: int, processes: int) -> str:
    """Return the numbers of processes, nearest to `processes`, that can share a world size: `2, 4 or 8`."""
    divisors = [number for number in range(1, min(world_size, MAX_PROCESSES) + 1) if world_size % number == 0]
    nearest = sorted(sorted(divisors, key=lambda number: abs(number - processes))[:SUGGESTED])
    return " or ".join(listed(nearest).rsplit(" and ", 1))
