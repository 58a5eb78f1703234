"""Which way a metric is better, where nobody says."""

from __future__ import annotations

import re

LOWER_IS_BETTER = frozenset(
    {"loss", "nll", "ce", "bce", "perplexity", "ppl", "bpb", "bpc", "error", "errors", "err", "wer", "cer", "ter"}
    | {"mse", "mae", "rmse", "fid", "distance", "regret"}
)
"""Words of a name that say so; any other metric is taken to be better higher."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def lower_is_better(name: str) -> bool:
    """Whether a metric's name says that lower is better: `val_loss`, `latent_nll`, `errorRate`."""
    return not LOWER_IS_BETTER.isdisjoint(word.lower() for word in _WORD.findall(name))
