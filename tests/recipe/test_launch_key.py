"""The recipe key `launch`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

FULL = "full: {batch_size: 8, learning_rate: 0.1, max_steps: 1000, world_size: 4}\n"
SMOKE = "smoke: {max_steps: 400}\n"
TASK = "task: a_task:Task\n"
TWO = "launch: {nproc_per_node: 2, nnodes: 1}\n"


@pytest.mark.parametrize(
    "launch",
    [
        TWO,
        "launch: {nproc_per_node: 4}\n",
        "launch: {}\n",
        "launch: {nnodes: 1}\n",
        TWO + "requires: {gpus: 2}\n",
        TWO + "requires: {device: cuda}\n",
        "launch: {nproc_per_node: 1}\nrequires: {gpus: 4}\n",
    ],
)
def test_processes_that_share_the_world_size_equally_are_accepted(
    faults: Callable[..., list[str]], launch: str
) -> None:
    assert faults(TASK + FULL + SMOKE + launch) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            TASK + FULL + SMOKE + "launch: {nproc_per_node: 3}\n",
            "2:72: world_size is 4, which 3 processes cannot share equally; set launch.nproc_per_node to 1, 2 or 4, or "
            "world_size to 6 (effective",
        ),
        (
            TASK + FULL + "smoke: {max_steps: 400, world_size: 1, grad_accum_steps: 4}\n" + TWO,
            "3:37: world_size is 1, which 2 processes cannot share equally; set launch.nproc_per_node to 1, or "
            "world_size to 2 (",
        ),
        (
            TASK + FULL + SMOKE + TWO + "ablate: {odd: {full.world_size: 3}}\n",
            "5:33: world_size is 3, which 2 processes cannot share equally",
        ),
        (
            TASK + FULL + SMOKE + "launch: {nproc_per_node: 2, nnodes: 2}\n",
            "4:37: launch.nnodes is 2, and a smoke run starts processes on one machine only; set it to 1, or let a "
            "scheduler start the others, with a command such as [srun, --ntasks-per-node=1, ./train.sh]",
        ),
        (
            "hf: a_task:Task\n" + SMOKE + TWO,
            "3:9: launch starts processes for a task, and this recipe trains with hf; train with a task, or start",
        ),
        (
            "command: [python, train.py]\n" + FULL + SMOKE + TWO,
            "4:9: launch starts processes for a task, and this recipe trains with command; let the command start them",
        ),
        (
            TASK + FULL + SMOKE + TWO + "requires: {gpus: 4}\n",
            "5:18: requires.gpus is 4, and launch starts 2 processes with one GPU each; remove requires.gpus",
        ),
        (TASK + FULL + SMOKE + TWO + "requires: {gpus: 1}\n", "5:18: requires.gpus is 1, and launch starts 2"),
        (TASK + FULL + SMOKE + "launch: {nproc_per_node: 0}\n", "launch.nproc_per_node is 0; it must be 1 or more"),
        (
            TASK + FULL + SMOKE + "launch: {nproc_per_node: 257}\n",
            "launch.nproc_per_node is 257; it must be 256 or less",
        ),
        (TASK + FULL + SMOKE + "launch: 2\n", "launch is 2; it must be a mapping"),
        (TASK + FULL + SMOKE + "launch: {nproc_per_nod: 2}\n", "unknown key nproc_per_nod in launch; did you mean"),
        (TASK + FULL + SMOKE + "nproc_per_node: 2\n", "unknown key nproc_per_node"),
    ],
)
def test_fault_says_what_to_write_instead(faults: Callable[..., list[str]], text: str, words: str) -> None:
    found = faults(text)
    assert any(words in fault for fault in found), found
