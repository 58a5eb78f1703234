"""The samples of a trainer's data loader: batches of any size from its data set, and how many samples a batch has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import IterableDataset

from pytest_smoke.errors import TaskError
from pytest_smoke.train.batch_sizes import shapes_of

ROW_SAMPLES = 2
"""Samples that are collated to see how many rows each of them has."""
FLAT = ("position_ids", "cu_seq_lens_q", "seq_idx")
"""Parts of a batch whose samples follow each other in one row, as in padding-free training."""


class LoaderSamples:
    """Makes batches as `loader` does, from samples of its data set, without any effect on what the loader draws."""

    def __init__(self, loader: Any) -> None:
        self._collate = getattr(loader, "collate_fn", None)
        self._dataset = getattr(loader, "dataset", None)
        self.problem = self._problem(loader)
        """Why batches cannot be made, as a clause; empty if they can."""

    def _problem(self, loader: Any) -> str:
        if self._collate is None or self._dataset is None:
            return f"the training data are a {type(loader).__name__}, not a torch DataLoader"
        if isinstance(self._dataset, IterableDataset) or not hasattr(self._dataset, "__getitem__"):
            return "the data set is a stream, from which no sample can be drawn apart from training"
        if getattr(loader, "batch_sampler", None) is None:
            return "the data set yields whole batches"
        try:
            return "" if len(self._dataset) else "the data set is empty"
        except TypeError:
            return "the data set has no length"

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Yield batches of random samples without end. Raises TaskError if the loader's data do not allow it."""
        if self.problem:
            raise TaskError(self.problem)
        assert self._dataset is not None
        assert self._collate is not None
        generator = torch.Generator().manual_seed(seed * world_size + rank)
        total = len(self._dataset)
        order: list[int] = []
        while True:
            while len(order) < batch_size:
                order += torch.randperm(total, generator=generator).tolist()
            chosen, order = order[:batch_size], order[batch_size:]
            yield self._collate([self._dataset[index] for index in chosen])

    def rows_per_sample(self) -> int:
        """Return how many rows of a batch one sample has: 2 if each is a pair, for example. 1 if it cannot be told."""
        try:
            rows = rows_of(next(self.batches(ROW_SAMPLES, seed=0)), ROW_SAMPLES)
        except Exception:  # of the data set or of the collate function: training shows it, too
            return 1
        return rows // ROW_SAMPLES if isinstance(rows, int) and rows % ROW_SAMPLES == 0 and rows else 1


def samples_of(batch: Any, asked: int, rows_per_sample: int) -> int | str:
    """Return the number of samples in a micro-batch for which `asked` were asked; a clause if it cannot be told."""
    rows = rows_of(batch, asked * rows_per_sample)
    return rows if isinstance(rows, str) else -(-rows // rows_per_sample)


def rows_of(batch: Any, expected: int) -> int | str:
    """Return the first dimension of a batch: `expected` if a part has it, else the most frequent one."""
    shapes = dict(shapes_of(batch))
    first = [shape[0] for shape in shapes.values() if shape]
    if not first:
        return "it has no part with a dimension for its samples"
    if expected in first:
        return expected
    (rows, _), *_ = Counter(first).most_common(1)
    names = {key for path in shapes for _, key in path}
    if rows == 1 < expected and names & set(FLAT):
        return "its samples follow each other in one row, as in padding-free training"
    return rows
