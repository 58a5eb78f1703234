"""A trainer as people have them: a script with a loop, flags and printed lines. It needs nothing but Python."""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import subprocess
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--max-steps", type=int, required=True)
parser.add_argument("--warmup", type=int, default=0)
parser.add_argument("--schedule", default="cosine")
parser.add_argument("--clip", type=float, default=0.0)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--log-every", type=int, default=1)
parser.add_argument("--log", default="")
parser.add_argument("--format", default="step {step}: loss {loss:.5f}, lr {lr:.3e}, grad_norm {norm:.4f}")
parser.add_argument("--stop-at", type=int, default=10**9, help="exit with status 0 after this step")
parser.add_argument("--blow-up-at", type=int, default=10**9, help="raise the learning rate from this step on")
parser.add_argument("--nan-at", type=int, default=10**9)
parser.add_argument("--sleep", type=float, default=0.0)
parser.add_argument("--ignore-term", action="store_true")
parser.add_argument("--spawn", default="", help="write the ids of a child and a daemon to this file")
parser.add_argument("--noise-mib", type=int, default=0, help="print this much besides")
args = parser.parse_args()

FEATURES = 6
LINES_PER_MIB = 1024


def rate(step: int) -> float:
    """Return the multiplier of the peak learning rate."""
    if step < args.warmup:
        return (step + 1) / (args.warmup + 1)
    if args.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - args.warmup) / max(1, args.max_steps - args.warmup)))


def train() -> None:
    """Fit a line to noisy samples, and print a line every few steps."""
    draw = random.Random(args.seed)
    truth = [draw.gauss(0, 1) for _ in range(FEATURES)]
    weights = [0.0] * FEATURES
    out = open(args.log, "a", buffering=1) if args.log else sys.stdout  # noqa: SIM115  # closed with the process
    for step in range(args.max_steps):
        loss, gradient = 0.0, [0.0] * FEATURES
        for _ in range(args.batch_size):
            sample = [draw.gauss(0, 1) for _ in range(FEATURES)]
            error = sum((w - t) * x for w, t, x in zip(weights, truth, sample, strict=True)) + draw.gauss(0, 0.5)
            loss += error * error / args.batch_size
            gradient = [g + 2 * error * x / args.batch_size for g, x in zip(gradient, sample, strict=True)]
        norm = math.sqrt(sum(g * g for g in gradient))
        shrink = min(1.0, args.clip / norm) if args.clip else 1.0
        lr = args.lr * rate(step)
        used = lr * (60 if step >= args.blow_up_at else 1)
        weights = [w - used * shrink * g for w, g in zip(weights, gradient, strict=True)]
        loss = math.nan if step >= args.nan_at else min(loss, 1e30)
        if (step + 1) % args.log_every == 0:
            print(args.format.format(step=step + 1, iter=step, loss=loss, lr=lr, norm=norm), file=out, flush=True)
        if step + 1 >= args.stop_at:
            return
        time.sleep(args.sleep)


if args.ignore_term:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if args.spawn:
    sleeper = [
        sys.executable,
        "-c",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
    ]
    child = subprocess.Popen(sleeper)
    daemon = subprocess.Popen(sleeper, start_new_session=True)
    with open(args.spawn, "w") as ids:
        ids.write(f"{child.pid} {daemon.pid}")
for _ in range(args.noise_mib * LINES_PER_MIB):
    os.write(1, b"." * 1023 + b"\n")
train()
