"""Greedy decoding of answers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.latent_prefix.language_model import LanguageModel
from recipes.latent_prefix.vocabulary import END

LONGEST_ANSWER = 8
"""Largest number of generated tokens."""


@torch.no_grad()
def greedy(model: LanguageModel, prompt_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    """Generate the most likely tokens [B, up to LONGEST_ANSWER] after the first `lengths_B` vectors of each prompt.

    Later vectors are ignored. The whole prompt is run again for each token, without a cache: answers are short.
    """
    rows = torch.arange(len(prompt_BTD), device=prompt_BTD.device)
    room_BTD = F.pad(prompt_BTD, (0, 0, 0, LONGEST_ANSWER))
    tokens: list[Tensor] = []
    for place in range(LONGEST_ANSWER):
        at = lengths_B + place
        token = model.logits(model.states(room_BTD)[rows, at - 1][:, None])[:, 0].argmax(-1)
        tokens.append(token)
        room_BTD[rows, at] = model.embed(token)
        if (torch.stack(tokens) == END).any(0).all():
            break
    return torch.stack(tokens, 1)
