"""Compare smoke runs of a Hugging Face Trainer, of a LightningModule and of a command with the same trainers alone.

    python benchmarks/adapter_overhead.py [--rounds 3] [--steps 600]

Both train alternately, in one process, in CPU time; each smoke run is compared with the mean of the runs before and
after it. The time of a command is that of all its processes and of the one that reads its log. Prints a Markdown table:
the ratio of their times, median and range over the rounds, and the CPU time of the adapter within its smoke runs,
compared with the rest of them: all of it, and without the probe batch. Other load changes the last two less. A smoke
run scores its probe batch about 40 times, so the ratio is smaller for longer runs.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from loop_overhead import MonitorChannel

from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.monitor.smoke import RunOptions, run_smoke
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.command import CommandPlan
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.train.adapters import hf, lightning
from pytest_smoke.train.adapters.session import Session
from pytest_smoke.train.plan import RunPlan

sys.path.insert(0, str(Path(__file__).parents[1]))
FACTORIES = {
    "hf": "tests.train.adapters.hf_trainers:trainer",
    "lightning": "tests.train.adapters.lightning_modules:plain",
}
HOOKS = (
    *("attach", "start", "begin_step", "on_micro_batch", "on_gradient_norm", "watch_rates", "before_update"),
    *("after_update", "end_step", "finish"),
)
"""Methods of the session that adapters call during training; none of them calls another one."""
COMMAND_STEPS = 10
"""Steps of the command for one of the trainers: they take less time."""
COMMAND = {
    "--lr": "{learning_rate}",
    "--max-steps": "{max_steps}",
    "--schedule": "{lr_schedule}",
    "--warmup": "{warmup_steps}",
    "--batch-size": "{batch_size}",
}
CPU = torch.device("cpu")


def command_case(steps: int) -> Case:
    """Return the case of a recipe whose command is a script in plain Python."""
    script = str(Path(__file__).parents[1] / "tests" / "monitor" / "command" / "train.py")
    flags = [f"{flag}={value}" for flag, value in COMMAND.items()]
    full = {"batch_size": 64, "learning_rate": 0.02, "warmup_steps": 10, "max_steps": 10**6}
    data = {"command": [sys.executable, script, *flags], "full": full, "smoke": {"max_steps": steps}}
    return Case(path="a.smoke.yaml", recipe=Recipe.model_validate(data), mode="constant")


def case_of(key: str, steps: int) -> Case:
    """Return the case of a recipe that trains with `key`, with the settings of its full run."""
    if key == "command":
        return command_case(COMMAND_STEPS * steps)
    recipe = Recipe.model_validate({key: FACTORIES[key], "smoke": {"max_steps": steps}})
    case = Case(path="a.smoke.yaml", recipe=recipe, mode="constant")
    module = {"hf": hf, "lightning": lightning}[key]
    return case.with_read(module.describe(RunPlan.of(case, root=".", device="cpu"), CPU))


def smoke_run(key: str, case: Case) -> float:
    """Return the CPU seconds of a smoke run, without building the trainer."""
    if key == "command":
        options = RunOptions(root=".", early_stop=False)
        return timed(lambda: run_smoke(case, options, item_id="a.smoke.yaml::constant"))
    plan = RunPlan.of(case, root=".", device="cpu")
    channel: Any = MonitorChannel(RunMonitor(case, early_stop=False))
    if key == "hf":
        run: Any = hf._Run(plan, CPU, channel, hf.build(plan, CPU))
    else:
        run = lightning._Run(plan, CPU, channel, lightning.build(plan))
    return timed(run.run)


def alone(key: str, case: Case) -> float:
    """Return the CPU seconds of the same trainer with the same schedule and length."""
    if key == "command":
        argv = CommandPlan.of(case, ".").argv
        return timed(lambda: subprocess.run(argv, check=True, capture_output=True))
    plan = RunPlan.of(case, root=".", device="cpu")
    if key == "hf":
        trainer = hf.build(plan, CPU)
        hf._Run(plan, CPU, MonitorChannel(RunMonitor(case, early_stop=False)), trainer)  # sets the arguments
        return timed(trainer.train)
    parts = lightning.build(plan)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = parts.package.Trainer(
        max_steps=plan.run_steps,
        max_epochs=-1,
        accelerator="cpu",
        devices=1,
        accumulate_grad_batches=plan.micro_batches,
        gradient_clip_val=plan.grad_clip_norm,
        limit_val_batches=0,
        **quiet,
    )
    return timed(lambda: trainer.fit(parts.module, train_dataloaders=parts.data))


in_adapter = {"all": 0.0, "probe batch": 0.0}
"""CPU seconds in methods of the session."""


def watched(name: str, part: str) -> None:
    """Add the CPU time of a method of the session to a part of `in_adapter`."""
    method = getattr(Session, name)

    @functools.wraps(method)
    def timed_method(*args: Any, **kwargs: Any) -> Any:
        began = time.thread_time()
        try:
            return method(*args, **kwargs)
        finally:
            in_adapter[part] += time.thread_time() - began

    setattr(Session, name, timed_method)


def timed(run: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call, with those of processes that it waited for."""
    began = sum(os.times()[:4])
    run()
    return sum(os.times()[:4]) - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in HOOKS:
        watched(name, "all")
    watched("_score_probe_batch", "probe batch")
    print("| trainer | alone, ms a step | smoke run / alone, median (range) | adapter | without the probe batch |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where the trainers make their folders
        for key in (*FACTORIES, "command"):
            case = case_of(key, args.steps)
            in_adapter.update(dict.fromkeys(in_adapter, 0.0))
            theirs, ours = [alone(key, case)], []
            for _ in range(args.rounds):
                ours.append(smoke_run(key, case))
                theirs.append(alone(key, case))
            ratios = [2 * run / sum(around) for run, around in zip(ours, pairwise(theirs), strict=True)]
            each = 1000 * median(theirs) / case.run_steps
            rest = sum(ours) - in_adapter["all"]
            shares = [100 * part / rest for part in (in_adapter["all"], in_adapter["all"] - in_adapter["probe batch"])]
            inside = " | ".join(f"+{share:.1f} %" for share in shares) if key in FACTORIES else " | "
            spread = f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            print(f"| {key} | {each:.1f} | {spread} | {inside} |", flush=True)


if __name__ == "__main__":
    main()
