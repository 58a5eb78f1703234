"""The loss terms, in nats or in squared units of a state.

Shapes: B questions, C tokens of the passage, A tokens of the answer, K latents, D hidden, V tokens in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from recipes.latent_prefix.compressor import Encoding, View
from recipes.latent_prefix.passages import IGNORED

FIRST_TOKENS = 3
"""Number of tokens of an answer, from the first, in the term `kCE`."""


def answer_terms(view: View, taught: View, answer_BA: Tensor) -> Mapping[str, Tensor]:
    """Return the terms over the answers, which are the same in text and latent phases."""
    return {
        "tf": cross_entropy(view.logits, answer_BA),
        "first": cross_entropy(view.logits[:, :1], answer_BA[:, :1]),
        "kCE": cross_entropy(view.logits[:, :FIRST_TOKENS], answer_BA[:, :FIRST_TOKENS]),
        "KD": divergence(view.logits, taught.logits, answer_BA),
        "state": state_error(view.states, taught.states, answer_BA),
    }


def cross_entropy(logits_BAV: Tensor, answer_BA: Tensor) -> Tensor:
    """Return the teacher-forced cross-entropy, a mean over tokens.

    It is the term `tf` over the whole answer, `first` over its first token, and `kCE` over its first FIRST_TOKENS.
    """
    return F.cross_entropy(logits_BAV.flatten(0, 1).float(), answer_BA.flatten(), ignore_index=IGNORED)


def divergence(logits_BAV: Tensor, taught_BAV: Tensor, answer_BA: Tensor) -> Tensor:
    """Return `KD`: KL(teacher with the text || reader) of the next token, a mean over tokens (Hinton et al. 2015)."""
    ours, theirs = logits_BAV.float().log_softmax(-1), taught_BAV.float().log_softmax(-1)
    each = F.kl_div(ours, theirs, log_target=True, reduction="none").sum(-1)
    return mean_where(each, answer_BA != IGNORED)


def state_error(states_BAD: Tensor, taught_BAD: Tensor, answer_BA: Tensor) -> Tensor:
    """Return `state`: squared difference of the last block's states at the answer, a mean over tokens and D."""
    return mean_where((states_BAD - taught_BAD).square().mean(-1), answer_BA != IGNORED)


def align(encoding: Encoding, embedded_BCD: Tensor, mask_BC: Tensor) -> Tensor:
    """Return `align`: squared difference of the encoder's state of a token and its embedding, a mean over tokens and D.

    It keeps the encoder's states close to the embeddings that the language model was trained with.
    """
    return mean_where((encoding.states - embedded_BCD).square().mean(-1), mask_BC)


def latent_align(encoding: Encoding, embedded_BCD: Tensor, mask_BC: Tensor) -> Tensor:
    """Return `latent_align`: squared difference of the mean latent and the mean embedded token.

    It is a mean over questions and D.
    """
    return (encoding.latents.mean(1) - _mean_over(embedded_BCD, mask_BC)).square().mean()


def latent_prefix_align(view: View, taught: View, mask_BC: Tensor) -> Tensor:
    """Return `latent_prefix_align`: squared difference of the mean states over latents (reader) and passage (teacher).

    It is a mean over questions and D.
    """
    return (view.prefix.mean(1) - _mean_over(taught.prefix, mask_BC)).square().mean()


def mean_where(each: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the entries where `mask` is true, without indexing, which synchronizes with the device."""
    return (each * mask).sum() / mask.sum()


def _mean_over(x_BCD: Tensor, mask_BC: Tensor) -> Tensor:
    return (x_BCD * mask_BC[..., None]).sum(1) / mask_BC.sum(1, keepdim=True)
