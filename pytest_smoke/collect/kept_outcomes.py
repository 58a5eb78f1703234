"""The outcomes of a session, packed: thousands of them stay small until the reports at its end need them all."""

from __future__ import annotations

import gc
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe_texts import restore_recipe_text, share_recipe_text
from pytest_smoke.report.verdicts_json import lossless_json, tree_json

LEVEL = 1
"""Of zlib: about 20 us for an outcome, which becomes a third as long. Higher levels take longer and gain little."""
NOT_STRICT = ("NaN", "Infinity")
"""What JSON has no numbers for, as Python's `json` writes it."""


@contextmanager
def without_collection() -> Iterator[None]:
    """Pause the collection of cycles: rendering makes many objects and no cycles, and is over soon.

    A full collection visits all items and reports that pytest keeps, which takes longer than to render them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class KeptOutcomes:
    """Keeps each outcome as compressed JSON by its id, in the order in which they arrive; each recipe's text once."""

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}
        self._unpacked: list[Outcome] | None = None
        self.recipe_texts: dict[str, str] = {}
        """Texts that the outcomes share, by their SHA-256."""

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._packed

    def add(self, outcome: Outcome, tree: Mapping[str, Any] | None = None) -> None:
        """Keep an outcome. `tree`: its `to_dict`, where that is known already."""
        text = lossless_json(share_recipe_text(outcome.to_dict() if tree is None else tree, self.recipe_texts))
        self._unpacked = None
        self._packed[outcome.id] = zlib.compress(text.encode(), LEVEL)

    def all(self) -> list[Outcome]:
        """Return all outcomes in the order in which they arrived.

        They stay unpacked until another one arrives, or until `pack`.
        """
        if self._unpacked is None:
            trees = (json.loads(zlib.decompress(packed)) for packed in self._packed.values())
            self._unpacked = [Outcome.from_dict(restore_recipe_text(tree, self.recipe_texts)) for tree in trees]
        return self._unpacked

    def pack(self) -> None:
        """Forget the unpacked outcomes: pytest collects garbage several times at its end, among all objects."""
        self._unpacked = None

    def texts(self) -> Iterator[str]:
        """Iterate over the outcomes as they are in `verdicts.json`, sorted by id."""
        for item_id in sorted(self._packed):
            text = zlib.decompress(self._packed[item_id]).decode()
            if any(word in text for word in NOT_STRICT):
                text = tree_json(json.loads(text))
            yield text
