"""Span-level scores: a span is correct if its tag, start and end are (as in conlleval of CoNLL-2003)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from recipes.address_tagger.labels import TAGS, Span


def scores(pairs: Iterable[tuple[Sequence[Span], Sequence[Span]]]) -> dict[str, float]:
    """Score the (gold, predicted) spans of each text.

    Returns `val_f1_<tag>`; `val_macro_f1`, their mean; and `val_exact_match`, the share of texts without any error.
    F1 is 2 TP / (2 TP + FP + FN), and 1 for a tag that neither occurs nor is predicted. Raises ValueError if there is
    no text.
    """
    hits, sizes = Counter[str](), Counter[str]()
    texts = exact = 0
    for gold, predicted in pairs:
        texts += 1
        exact += sorted(gold) == sorted(predicted)
        hits.update(span.tag for span in set(gold) & set(predicted))
        sizes.update(span.tag for span in (*gold, *predicted))
    if not texts:
        raise ValueError("there is no text to score; at least one is needed")
    f1 = {tag: 2 * hits[tag] / sizes[tag] if sizes[tag] else 1.0 for tag in TAGS}
    return {
        "val_macro_f1": sum(f1.values()) / len(f1),
        **{f"val_f1_{tag}": value for tag, value in f1.items()},
        "val_exact_match": exact / texts,
    }
