"""Scheduled sampling: training feeds the model its own predictions for a growing share of the answer's tokens.

Bengio et al. 2015; in two passes, as Mihaylova and Martins (2019) do it for transformers: the first predicts every
token after the true ones, the second reads the mixture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.latent_prefix.compressor import answer_places
from recipes.latent_prefix.passages import IGNORED, Batch


def gold_share(drawn: int, annealed_over: int, least: float) -> float:
    """Probability that a true token is fed, after `drawn` batches: max(least, 1 - drawn / annealed_over)."""
    return max(least, 1.0 - drawn / annealed_over)


def mixed(batch: Batch, logits_BAV: Tensor) -> Tensor:
    """`tail` with the reader's likeliest token wherever `gold` is false."""
    predicted_BA = logits_BAV.argmax(-1)
    fed = torch.where(batch["gold"] | (batch["answer"] == IGNORED), batch["answer"], predicted_BA)
    places = answer_places(batch) + 1
    real = (batch["answer"] != IGNORED) & (places < batch["tail"].shape[1])
    tail = torch.cat([batch["tail"], torch.zeros_like(batch["tail"][:, :1])], 1)  # padding is written there
    tail.scatter_(1, torch.where(real, places, tail.shape[1] - 1), torch.where(real, fed, 0))
    return tail[:, :-1]
