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

    Tensors, arrays and sequences that are as long as either batch are cut along their first dimension. What is the
    same in both (text, flags, a temperature, class weights) is shared. All else is refused: a number that differs may
    be a sum over the batch, and another dimension may be time.
    """

    def __init__(self, batch: Any, like: Any, *, samples: int, few: int) -> None:
        self._batch, self._like = batch, like
        self._samples, self._few = samples, few
        self._grows = False
        self._lengths: set[int] = set()

    def pieces(self, size: int) -> list[Any]:
        """Batches of `size` samples, which divides the whole. Raises NoCut."""
        spans = [slice(first, first + size) for first in range(0, self._samples, size)]
        return [self._piece(self._batch, self._like, span, "batch") for span in spans]

    @property
    def lengths(self) -> set[int] | None:
        """First dimensions of the arrays, where nothing of the batch grows with its samples; None where something does.

        Known once pieces were cut.
        """
        return None if self._grows else self._lengths

    def _piece(self, part: Any, like: Any, span: slice, place: str) -> Any:
        if part is None or isinstance(part, str | bytes | bool):
            return part
        if isinstance(part, int | float):
            return self._number(part, like, place)
        if type(part) is not type(like):
            raise NoCut(
                f"{place} is {type(part).__name__} of {self._samples} samples, {type(like).__name__} of {self._few}"
            )
        if hasattr(part, "shape"):
            return self._array(part, like, span, place)
        if isinstance(part, Mapping):
            return self._mapping(part, like, span, place)
        if isinstance(part, list | tuple):
            return self._sequence(part, like, span, place)
        if is_dataclass(part) and not isinstance(part, type):
            named = {one.name: getattr(part, one.name) for one in fields(part) if one.init}
            return replace(
                part,
                **{
                    name: self._piece(value, getattr(like, name), span, f"{place}.{name}")
                    for name, value in named.items()
                },
            )
        raise NoCut(f"{place} is {type(part).__name__}, which only the task can cut")

    def _number(self, part: float, like: Any, place: str) -> float:
        if part == like:
            return part
        raise NoCut(
            f"{place} is {part} for {self._samples} samples and {like} for {self._few}: a number of the whole batch, "
            "which losses() could compute from the batch instead"
        )

    def _array(self, part: Any, like: Any, span: slice, place: str) -> Any:
        shape, small = tuple(part.shape), tuple(like.shape)
        if not shape and not small:
            self._number(part.item(), like.item(), place)
            return part
        self._lengths.add(shape[0])
        if (shape[0], small[0]) == (self._samples, self._few):
            self._grows = True
            return part[span]
        if shape == small:
            return part
        raise NoCut(
            f"{place} has shape {shape} from batches({self._samples}) and {small} from batches({self._few}): "
            "samples are cut along the first dimension"
        )

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
            self._grows = True
            return part[span]
        if len(part) != len(like):
            raise NoCut(f"{place} has {len(part)} parts for {self._samples} samples and {len(like)} for {self._few}")
        pieces = [
            self._piece(one, other, span, f"{place}[{at}]")
            for at, (one, other) in enumerate(zip(part, like, strict=True))
        ]
        return type(part)(*pieces) if named else type(part)(pieces)
