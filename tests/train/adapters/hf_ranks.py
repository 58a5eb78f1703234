"""Trains each given factory of `hf_trainers` on two processes for some steps, as its full run would. Needs one thread.

Prints what they did as JSON: by factory, the steps of the whole run, the samples of one step on both, and the learning
rate of each step as a share of the peak.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback

from tests.train.adapters import hf_trainers

RANKS = 2
STEPS = 14


class Watch(TrainerCallback):
    """Keeps the rates, and ends training."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.max_steps = 0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"] / args.learning_rate)
        self.max_steps = state.max_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        control.should_training_stop = state.global_step >= STEPS
        return control


def trained(factory: str) -> dict[str, Any]:
    """Train on this rank, and return what all of them did."""
    trainer, watch, samples = getattr(hf_trainers, factory)(), Watch(), 0
    trainer.args.disable_tqdm, trainer.args.save_strategy = True, "no"
    trainer.add_callback(watch)
    original = trainer.training_step

    def training_step(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal samples
        samples += len(inputs["input_ids"])
        return original(model, inputs, *args, **kwargs)

    trainer.training_step = training_step
    trainer.train()
    total = torch.tensor(samples)
    distributed.all_reduce(total)
    return {"max_steps": watch.max_steps, "samples": int(total) // STEPS, "rates": watch.rates}


def main(rank: int, port: int) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": RANKS, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {"ACCELERATE_USE_CPU": "true", **{name: str(value) for name, value in place.items()}}
    torch.set_num_threads(1)
    out, sys.stdout = sys.stdout, sys.stderr
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        found = {factory: trained(factory) for factory in sys.argv[1:]}
    if rank == 0:
        print(json.dumps(found), file=out, flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    second = os.fork()  # after the imports, which take longer than the training
    main(1 if second == 0 else 0, free)
    if second:
        _, status = os.waitpid(second, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
