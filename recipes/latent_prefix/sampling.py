"""Scheduled sampling (Bengio et al. 2015): a growing share of the answer's input tokens are the model's predictions.

It takes two passes, as in Mihaylova and Martins (2019) for transformers. The first predicts every token from the
reference tokens, and the second reads the mixture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.latent_prefix.compressor import answer_places
from recipes.latent_prefix.passages import IGNORED, Batch


def gold_share(batches: int, annealed_over: int, least: float) -> float:
    """Return the probability of a reference token after `batches` batches: max(least, 1 - batches / annealed_over)."""
    return max(least, 1.0 - batches / annealed_over)


def mixed(batch: Batch, logits_BAV: Tensor) -> Tensor:
    """Return `tail` with the reader's most likely token wherever `gold` is false."""
    predicted_BA = logits_BAV.argmax(-1)
    fed = torch.where(batch["gold"] | (batch["answer"] == IGNORED), batch["answer"], predicted_BA)
    places = answer_places(batch) + 1
    real = (batch["answer"] != IGNORED) & (places < batch["tail"].shape[1])
    tail = torch.cat([batch["tail"], torch.zeros_like(batch["tail"][:, :1])], 1)  # a column for padding
    tail.scatter_(1, torch.where(real, places, tail.shape[1] - 1), torch.where(real, fed, 0))
    return tail[:, :-1]
