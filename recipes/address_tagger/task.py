"""The task of address_tagger.smoke.yaml: arguments, data, the two loss terms, and evaluation."""

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
"""Held-out addresses that are decoded at once."""


class AddressTagger:
    """Tag address tokens with BIO labels, trained on cross-entropy and the likelihood of a CRF.

    `crf_loss_weight: 0` trains on cross-entropy alone. The transitions of the CRF then stay 0 and are frozen. Its BIO
    mask is still used for decoding, and its likelihood is still reported, as a term with weight 0.
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
            raise ValueError(f"crf_normalization is {crf_normalization!r}, but must be {allowed}")
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
        """The K labels in the order of the emissions."""
        return LABELS

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Weight of each loss term. Cross-entropy has weight 1."""
        return {"ce": 1.0, "crf": self._crf_loss_weight}

    def model(self) -> nn.Module:
        """Return a new tagger with random weights. Its CRF is frozen if the CRF loss has weight 0."""
        model = Tagger(self._hidden_size, self._layers, self._heads)
        model.crf.requires_grad_(self._crf_loss_weight != 0)
        return model

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        """Yield training addresses, sampled by source weight."""
        return map(self._train.batch, self._sampler.batches(batch_size, seed=seed, rank=rank, world_size=world_size))

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Return `ce`, a mean over tokens by class weight, and `crf`, a mean over sequences or tokens, in nats."""
        mask_BT, labels_BT = batch["mask"], batch["labels"]
        emissions_BTK: Tensor = model(batch["features"], mask_BT)
        device = emissions_BTK.device
        if device not in self._weights_on:  # copied once: a copy from pageable memory synchronizes with the device
            self._weights_on[device] = self._class_weights_K.to(device)
        ce = F.cross_entropy(
            emissions_BTK.flatten(0, 1).float(), labels_BT.flatten(), self._weights_on[device], ignore_index=PADDING
        )
        assert isinstance(model, Tagger)
        nll_B = model.crf.nll(emissions_BTK, labels_BT.clamp(min=0), mask_BT)
        items = mask_BT.sum() if self._crf_normalization == "per_token" else len(nll_B)
        return {"ce": ce, "crf": nll_B.sum() / items}

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Return what each term is a mean over: for `ce` the sum of class weights, as in torch's weighted mean."""
        labels = batch["labels"][batch["mask"]]
        items = len(labels) if self._crf_normalization == "per_token" else len(batch["labels"])
        return {"ce": self._class_weights_K[labels].sum().item(), "crf": items}

    def sources(self, batch: Batch) -> Mapping[str, int]:
        """Return the number of addresses in the batch by source."""
        return Counter(batch["sources"])

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Return span-level F1 and exact match on the held-out addresses. Half of their names are not in training."""
        return scores((row.address.spans, predicted) for row, predicted in self._predicted(model))

    def predictions(self, model: nn.Module) -> Iterator[Mapping[str, Any]]:
        """Yield every held-out address as `raw` text with its `gold` and `pred` spans."""
        for row, predicted in self._predicted(model):
            gold, pred = ([span._asdict() for span in spans] for spans in (row.address.spans, predicted))
            yield {"raw": row.address.text, "gold": gold, "pred": pred}

    def example_inputs(self) -> tuple[Tensor, Tensor]:
        """Return features [B, T, S] and mask [B, T] of four held-out addresses, the inputs of `model.forward`."""
        batch = self._held_out_table.batch(torch.arange(0, len(self._held_out), len(self._held_out) // 4))
        return batch["features"], batch["mask"]

    def _predicted(self, model: nn.Module) -> Iterator[tuple[Row, Sequence[Span]]]:
        assert isinstance(model, Tagger)
        device = model.emissions.weight.device
        for first in range(0, len(self._held_out), EVALUATION_BATCH):
            rows = torch.arange(first, min(first + EVALUATION_BATCH, len(self._held_out)))
            batch = self._held_out_table.batch(rows)
            mask = batch["mask"].to(device)
            with torch.no_grad():
                labels = model.crf.decode(model(batch["features"].to(device), mask), mask).tolist()
            for number, path in zip(rows.tolist(), labels, strict=True):
                row = self._held_out[number]
                yield row, self._spans(row, path[: len(row.tokens)])

    def _spans(self, row: Row, path: Sequence[int]) -> list[Span]:
        spans = list(decode(path, row.tokens))
        return trimmed(row.address.text, spans) if self._trim_spans else spans


def trimmed(text: str, spans: Sequence[Span]) -> list[Span]:
    """Remove punctuation from both ends of each span, and drop spans that consist of nothing else."""
    from pytest_smoke.spans import trim_boundary

    ends = [(span.tag, *trim_boundary(text, span.start, span.end)) for span in spans]
    return [Span(tag, start, end) for tag, start, end in ends if start < end]


def _by_label(class_weights: Mapping[str, float]) -> Tensor:
    """Return the weight of each label [K]: that of its tag, or 1. Raises ValueError for an unknown tag."""
    unknown = [name for name in class_weights if name not in (*TAGS, "O")]
    if unknown:
        raise ValueError(f"class_weights has {', '.join(unknown)}, but the classes are O, {', '.join(TAGS)}")
    return torch.tensor([float(class_weights.get(label.rpartition("-")[2], 1.0)) for label in LABELS])
