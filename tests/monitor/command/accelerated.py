"""A trainer with Hugging Face Accelerate, as in its tutorials, with the mistakes that more than one process allows."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from contextlib import nullcontext
from itertools import islice
from typing import TextIO

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch import distributed, nn
from torch.utils.data import DataLoader, TensorDataset

FAULTS = ("none", "schedule-in-updates", "unprepared-scheduler", "split-batches", "global-batch", "average", "sum")
"""What goes wrong: the scheduler's length forgets that each process steps it; it is not prepared, but its length counts
processes; a batch is split among the processes; each draws the batch of all. The last two combine the gradients in the
loop, without DDP: `average` does it right."""

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--max-steps", type=int, required=True)
parser.add_argument("--warmup-steps", type=int, required=True)
parser.add_argument("--schedule", choices=("constant", "cosine"), required=True)
parser.add_argument("--batch-size", type=int, required=True)
parser.add_argument("--clip", type=float, required=True)
parser.add_argument("--faults", nargs="+", choices=FAULTS, default=["none"], help="one run for each")
parser.add_argument("--folder", default="", help="write FAULT.log into this folder, and print the last run only")
args = parser.parse_args()

SAMPLES, FEATURES = 4096, 16


def train(fault: str, out: TextIO) -> None:
    """Fit a small network to noisy samples, and let the first process print a line for each update."""
    torch.manual_seed(0)
    loaders = DataLoaderConfiguration(split_batches=fault == "split-batches", use_seedable_sampler=True)
    accelerator = Accelerator(cpu=True, dataloader_config=loaders)
    processes = accelerator.num_processes
    inputs = torch.randn(SAMPLES, FEATURES)
    targets = inputs @ torch.randn(FEATURES, 1) + 0.5 * torch.randn(SAMPLES, 1)
    batch_size = args.batch_size * (processes if fault == "global-batch" else 1)
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=batch_size, shuffle=True, drop_last=True)
    model = nn.Sequential(nn.Linear(FEATURES, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    per_update = 1 if fault in ("schedule-in-updates", "split-batches") else processes
    warmup, horizon = args.warmup_steps * per_update, args.max_steps * per_update

    def multiplier(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        decay = args.schedule == "cosine"
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (horizon - warmup))) if decay else 1.0

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)
    optimizer, loader = accelerator.prepare(optimizer, loader)
    if fault not in ("average", "sum"):
        model = accelerator.prepare(model)
    if fault != "unprepared-scheduler":
        scheduler = accelerator.prepare(scheduler)
    batches = (batch for _ in range(args.max_steps) for batch in loader)
    for step, (x, y) in enumerate(islice(batches, args.max_steps), start=1):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        accelerator.backward(loss)
        if fault in ("average", "sum"):
            for parameter in model.parameters():
                distributed.all_reduce(parameter.grad, op=distributed.ReduceOp.SUM)
                if fault == "average":
                    parameter.grad /= processes
        norm = accelerator.clip_grad_norm_(model.parameters(), args.clip)
        rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
        mean = accelerator.reduce(loss.detach(), "mean").item()
        samples = int(accelerator.reduce(torch.tensor(len(x)), "sum"))
        if accelerator.is_main_process:
            line = f"step {step}: loss {mean:.6f}, lr {rate:.4e}, grad_norm {norm:.6f}, samples per step {samples}"
            print(line, file=out, flush=True)


def main() -> None:
    """Train once for each fault."""
    torch.set_num_threads(1)
    for fault in args.faults:
        is_printed = not args.folder or fault == args.faults[-1]
        with nullcontext(sys.stdout) if is_printed else open(f"{args.folder}/{fault}.log", "a") as out:
            train(fault, out)
    if distributed.is_initialized():
        _wait_for_all()
        distributed.destroy_process_group()


def _wait_for_all() -> None:
    """Wait until no process needs its connections to the others any more.

    In torchrun's store, which outlives them: in a collective, one that has left can break the connection of another.
    """
    store = distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    store.add("done", 1)
    while store.add("done", 0) < distributed.get_world_size():
        time.sleep(0.01)


main()
