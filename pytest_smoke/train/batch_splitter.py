"""A batch cut into smaller ones, so that one and the same samples can be seen in two sizes of micro-batches."""

from __future__ import annotations

import copy
from collections import UserDict
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from pytest_smoke.errors import UnsplittableBatchError

Cut = Callable[[slice], Any]
"""The samples of a span, as a batch of their own."""


class BatchSplitter:
    """Cuts `batch` of `samples` samples; `like`, one of only `few`, shows what of it grows with their number.

    Tensors, arrays and sequences that are as long as either batch are cut along their first dimension. Text, flags and
    None are shared, and numbers and arrays that are the same in both (a temperature, class weights). All else is
    refused with NoCut: what differs may be a sum over the batch, and another dimension may be time.
    """

    def __init__(self, batch: Any, like: Any, *, samples: int, few: int) -> None:
        self._samples, self._few = samples, few
        self.grows = False
        """Whether anything of the batch grows with its samples."""
        self.lengths: set[int] = set()
        """First dimensions of its arrays."""
        self._other = ""
        self._cut = self._any(batch, like, "batch")
        if self.grows and self._other:
            raise UnsplittableBatchError(self._other)

    def pieces(self, size: int) -> list[Any]:
        """Batches of `size` samples, which divides the whole."""
        return [self._cut(slice(first, first + size)) for first in range(0, self._samples, size)]

    def _any(self, part: Any, like: Any, place: str) -> Cut:
        if isinstance(part, int | float) and not isinstance(part, bool):
            self._same_number(part, like, place)
            return _shared(part)
        if type(part) is not type(like):
            kinds = type(part).__name__, type(like).__name__
            raise UnsplittableBatchError(
                f"{place} is {kinds[0]} for {self._samples} samples and {kinds[1]} for {self._few}"
            )
        if part is None or isinstance(part, str | bytes | bool):
            return _shared(part)
        if hasattr(part, "shape"):
            return self._array(part, like, place)
        if isinstance(part, Mapping):
            return self._mapping(part, like, place)
        if isinstance(part, list | tuple):
            return self._sequence(part, like, place)
        if is_dataclass(part) and not isinstance(part, type):
            return self._dataclass(part, like, place)
        raise UnsplittableBatchError(f"{place} is {type(part).__name__}, which only the task can cut")

    def _same_number(self, part: float, like: Any, place: str) -> None:
        if part != like:
            raise UnsplittableBatchError(
                f"{place} is {part} for {self._samples} samples and {like} for {self._few}: a figure of the whole "
                "batch, which losses() could compute from the batch instead"
            )

    def _array(self, part: Any, like: Any, place: str) -> Cut:
        shape, small = tuple(part.shape), tuple(like.shape)
        if not shape and not small:
            self._same_number(part.item(), like.item(), place)
            return _shared(part)
        self.lengths |= set(shape[:1])
        if (shape[:1], small[:1]) == ((self._samples,), (self._few,)):
            self.grows = True
            return part.__getitem__  # type: ignore[no-any-return]  # of whatever array it is
        if shape != small:
            raise UnsplittableBatchError(
                f"{place} has shape {shape} from batches({self._samples}) and {small} from batches({self._few}): "
                "samples are cut along the first dimension"
            )
        if not bool((part == like).all()):
            self._other = (
                f"{place} has shape {shape} in every batch and other values in each: figures of the whole batch, "
                "which losses() could compute from the batch instead"
            )
        return _shared(part)

    def _mapping(self, part: Mapping[Any, Any], like: Mapping[Any, Any], place: str) -> Cut:
        if part.keys() != like.keys():
            raise UnsplittableBatchError(
                f"{place} has other keys in a batch of {self._samples} than in one of {self._few}"
            )
        cuts = {key: self._any(value, like[key], f"{place}[{key!r}]") for key, value in part.items()}

        def cut(span: slice) -> Any:
            pieces = {key: one(span) for key, one in cuts.items()}
            if not isinstance(part, UserDict):
                return pieces
            whole = copy.copy(part)  # tokenizers give one, whose keys are attributes, too
            whole.data = pieces
            return whole

        return cut

    def _sequence(self, part: Any, like: Any, place: str) -> Cut:
        named = hasattr(part, "_fields")
        if not named and (len(part), len(like)) == (self._samples, self._few):
            self.grows = True
            return part.__getitem__  # type: ignore[no-any-return]  # a list's or a tuple's
        if len(part) != len(like):
            raise UnsplittableBatchError(
                f"{place} has {len(part)} parts for {self._samples} samples and {len(like)} for {self._few}"
            )
        pairs = enumerate(zip(part, like, strict=True))
        cuts = [self._any(one, other, f"{place}[{at}]") for at, (one, other) in pairs]
        make = type(part)._make if named else type(part)
        return lambda span: make(one(span) for one in cuts)

    def _dataclass(self, part: Any, like: Any, place: str) -> Cut:
        names = [one.name for one in fields(part) if one.init]
        cuts = {name: self._any(getattr(part, name), getattr(like, name), f"{place}.{name}") for name in names}
        return lambda span: replace(part, **{name: one(span) for name, one in cuts.items()})


def _shared(part: Any) -> Cut:
    return lambda _: part
