"""The address tagger with another optimizer."""

from __future__ import annotations

import torch
from torch import nn

from recipes.address_tagger import AddressTagger


class SgdTagger(AddressTagger):
    """Trains with SGD and momentum 0.9, whose steps scale with the gradient; AdamW normalizes them."""

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """Return the optimizer of all parameters that require a gradient."""
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return torch.optim.SGD(trainable, lr=learning_rate, momentum=0.9)
