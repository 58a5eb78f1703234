"""A batch cut into smaller ones, so that one and the same samples can be seen in two sizes of micro-batches."""

from __future__ import annotations

import copy
from collections import UserDict
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any


class NoCut(Exception):
    """A batch cannot be cut into smaller ones; the message says what of it cannot, and why."""


class Cutter:
    """Cuts `batch` of `samples` samples; `like`, one of only `few`, shows what of it grows with their number.

    Tensors, arrays and sequences that are as long as either batch are cut along their first dimension. Text, flags and
    None are shared, and numbers and arrays that are the same in both (a temperature, class weights). All else is
    refused: what differs may be a sum over the batch, and another dimension may be time.
    """

    def __init__(self, batch: Any, like: Any, *, samples: int, few: int) -> None:
        self._batch, self._like = batch, like
        self._samples, self._few = samples, few
        self.grows = False
        """Whether anything of the batch grows with its samples; known once pieces were cut."""
        self.lengths: set[int] = set()
        """First dimensions of its arrays."""
        self._other = ""

    def pieces(self, size: int) -> list[Any]:
        """Batches of `size` samples, which divides the whole. Raises NoCut."""
        spans = [slice(first, first + size) for first in range(0, self._samples, size)]
        found = [self._piece(self._batch, self._like, span, "batch") for span in spans]
        if self.grows and self._other:
            raise NoCut(self._other)
        return found

    def _piece(self, part: Any, like: Any, span: slice, place: str) -> Any:
        if isinstance(part, int | float) and not isinstance(part, bool):
            return self._number(part, like, place)
        if type(part) is not type(like):
            kinds = type(part).__name__, type(like).__name__
            raise NoCut(f"{place} is {kinds[0]} for {self._samples} samples and {kinds[1]} for {self._few}")
        if part is None or isinstance(part, str | bytes | bool):
            return part
        if hasattr(part, "shape"):
            return self._array(part, like, span, place)
        if isinstance(part, Mapping):
            return self._mapping(part, like, span, place)
        if isinstance(part, list | tuple):
            return self._sequence(part, like, span, place)
        if is_dataclass(part) and not isinstance(part, type):
            values = {one.name: getattr(part, one.name) for one in fields(part) if one.init}
            pieces = {
                name: self._piece(value, getattr(like, name), span, f"{place}.{name}") for name, value in values.items()
            }
            return replace(part, **pieces)
        raise NoCut(f"{place} is {type(part).__name__}, which only the task can cut")

    def _number(self, part: float, like: Any, place: str) -> float:
        if part == like:
            return part
        raise NoCut(
            f"{place} is {part} for {self._samples} samples and {like} for {self._few}: a figure of the whole batch, "
            "which losses() could compute from the batch instead"
        )

    def _array(self, part: Any, like: Any, span: slice, place: str) -> Any:
        shape, small = tuple(part.shape), tuple(like.shape)
        if not shape and not small:
            self._number(part.item(), like.item(), place)
            return part
        self.lengths |= set(shape[:1])
        if (shape[:1], small[:1]) == ((self._samples,), (self._few,)):
            self.grows = True
            return part[span]
        if shape != small:
            raise NoCut(
                f"{place} has shape {shape} from batches({self._samples}) and {small} from batches({self._few}): "
                "samples are cut along the first dimension"
            )
        if not bool((part == like).all()):
            self._other = (
                f"{place} has shape {shape} in every batch and other values in each: figures of the whole batch, "
                "which losses() could compute from the batch instead"
            )
        return part

    def _mapping(self, part: Mapping[Any, Any], like: Mapping[Any, Any], span: slice, place: str) -> Any:
        if part.keys() != like.keys():
            raise NoCut(f"{place} has other keys in a batch of {self._samples} than in one of {self._few}")
        pieces = {key: self._piece(value, like[key], span, f"{place}[{key!r}]") for key, value in part.items()}
        if isinstance(part, UserDict):  # tokenizers give one, whose keys are attributes, too
            whole = copy.copy(part)
            whole.data = pieces
            return whole
        return pieces

    def _sequence(self, part: Any, like: Any, span: slice, place: str) -> Any:
        named = hasattr(part, "_fields")
        if not named and (len(part), len(like)) == (self._samples, self._few):
            self.grows = True
            return part[span]
        if len(part) != len(like):
            raise NoCut(f"{place} has {len(part)} parts for {self._samples} samples and {len(like)} for {self._few}")
        pieces = [
            self._piece(one, other, span, f"{place}[{at}]")
            for at, (one, other) in enumerate(zip(part, like, strict=True))
        ]
        return type(part)(*pieces) if named else type(part)(pieces)
