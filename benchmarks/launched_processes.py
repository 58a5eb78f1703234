"""Compare the same smoke run on one process, on several with DistributedDataParallel, and on several with FSDP2.

    python benchmarks/launched_processes.py [--processes 2] [--steps 400] [--device cpu] [--dtype float32]

A small transformer is trained with gradient accumulation, clipping, two loss terms and uneven token counts.
Seed and effective batch are the same. Prints a Markdown table: the largest relative differences of the training loss,
the probe loss and the gradient norm from those of the run without `launch`, the verdict, and the seconds of its steps.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.monitor.smoke import RunOptions, run_smoke
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe

ROOT = Path(__file__).parents[1]
VOCABULARY, LENGTH, WIDTH = 64, 32, 64
"""Tokens, tokens of a sample at most, and the width of the model."""
PADDING = -100


class Transformer(nn.Module):
    """Predicts the next token with two causal layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.position = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.ModuleList([layer, nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, batch_first=True)])
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [samples, length, vocabulary]."""
        hidden = self.embedding(tokens) + self.position[: tokens.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], hidden.device, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, src_mask=mask)
        logits: Tensor = self.head(hidden)
        return logits


class Language:
    """Samples follow a random walk over the tokens, and have 4 to 32 of them."""

    def __init__(self, *, dtype: str) -> None:
        self.dtype = getattr(torch, dtype)

    def model(self) -> nn.Module:
        """Return a new model."""
        return Transformer().to(self.dtype)

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Yield micro-batches of padded samples."""
        generator = torch.Generator().manual_seed(seed * 10_000 + rank)
        while True:
            steps = torch.randint(0, 3, (batch_size, LENGTH + 1), generator=generator)
            tokens = steps.cumsum(1) % VOCABULARY
            lengths = torch.randint(4, LENGTH + 1, (batch_size, 1), generator=generator)
            labels = tokens[:, 1:].masked_fill(torch.arange(LENGTH) >= lengths, PADDING)
            yield {"tokens": tokens[:, :-1], "labels": labels}

    def counts(self, batch: Any) -> int:
        """Return the number of tokens with a label."""
        return int((batch["labels"] != PADDING).sum())

    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Return the cross-entropy, and the squared logarithm of the normalizer."""
        logits, labelled = model(batch["tokens"]), batch["labels"] != PADDING
        z = logits.logsumexp(-1)[labelled].square().mean()
        return {"ce": F.cross_entropy(logits.transpose(1, 2), batch["labels"], ignore_index=PADDING), "z": 1e-3 * z}


class ShardedLanguage(Language):
    """The same with FSDP2."""

    def parallelize(self, model: Any, mesh: Any) -> None:
        """Shard layer by layer."""
        from torch.distributed.fsdp import fully_shard

        for layer in model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)


class Seen:
    """Keeps the monitor of a run."""

    monitor: RunMonitor

    def phase(self, doing: str) -> None:
        """Ignore what the run does now."""

    def on_events(self, monitor: RunMonitor) -> None:
        """Keep the monitor."""
        self.monitor = monitor


def trained(task: str, processes: int | None, args: argparse.Namespace) -> tuple[str, RunMonitor]:
    """Return the verdict of a run, and what was seen of it; without `processes` it has no `launch`."""
    full = {"batch_size": 8, "grad_accum_steps": 2, "world_size": args.processes, "learning_rate": 1e-3}
    data: dict[str, Any] = {
        "task": f"benchmarks.launched_processes:{task}",
        "args": {"dtype": args.dtype},
        "full": {**full, "warmup_steps": 40, "max_steps": 100_000, "grad_clip_norm": 1.0},
        "smoke": {"max_steps": args.steps},
    }
    if processes is not None:
        data["launch"] = {"nproc_per_node": processes}
    case = Case(path="a.smoke.yaml", recipe=Recipe.model_validate(data), mode="constant")
    seen = Seen()
    options = RunOptions(root=str(ROOT), device=args.device)
    outcome = run_smoke(case, options, item_id="a.smoke.yaml::constant", watch=seen).outcome
    return f"{outcome.verdict} {outcome.text if outcome.verdict == 'error' else ''}".strip(), seen.monitor


def largest(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the largest relative difference."""
    return f"{max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True)):.1e}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    args = parser.parse_args()
    runs: dict[str, tuple[str, int | None]] = {"without launch": ("Language", None)}
    for count in dict.fromkeys([1, args.processes]):
        runs[f"DistributedDataParallel, {count}"] = ("Language", count)
        runs[f"FSDP2, {count}"] = ("ShardedLanguage", count)
    verdict, alone = trained(*runs.pop("without launch"), args)
    print("| processes | loss | probe loss | gradient norm | verdict | seconds |\n|---|---|---|---|---|---|")
    seconds = alone.ended.train_seconds if alone.ended is not None else float("nan")
    print(f"| without `launch` | | | | {verdict} | {seconds:.1f} |")
    for name, (task, processes) in runs.items():
        verdict, run = trained(task, processes, args)
        columns = [
            largest(*([step.loss for step in one.trace.steps] for one in (run, alone))),
            largest(*(list(one.trace.probe_loss.values()) for one in (run, alone))),
            largest(
                [step.grad_norm or 0.0 for step in run.trace.steps], [s.grad_norm or 0.0 for s in alone.trace.steps]
            ),
        ]
        seconds = run.ended.train_seconds if run.ended is not None else float("nan")
        print(f"| {name} | {' | '.join(columns)} | {verdict} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
