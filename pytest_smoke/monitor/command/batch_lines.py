"""What a log and the output of a command say about the samples in a step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pytest_smoke.logs.log import Log
from pytest_smoke.plain import plain_text

_NUMBER = rb"(\d++(?:,\d{3})*+)"
_VALUE = rb"\b[\"']?[^\n\d=:]{0,80}[=:. ]\s*" + _NUMBER + rb"(?!\.\d|[eE%]|\s?[kKM]?\s?\(?tok)"
"""What follows `batch size`, up to the number; a number of tokens is no number of samples."""
_OF_STEP = re.compile(rb"(?:global|total|effective)[ _-](?:train[ _-])?batch[ _-]size" + _VALUE, re.IGNORECASE)
"""Samples in an optimizer step: Hugging Face, Megatron, torchtitan."""
_OF_SOMETHING = re.compile(
    rb"(?<![a-z])batch[ _-]?size[\"']?(?:\s*[=:]|\s+is|\s+of)?\s*" + _NUMBER + rb"(?!\.\d|[\w%]|\s?\(?tok)",
    re.IGNORECASE,
)
"""A batch size that does not say of what: of a micro-batch or of a step."""
_KEY = re.compile(rb"[\w./-]*$")
_ALLOWED = re.compile(
    rb"train(?:ing|er)?|local|micro|mini|per|device|gpu|rank|instantaneous|using|with|and|the|a|args|config|cfg|hparams"
    rb"|params|data|(?:data)?loader",
    re.IGNORECASE,
)
"""Words in front of `batch size` with which it is that of training."""
_OTHER = re.compile(rb"(?<![a-z])(?:eval|val|test|infer|generat|sampl|predict|tokeni[sz])", re.IGNORECASE)
"""Beginnings of words in a line whose batch size may be that of something else than training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedBatch:
    """The samples in a step and in a micro-batch, as a line of a log says or as they follow from it."""

    line: str
    samples: int
    micro_batch: int


def stated_batch(texts: Iterable[bytes], batch_size: int, grad_accum_steps: int, world_size: int) -> StatedBatch | None:
    """Return what texts say about the samples in a step; None if nothing in them tells.

    A size that a trainer calls that of a step, such as `global batch size`, counts. Another `batch size` may be that of
    a micro-batch, of a device, or of a step: it only tells if it is none of them, or if they are the same.
    """
    texts = list(texts)
    for text in texts:
        if found := _OF_STEP.search(text):
            return StatedBatch(line=_shown(found[0]), samples=_whole(found[1]), micro_batch=batch_size)
    splits = grad_accum_steps * world_size
    meanings = {batch_size, batch_size * grad_accum_steps, batch_size * world_size, batch_size * splits}
    stated = [
        (_shown(found[0]), _whole(found[1]))
        for text in texts
        for found in _OF_SOMETHING.finditer(text)
        if _is_of_training(text[text.rfind(b"\n", 0, found.start()) + 1 : found.start()])
    ]
    if not stated or (splits > 1 and any(size in meanings for _, size in stated)):
        return None
    line, size = next(((line, size) for line, size in stated if size in meanings), stated[0])
    return StatedBatch(line=line, samples=size * splits, micro_batch=size)


def batch_columns(log: Log) -> Iterator[bytes]:
    """Yield the columns that may hold a batch size, each as a line with its first value."""
    for name, column in log.table.columns.items() if log.table is not None else ():
        if "batch" in name and column.values:
            yield f"{name}: {column.values[0]:g}".encode()


def _is_of_training(before: bytes) -> bool:
    """Whether the batch size behind this beginning of a line is that of training, by the word in front of it."""
    if _OTHER.search(before):
        return False
    key = _KEY.search(before.rstrip(b" "))
    is_number = key is not None and key[0][:1].isdigit()  # as in `lr 1e-3 batch size 8`
    words = re.findall(rb"[A-Za-z]+", key[0]) if key and not is_number else []
    return all(map(_ALLOWED.fullmatch, words))


def _whole(digits: bytes) -> int:
    return int(digits.replace(b",", b""))


def _shown(text: bytes) -> str:
    return plain_text(" ".join(text.decode(errors="replace").split()))
