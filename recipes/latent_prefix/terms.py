"""The loss terms, each a function of what the frozen model and the reader make of the same batch.

In nats, or squared units of a state.

Shapes: B questions, C context tokens, A of the answer, K latents, D wide, V tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from recipes.latent_prefix.compressor import Encoding, View
from recipes.latent_prefix.passages import IGNORED

FIRST_TOKENS = 3
"""How many tokens of an answer `kCE` looks at."""


def of_answers(view: View, taught: View, answer_BA: Tensor) -> Mapping[str, Tensor]:
    """Terms over the answers, whatever stands before the question."""
    return {
        "tf": cross_entropy(view.logits, answer_BA),
        "first": cross_entropy(view.logits[:, :1], answer_BA[:, :1]),
        "kCE": cross_entropy(view.logits[:, :FIRST_TOKENS], answer_BA[:, :FIRST_TOKENS]),
        "KD": divergence(view.logits, taught.logits, answer_BA),
        "state": state_error(view.states, taught.states, answer_BA),
    }


def cross_entropy(logits_BAV: Tensor, answer_BA: Tensor) -> Tensor:
    """Of the true tokens, each predicted after the true ones before it; a mean over tokens.

    Over the whole answer it is `tf`, over its first token `first`, over its first FIRST_TOKENS `kCE`.
    """
    return F.cross_entropy(logits_BAV.flatten(0, 1).float(), answer_BA.flatten(), ignore_index=IGNORED)


def divergence(logits_BAV: Tensor, taught_BAV: Tensor, answer_BA: Tensor) -> Tensor:
    """`KD`: KL(frozen model with the text || reader) of the next token, a mean over tokens (Hinton et al. 2015)."""
    ours, theirs = logits_BAV.float().log_softmax(-1), taught_BAV.float().log_softmax(-1)
    each = F.kl_div(ours, theirs, log_target=True, reduction="none").sum(-1)
    return mean_where(each, answer_BA != IGNORED)


def state_error(states_BAD: Tensor, taught_BAD: Tensor, answer_BA: Tensor) -> Tensor:
    """`state`: squared difference of the last block's states where answers are predicted, a mean over tokens and D."""
    return mean_where((states_BAD - taught_BAD).square().mean(-1), answer_BA != IGNORED)


def align(encoding: Encoding, embedded_BCD: Tensor, mask_BC: Tensor) -> Tensor:
    """Squared difference of the encoder's state of a token and its embedding, a mean over tokens and D: the encoder
    speaks of tokens in the vectors that the language model reads."""
    return mean_where((encoding.states - embedded_BCD).square().mean(-1), mask_BC)


def latent_align(encoding: Encoding, embedded_BCD: Tensor, mask_BC: Tensor) -> Tensor:
    """Squared difference of the mean latent and the mean embedded token of the passage, a mean over questions and D."""
    return (encoding.latents.mean(1) - _mean_over(embedded_BCD, mask_BC)).square().mean()


def latent_prefix_align(view: View, taught: View, mask_BC: Tensor) -> Tensor:
    """Squared difference of what the last blocks make of the latents (reader) and of the passage as text (frozen
    model), each a mean over its places; a mean over questions and D."""
    return (view.prefix.mean(1) - _mean_over(taught.prefix, mask_BC)).square().mean()


def mean_where(each: Tensor, mask: Tensor) -> Tensor:
    """Mean of the entries where `mask` is true; multiplied, not picked, so that no size waits for the device."""
    return (each * mask).sum() / mask.sum()


def _mean_over(x_BCD: Tensor, mask_BC: Tensor) -> Tensor:
    return (x_BCD * mask_BC[..., None]).sum(1) / mask_BC.sum(1, keepdim=True)
