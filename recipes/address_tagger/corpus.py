"""Generate the training and held-out addresses in memory, from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypedDict

import torch
from torch import Tensor

from recipes.address_tagger.compose import Address, compose
from recipes.address_tagger.countries import COUNTRIES
from recipes.address_tagger.labels import Offsets, encode
from recipes.address_tagger.names import names_of
from recipes.address_tagger.tokens import MAX_TOKENS, features, tokenize

ROWS = {"us": 3500, "fr": 2500, "de": 2500, "gb": 2000, "nl": 1750, "ru": 1500}
"""Training addresses by source. The recipe's `mix` has the same numbers; a test compares them."""
HELD_OUT_ROWS = 100
"""Held-out addresses of each source."""
UNSEEN = 0.5
"""Share of the held-out streets, and of the held-out places, that no training address has."""
SEED = 20_240
"""Seed of the corpus. It does not depend on the seed of the run, so all runs see the same addresses."""
PADDING = -100
"""Label of padding, the default `ignore_index` of cross-entropy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One address with its tokens and their labels."""

    source: str
    address: Address
    tokens: Sequence[Offsets]
    labels: Sequence[int]


class Batch(TypedDict):
    """A micro-batch of B addresses. T is the number of tokens in the longest one, S the number of feature slots."""

    features: Tensor
    """[B, T, S] int32, 0 for padding."""
    mask: Tensor
    """[B, T] bool, true for tokens."""
    labels: Tensor
    """[B, T] int64, PADDING for padding."""
    sources: tuple[str, ...]
    """Source of each address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Rows by source. No held-out text is also a training text, regardless of case."""

    train: Mapping[str, Sequence[Row]]
    held_out: Mapping[str, Sequence[Row]]


def build_corpus(rows: Mapping[str, int] = ROWS, held_out_rows: int = HELD_OUT_ROWS, seed: int = SEED) -> Corpus:
    """Generate the corpus in about two seconds. The same seed and libraries give the same rows."""
    train, held_out = {}, {}
    for source, count in rows.items():
        generator = _AddressGenerator(source, seed)
        train[source] = generator.rows(count, unseen=0.0)
        held_out[source] = generator.rows(held_out_rows, unseen=UNSEEN)
    return Corpus(train=train, held_out=held_out)


class _AddressGenerator:
    """Generate unique addresses of one source."""

    def __init__(self, source: str, seed: int) -> None:
        self._source, self._country, self._random = source, COUNTRIES[source], Random(f"{seed} {source}")
        self._seen, self._unseen = names_of(self._country, seed)
        self._texts: set[str] = set()

    def rows(self, count: int, *, unseen: float) -> list[Row]:
        """Return new addresses. `unseen`: share of streets, and of places, that training never uses."""
        rows: list[Row] = []
        while len(rows) < count:
            streets, places = (self._unseen if self._random.random() < unseen else self._seen for _ in range(2))
            address = compose(self._country, streets, places, self._random)
            if (key := address.text.casefold()) not in self._texts:
                self._texts.add(key)
                rows.append(_row(self._source, address))
        return rows


def _row(source: str, address: Address) -> Row:
    tokens = tokenize(address.text)
    if len(tokens) > MAX_TOKENS:
        raise ValueError(f"{address.text!r} has {len(tokens)} tokens; the model has positions for {MAX_TOKENS}")
    return Row(source=source, address=address, tokens=tokens, labels=encode(address.spans, tokens))


class Table:
    """Rows as tensors, all tokens concatenated, so that a batch is a single indexing operation."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.sources = [row.source for row in rows]
        self.lengths = torch.tensor([len(row.tokens) for row in rows])
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.labels = torch.tensor([label for row in rows for label in row.labels])
        self.features = torch.tensor(
            [buckets for row in rows for buckets in features(row.address.text, row.tokens)], dtype=torch.int32
        )

    def batch(self, rows: Tensor) -> Batch:
        """Return the rows with the given numbers [B], padded to the longest of them."""
        lengths, starts = self.lengths[rows], self.starts[rows]
        steps = torch.arange(int(lengths.max()))
        mask = steps < lengths[:, None]
        at = torch.where(mask, starts[:, None] + steps, 0)
        return {
            "features": self.features[at] * mask[..., None],
            "mask": mask,
            "labels": torch.where(mask, self.labels[at], PADDING),
            "sources": tuple(self.sources[row] for row in rows.tolist()),
        }
