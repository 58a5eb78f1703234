"""The task: what the recipe's `args` mean, its two loss terms, and how its predictions are scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.address_tagger.corpus import PADDING, Batch, Row, Table, build_corpus
from recipes.address_tagger.labels import LABELS, TAGS, Span, decode
from recipes.address_tagger.metrics import scores
from recipes.address_tagger.model import Tagger
from recipes.address_tagger.sampler import Sampler

CrfNormalization = Literal["per_sequence", "per_token"]
EVALUATION_BATCH = 200


class AddressTagger:
    """Words of an address in, BIO labels out: cross-entropy of each word, and the likelihood of all of them together.

    `crf_loss_weight: 0` trains on cross-entropy alone: the CRF's transitions stay 0 and frozen, its BIO mask still
    governs decoding, and its likelihood is still reported, as a term that pulls at nothing.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        layers: int,
        heads: int,
        crf_loss_weight: float,
        crf_normalization: CrfNormalization,
        class_weights: Mapping[str, float],
        source_weights: Mapping[str, float],
        trim_spans: bool,
    ) -> None:
        if crf_normalization not in get_args(CrfNormalization):
            allowed = " or ".join(get_args(CrfNormalization))
            raise ValueError(f"crf_normalization is {crf_normalization!r}; it must be {allowed}")
        self._hidden_size, self._layers, self._heads = hidden_size, layers, heads
        self._crf_loss_weight, self._crf_normalization = float(crf_loss_weight), crf_normalization
        self._class_weights_K = _by_label(class_weights)
        self._weights_on: dict[torch.device, Tensor] = {}
        self._trim_spans = trim_spans
        corpus = build_corpus()
        self._sampler = Sampler({source: len(rows) for source, rows in corpus.train.items()}, source_weights)
        self._train = Table([row for rows in corpus.train.values() for row in rows])
        self._held_out: list[Row] = [row for rows in corpus.held_out.values() for row in rows]
        self._held_out_table = Table(self._held_out)

    @property
    def labels(self) -> Sequence[str]:
        """The K labels, in the order of the emissions."""
        return LABELS

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Cross-entropy has weight 1."""
        return {"ce": 1.0, "crf": self._crf_loss_weight}

    def model(self) -> nn.Module:
        """A new tagger with random weights, its CRF frozen if nothing trains it."""
        model = Tagger(self._hidden_size, self._layers, self._heads)
        model.crf.requires_grad_(self._crf_loss_weight != 0)
        return model

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        """Training addresses, drawn by source weight."""
        return map(self._train.batch, self._sampler.batches(batch_size, seed=seed, rank=rank, world_size=world_size))

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """`ce`, a mean over tokens by class weight; `crf`, a mean over sequences or tokens. In nats."""
        mask_BT, labels_BT = batch["mask"], batch["labels"]
        emissions_BTK: Tensor = model(batch["features"], mask_BT)
        device = emissions_BTK.device
        if device not in self._weights_on:  # moved once: a copy from pageable memory waits for the device
            self._weights_on[device] = self._class_weights_K.to(device)
        ce = F.cross_entropy(
            emissions_BTK.flatten(0, 1).float(), labels_BT.flatten(), self._weights_on[device], ignore_index=PADDING
        )
        assert isinstance(model, Tagger)
        nll_B = model.crf.nll(emissions_BTK, labels_BT.clamp(min=0), mask_BT)
        items = mask_BT.sum() if self._crf_normalization == "per_token" else len(nll_B)
        return {"ce": ce, "crf": nll_B.sum() / items}

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """What each term is a mean over, on the host; `ce` over class weights, as torch takes a weighted mean."""
        labels = batch["labels"][batch["mask"]]
        items = len(labels) if self._crf_normalization == "per_token" else len(batch["labels"])
        return {"ce": self._class_weights_K[labels].sum().item(), "crf": items}

    def sources(self, batch: Batch) -> Mapping[str, int]:
        """How many addresses of the batch come from each source."""
        return Counter(batch["sources"])

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Span-level F1 and exact match on the held-out addresses, half of their names unseen."""
        return scores((row.address.spans, predicted) for row, predicted in self._predicted(model))

    def predictions(self, model: nn.Module) -> Iterator[Mapping[str, Any]]:
        """Every held-out address: `raw`, and its `gold` and `pred` spans, `raw[start:end]` each."""
        for row, predicted in self._predicted(model):
            gold, pred = ([span._asdict() for span in spans] for spans in (row.address.spans, predicted))
            yield {"raw": row.address.text, "gold": gold, "pred": pred}

    def example_inputs(self) -> tuple[Tensor, Tensor]:
        """Features [B, T, S] and mask [B, T] of a few held-out addresses, as `model.forward` takes them."""
        batch = self._held_out_table.batch(torch.arange(0, len(self._held_out), len(self._held_out) // 4))
        return batch["features"], batch["mask"]

    def _predicted(self, model: nn.Module) -> Iterator[tuple[Row, Sequence[Span]]]:
        assert isinstance(model, Tagger)
        device = model.emissions.weight.device
        for first in range(0, len(self._held_out), EVALUATION_BATCH):
            picked = torch.arange(first, min(first + EVALUATION_BATCH, len(self._held_out)))
            batch = self._held_out_table.batch(picked)
            mask = batch["mask"].to(device)
            with torch.no_grad():
                labels = model.crf.decode(model(batch["features"].to(device), mask), mask).tolist()
            for number, path in zip(picked.tolist(), labels, strict=True):
                row = self._held_out[number]
                yield row, self._spans(row, path[: len(row.tokens)])

    def _spans(self, row: Row, path: Sequence[int]) -> list[Span]:
        spans = list(decode(path, row.tokens))
        return trimmed(row.address.text, spans) if self._trim_spans else spans


def trimmed(text: str, spans: Sequence[Span]) -> list[Span]:
    """The spans without the punctuation at their ends; one that is nothing else is dropped."""
    from pytest_smoke.spans import trim_boundary

    ends = [(span.tag, *trim_boundary(text, span.start, span.end)) for span in spans]
    return [Span(tag, start, end) for tag, start, end in ends if start < end]


def _by_label(class_weights: Mapping[str, float]) -> Tensor:
    """Weight of each label [K]: that of its tag, or 1. Raises ValueError for what is neither a tag nor O."""
    unknown = [name for name in class_weights if name not in (*TAGS, "O")]
    if unknown:
        raise ValueError(f"class_weights names {', '.join(unknown)}; the classes are O, {', '.join(TAGS)}")
    return torch.tensor([float(class_weights.get(label.rpartition("-")[2], 1.0)) for label in LABELS])
