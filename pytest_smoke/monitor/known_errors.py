"""Errors of torch whose own text does not tell a user what to change, with what does."""

from __future__ import annotations

import re
from dataclasses import replace

from pytest_smoke.events import Crashed
from pytest_smoke.text import count
from pytest_smoke.train.endings import SAME_PASSES, SAME_PASSES_HINT

OUT_OF_RANGE = ("device-side assert triggered", "out of bounds", "index out of range in self")
"""What torch raises for a label or an index that is out of range, on CUDA and on the CPU."""
OUT_OF_RANGE_HINT = (
    "look for labels that are not in 0 to the number of classes - 1, and for ids beyond an embedding; "
    "`--smoke-device cpu` names the value and its line"
)
MIXED_TENSORS = ("got mixed torch.Tensor and DTensor",)
"""What torch raises where a part of a sharded parameter is used."""
MIXED_TENSORS_HINT = (
    "fully_shard gathers the parameters of a module when that module is called: let losses() and evaluate() call the "
    "model, or register its other methods with torch.distributed.fsdp.register_fsdp_forward_method"
)
UNSCALED = ("_amp_foreach_non_finite_check_and_unscale_.default: got mixed torch.Tensor and DTensor",)
"""What torch raises where GradScaler finds gradients of sharded parameters and of others."""
UNSCALED_HINT = (
    "torch.amp.GradScaler, which fp16 needs, does not take gradients of sharded parameters together with others: let "
    "parallelize also call fully_shard(model), which shards the rest, or train in bf16"
)
HINTS = {OUT_OF_RANGE: OUT_OF_RANGE_HINT, UNSCALED: UNSCALED_HINT, MIXED_TENSORS: MIXED_TENSORS_HINT}
"""What to do about an exception that contains one of these texts; the first one that it contains counts."""
MISMATCH = ("collective mismatch", "mismatch between collectives")
"""What torch and gloo say if processes exchange different data at the same time; gloo aborts the process."""
READY_TWICE = "Expected to mark a variable ready only once"
"""What DistributedDataParallel says of a parameter that gets a gradient twice in one backward pass."""
TWICE_NAME = re.compile(r"with name held\.\d+\.(\S+) has been marked as ready twice")
"""How it names the parameter; `held` is an attribute of the module that `Ranks.parallel` wraps."""
REENTRANT_HINT = (
    "call torch.utils.checkpoint.checkpoint with use_reentrant=False; for a Hugging Face model, "
    "gradient_checkpointing_enable(gradient_checkpointing_kwargs={'use_reentrant': False})"
)


def explained(crashed: Crashed, *, output: str, processes: int) -> Crashed:
    """Return a crash with the text and the hint for the error of torch that caused it; others stay as they are.

    `output`: what the processes of the run printed.
    """
    crashed = _of_reentrant_checkpoint(_of_mismatch(crashed, output, processes))
    if crashed.hint:
        return crashed
    hints = (hint for texts, hint in HINTS.items() if any(text in crashed.text for text in texts))
    return replace(crashed, hint=next(hints, ""))


def _of_mismatch(crashed: Crashed, output: str, processes: int) -> Crashed:
    """Say that the processes of a launch made different passes."""
    said = crashed.text if crashed.reason == "exception" else output
    if processes < 2 or crashed.reason not in ("crash", "exception") or not any(text in said for text in MISMATCH):
        return crashed
    ended = "" if crashed.reason == "exception" else f" ({crashed.text})"
    text = f"the {count(processes, 'rank')} exchanged different data{ended}: {SAME_PASSES}"
    return replace(crashed, text=text, cause="", hint=SAME_PASSES_HINT)


def _of_reentrant_checkpoint(crashed: Crashed) -> Crashed:
    """Say which parameter got its gradient in a backward pass within the backward pass."""
    if READY_TWICE not in crashed.text:
        return crashed
    rank = crashed.text.partition("RuntimeError: ")[0]
    named = TWICE_NAME.search(crashed.text)
    parameter = named[1] if named else "a parameter"
    text = (
        f"{rank}DistributedDataParallel got the gradient of {parameter} twice in one backward pass, as with a "
        "reentrant checkpoint. It does not allow that where it looks for unused parameters, as in a smoke run"
    )
    return replace(crashed, text=text, cause="", hint=REENTRANT_HINT)
