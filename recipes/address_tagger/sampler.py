"""Sample rows: first a source by its share of the mix, then one of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


class Sampler:
    """Sample row numbers, counted source by source. The share of a source is its rows x weight over the sum."""

    def __init__(self, rows: Mapping[str, int], weights: Mapping[str, float]) -> None:
        """Take the rows and the weight of each source.

        Raises ValueError for a source without a weight, a weight without a source, or if all weights are 0.
        """
        if rows.keys() != weights.keys():
            raise ValueError(f"source_weights has {', '.join(weights)}, but the sources are {', '.join(rows)}")
        if min(weights.values()) < 0 or not any(weights.values()):
            raise ValueError(f"source_weights is {dict(weights)}; no weight may be negative, one must be positive")
        self._masses = torch.tensor([count * weights[source] for source, count in rows.items()], dtype=torch.float64)
        self._counts = torch.tensor(list(rows.values()))
        self._firsts = self._counts.cumsum(0) - self._counts

    def batches(self, batch_size: int, *, seed: int, rank: int, world_size: int) -> Iterator[Tensor]:
        """Yield row numbers [batch_size] without end, sampled with replacement.

        Each rank samples from every `world_size`-th row of each source, so that all ranks have the same mix.
        """
        generator = torch.Generator().manual_seed(seed * world_size + rank)
        mine = (self._counts - rank + world_size - 1) // world_size
        while True:
            source = torch.multinomial(self._masses, batch_size, replacement=True, generator=generator)
            drawn = torch.rand(batch_size, generator=generator, dtype=torch.float64)
            yield self._firsts[source] + rank + world_size * (drawn * mine[source]).long()
