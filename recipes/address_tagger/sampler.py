"""Which rows come next: a source by its share of the mix, then one of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


class Sampler:
    """Rows are numbered source after source. Share of a source = rows x weight over the sum of rows x weight."""

    def __init__(self, rows: Mapping[str, int], weights: Mapping[str, float]) -> None:
        """Raises ValueError for a source without a weight or a weight without a source, or if nothing has weight."""
        if rows.keys() != weights.keys():
            raise ValueError(f"source_weights names {', '.join(weights)}; the sources are {', '.join(rows)}")
        if min(weights.values()) < 0 or not any(weights.values()):
            raise ValueError(f"source_weights are {dict(weights)}; none may be negative, and one must be positive")
        self._masses = torch.tensor([count * weights[source] for source, count in rows.items()], dtype=torch.float64)
        self._counts = torch.tensor(list(rows.values()))
        self._firsts = self._counts.cumsum(0) - self._counts

    def batches(self, batch_size: int, *, seed: int, rank: int, world_size: int) -> Iterator[Tensor]:
        """Row numbers [batch_size], with replacement, without end. Each rank has every `world_size`-th row of a source
        to itself, so the mix of each is that of all."""
        generator = torch.Generator().manual_seed(seed * world_size + rank)
        mine = (self._counts - rank + world_size - 1) // world_size
        while True:
            source = torch.multinomial(self._masses, batch_size, replacement=True, generator=generator)
            drawn = torch.rand(batch_size, generator=generator, dtype=torch.float64)
            yield self._firsts[source] + rank + world_size * (drawn * mine[source]).long()
