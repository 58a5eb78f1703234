"""Task of the controls of the `resume` check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.controls.tasks import CLASSES, FEATURES, WIDTH, Teacher


class Noisy(Teacher):
    """Has dropout, and shuffles its data with its seed or, as a plain DataLoader does, with the global generator."""

    def __init__(self, *, shuffled_by: str = "seed") -> None:
        super().__init__()
        self.shuffled_by = shuffled_by

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.Tanh(), nn.Dropout(0.1), nn.Linear(WIDTH, CLASSES))

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(1000 * seed + rank)
        points = torch.randn(4096, FEATURES, generator=generator)
        order = generator if self.shuffled_by == "seed" else None
        data = TensorDataset(points, (points @ self.teacher).argmax(1))
        while True:
            for drawn, labels in DataLoader(data, batch_size, shuffle=True, generator=order):
                yield {"points": drawn, "labels": labels}
