"""Pair the predicted values of a tag with its gold values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_smoke.ner.examples import Entity, Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A gold value and the prediction for it; one of the two may be missing."""

    gold: Entity | None
    pred: Entity | None

    @property
    def values(self) -> tuple[str | None, str | None]:
        """The gold and the predicted value."""
        return self.gold.value if self.gold else None, self.pred.value if self.pred else None

    @property
    def correct(self) -> bool:
        """Whether the spans are equal; if one has no span, whether the values are."""
        return self.gold is not None and self.pred is not None and _same(self.gold, self.pred)


def pairs_of(example: Example) -> Iterator[tuple[str, Pair]]:
    """Yield the pairs of an example with their tag, by sorted tag; every value is in one pair."""
    for tag in sorted({entity.tag for entity in (*example.gold, *example.pred)}):
        gold = [entity for entity in example.gold if entity.tag == tag]
        pred = [entity for entity in example.pred if entity.tag == tag]
        yield from ((tag, pair) for pair in pair_up(gold, pred))


def pair_up(gold: Sequence[Entity], pred: Sequence[Entity]) -> list[Pair]:
    """Pair the values of one tag in one text: correct pairs first, then by largest overlap, then in order.

    Of equal overlaps, the earlier gold value and then the earlier prediction is paired first. Spans are ordered by
    offset; values without a span follow in the given order. Values that are left over get a pair of their own.
    """
    golds, preds = sorted(gold, key=_position), sorted(pred, key=_position)
    pairs = _take(golds, preds, _correct_candidates(golds, preds))
    overlaps = ((_overlap(a, b), g, p) for g, a in enumerate(golds) for p, b in enumerate(preds))
    largest = sorted((-shared, g, p) for shared, g, p in overlaps if shared > 0)
    pairs += _take(golds, preds, ((g, p) for _, g, p in largest))
    while golds or preds:
        pairs.append(Pair(gold=golds.pop(0) if golds else None, pred=preds.pop(0) if preds else None))
    return pairs


def _take(golds: list[Entity], preds: list[Entity], candidates: Iterable[tuple[int, int]]) -> list[Pair]:
    """Remove candidates (index of gold, index of pred) from both lists and return their pairs; earlier ones win."""
    used_gold: set[int] = set()
    used_pred: set[int] = set()
    pairs = []
    for g, p in candidates:
        if g not in used_gold and p not in used_pred:
            used_gold.add(g)
            used_pred.add(p)
            pairs.append(Pair(gold=golds[g], pred=preds[p]))
    golds[:] = [entity for at, entity in enumerate(golds) if at not in used_gold]
    preds[:] = [entity for at, entity in enumerate(preds) if at not in used_pred]
    return pairs


def _correct_candidates(golds: list[Entity], preds: list[Entity]) -> Iterator[tuple[int, int]]:
    """Yield correct pairs by lookup instead of search: a long document may have hundreds of values of one tag."""
    by_span, without_span, by_value = (defaultdict[object, list[int]](list) for _ in range(3))
    for p, pred in enumerate(preds):
        by_value[pred.value].append(p)
        if pred.span:
            by_span[pred.span].append(p)
        else:
            without_span[pred.value].append(p)
    for g, gold in enumerate(golds):
        same = [*by_span[gold.span], *without_span[gold.value]] if gold.span else by_value[gold.value]
        yield from ((g, p) for p in same)


def _same(gold: Entity, pred: Entity) -> bool:
    return gold.span == pred.span if gold.span and pred.span else gold.value == pred.value


def _overlap(gold: Entity, pred: Entity) -> int:
    if not gold.span or not pred.span:
        return 0
    return min(gold.span[1], pred.span[1]) - max(gold.span[0], pred.span[0])


def _position(entity: Entity) -> tuple[bool, tuple[int, int]]:
    return entity.span is None, entity.span or (0, 0)
