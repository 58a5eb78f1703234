"""The address tagger under another optimizer."""

from __future__ import annotations

import torch
from torch import nn

from recipes.address_tagger import AddressTagger


class SgdTagger(AddressTagger):
    """Trained by SGD with momentum 0.9, as `lr` alone sets its steps: AdamW's are scaled by the gradient's own size."""

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """Over what requires a gradient."""
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return torch.optim.SGD(trained, lr=learning_rate, momentum=0.9)
