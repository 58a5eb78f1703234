"""Questions whose context a frozen language model reads as k latent vectors instead of text."""

from recipes.latent_prefix.task import LatentPrefix

__all__ = ["LatentPrefix"]
