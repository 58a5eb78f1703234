"""Exact match, F1, likelihood and accuracy of answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn import functional as F

from recipes.latent_prefix.passages import IGNORED

POSITIONS = 3
"""Number of tokens of the answer, from the first, whose accuracy is reported separately."""
TOP = 5
"""K of the top-K accuracy."""


def exact_match(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """Return 1 if all tokens are equal, else 0."""
    return float(list(predicted) == list(gold))


def f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """Return the F1 score of the tokens as multisets, as for SQuAD (Rajpurkar et al. 2016)."""
    common = sum((Counter(predicted) & Counter(gold)).values())
    return 2 * common / (len(predicted) + len(gold)) if common else 0.0


def text_scores(predicted: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> Mapping[str, float]:
    """Return the means of exact match (`em`) and `f1` over the answers."""
    pairs = list(zip(predicted, gold, strict=True))
    return {
        "em": sum(exact_match(*pair) for pair in pairs) / len(pairs),
        "f1": sum(f1(*pair) for pair in pairs) / len(pairs),
    }


def logit_scores(logits_BAV: Tensor, answer_BA: Tensor) -> Mapping[str, float]:
    """Return teacher-forced scores: `nll` in nats per token, `first_acc`, `first_top5`, `pos1_acc` and so on.

    The accuracy of a position is a mean over the answers that are long enough, where END counts as a token.
    """
    logits, answer = logits_BAV.float().cpu(), answer_BA.cpu()
    real = answer != IGNORED
    right = (logits.argmax(-1) == answer) & real
    first = logits[:, 0].topk(TOP).indices == answer[:, :1]
    positions = min(POSITIONS, answer.shape[1])
    return {
        "nll": F.cross_entropy(logits.flatten(0, 1), answer.flatten(), ignore_index=IGNORED).item(),
        "first_acc": first[:, 0].float().mean().item(),
        f"first_top{TOP}": first.any(1).float().mean().item(),
        **{f"pos{at + 1}_acc": (right[:, at].sum() / real[:, at].sum()).item() for at in range(positions)},
    }
