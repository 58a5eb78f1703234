"""Which predicted value answers which gold one of the same tag."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_smoke.ner.examples import Entity, Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A gold value and the prediction that answers it; one of both may be missing."""

    gold: Entity | None
    pred: Entity | None

    @property
    def values(self) -> tuple[str | None, str | None]:
        """Gold, predicted."""
        return self.gold.value if self.gold else None, self.pred.value if self.pred else None

    @property
    def right(self) -> bool:
        """Same place; where one of both has no place, same value."""
        return self.gold is not None and self.pred is not None and _same(self.gold, self.pred)


def pairs_of(example: Example) -> Iterator[tuple[str, Pair]]:
    """Each value of the example once, with its tag; tags in order of their names."""
    for tag in sorted({entity.tag for entity in (*example.gold, *example.pred)}):
        gold = [entity for entity in example.gold if entity.tag == tag]
        pred = [entity for entity in example.pred if entity.tag == tag]
        yield from ((tag, pair) for pair in pair_up(gold, pred))


def pair_up(gold: Sequence[Entity], pred: Sequence[Entity]) -> list[Pair]:
    """Pairs of one tag's values in one text: the right ones first, then those that overlap most, then in order.

    Between equal overlaps the earlier gold value, then the earlier prediction is paired first. Order is that of the
    text where offsets are known; values without follow as they are listed. What is left alone is a pair of one.
    """
    golds, preds = sorted(gold, key=_position), sorted(pred, key=_position)
    pairs = _taken(golds, preds, _same_ones(golds, preds))
    overlaps = ((_overlap(one, two), g, p) for g, one in enumerate(golds) for p, two in enumerate(preds))
    largest = sorted((-shared, g, p) for shared, g, p in overlaps if shared > 0)
    pairs += _taken(golds, preds, ((g, p) for _, g, p in largest))
    while golds or preds:
        pairs.append(Pair(gold=golds.pop(0) if golds else None, pred=preds.pop(0) if preds else None))
    return pairs


def _taken(golds: list[Entity], preds: list[Entity], candidates: Iterable[tuple[int, int]]) -> list[Pair]:
    """Pairs of the candidates (index of gold, index of pred), first come first served, out of both lists."""
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


def _same_ones(golds: list[Entity], preds: list[Entity]) -> Iterator[tuple[int, int]]:
    """Looked up, not searched: most are right, and a long document has hundreds of one tag."""
    placed, loose, by_value = (defaultdict[object, list[int]](list) for _ in range(3))
    for p, pred in enumerate(preds):
        by_value[pred.value].append(p)
        if pred.span:
            placed[pred.span].append(p)
        else:
            loose[pred.value].append(p)
    for g, gold in enumerate(golds):
        same = [*placed[gold.span], *loose[gold.value]] if gold.span else by_value[gold.value]
        yield from ((g, p) for p in same)


def _same(gold: Entity, pred: Entity) -> bool:
    return gold.span == pred.span if gold.span and pred.span else gold.value == pred.value


def _overlap(one: Entity, two: Entity) -> int:
    if not one.span or not two.span:
        return 0
    return min(one.span[1], two.span[1]) - max(one.span[0], two.span[0])


def _position(entity: Entity) -> tuple[bool, tuple[int, int]]:
    return entity.span is None, entity.span or (0, 0)
