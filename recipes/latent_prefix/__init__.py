"""Answer questions about a passage that a frozen language model reads as latent vectors instead of text."""

from recipes.latent_prefix.task import LatentPrefix

__all__ = ["LatentPrefix"]
