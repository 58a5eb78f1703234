"""The outcomes of a session, packed: thousands of them stay small until the reports at its end need them all."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe_texts import restore_recipe_text, share_recipe_text
from pytest_smoke.report.verdicts_json import lossless_json, tree_json

LEVEL = 1
"""Level of zlib's compression. Higher levels take longer and gain little."""
BLOCK_CHARS = 2**18
"""Characters of outcomes that are compressed together. Those of one session resemble each other: preflights of similar
recipes are then compressed to a twentieth, each alone to two fifths."""
NOT_STRICT = ("NaN", "Infinity")
"""What JSON has no numbers for, as Python's `json` writes it."""
_SEPARATOR = "\0"
"""Between the outcomes of a block. No JSON has it: there it is written as an escape."""


class KeptOutcomes:
    """Keeps each outcome as JSON by its id, in the order in which they arrive, and each recipe's text once.

    All but the last ones are compressed.
    """

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._blocks: list[bytes] = []
        """Compressed JSON of consecutive outcomes, with `_SEPARATOR` between them."""
        self._last: list[str] = []
        """JSON of those that no block has yet."""
        self._last_chars = 0
        self._unpacked: list[Outcome] | None = None
        self.recipe_texts: dict[str, str] = {}
        """Texts that the outcomes share, by their SHA-256."""

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._ids

    def add(self, outcome: Outcome, tree: Mapping[str, Any] | None = None) -> None:
        """Keep an outcome whose id is new. `tree`: its `to_dict`, where that is known already."""
        text = lossless_json(share_recipe_text(outcome.to_dict() if tree is None else tree, self.recipe_texts))
        self._unpacked = None
        self._ids[outcome.id] = None
        self._last.append(text)
        self._last_chars += len(text)
        if self._last_chars > BLOCK_CHARS:
            self._blocks.append(zlib.compress(_SEPARATOR.join(self._last).encode(), LEVEL))
            self._last, self._last_chars = [], 0

    def all(self) -> list[Outcome]:
        """Return all outcomes in the order in which they arrived.

        They stay unpacked until another one arrives, or until `pack`.
        """
        if self._unpacked is None:
            trees = map(json.loads, self._in_order())
            self._unpacked = [Outcome.from_dict(restore_recipe_text(tree, self.recipe_texts)) for tree in trees]
        return self._unpacked

    def pack(self) -> None:
        """Forget the unpacked outcomes: pytest makes several full garbage collections at its end."""
        self._unpacked = None

    def texts(self) -> Iterator[str]:
        """Iterate over the outcomes as they are in `verdicts.json`, sorted by id."""
        for _, text in sorted(zip(self._ids, self._in_order(), strict=True)):
            yield tree_json(json.loads(text)) if any(word in text for word in NOT_STRICT) else text

    def _in_order(self) -> Iterator[str]:
        for block in self._blocks:
            yield from zlib.decompress(block).decode().split(_SEPARATOR)
        yield from self._last
