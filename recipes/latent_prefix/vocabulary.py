"""A vocabulary of words, pieces of words and letters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

WORD = re.compile(r"\w+|[^\w\s]")
PIECE_LETTERS = 3
"""Letters in a piece of an unknown word. An unknown piece is split into letters."""
PADDING, UNKNOWN, END = range(3)
"""Special token numbers. END ends an answer."""
SPECIAL = ("<padding>", "<unknown>", "<end>")


class Vocabulary:
    """Convert text to token numbers and back. A token's number is its position in `tokens`."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tuple(tokens)
        self._numbers = {token: number for number, token in enumerate(self.tokens)}
        self._words: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """Return the token numbers of a text. An unknown letter becomes UNKNOWN."""
        return [number for word in words(text) for number in self._word(word)]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Return the tokens of an answer up to END."""
        found = []
        for number in numbers:
            if number == END:
                break
            found.append(self.tokens[number])
        return found

    def _word(self, word: str) -> list[int]:
        if word not in self._words:
            whole = self._numbers.get(word)
            self._words[word] = (
                [whole] if whole is not None else [n for piece in pieces(word) for n in self._piece(piece)]
            )
        return self._words[word]

    def _piece(self, piece: str) -> list[int]:
        whole = self._numbers.get(piece)
        return [whole] if whole is not None else [self._numbers.get(letter, UNKNOWN) for letter in piece]


def words(text: str) -> list[str]:
    """Split a text into runs of letters and digits, and single punctuation marks."""
    return WORD.findall(text)


def pieces(word: str) -> list[str]:
    """Split a word into pieces: `Guangzhou` into `Gua`, `ngz` and `hou`."""
    return [word[at : at + PIECE_LETTERS] for at in range(0, len(word), PIECE_LETTERS)]


def build_vocabulary(
    known: Iterable[str], text: str, names: Iterable[str], *, word_uses: int, piece_uses: int
) -> Vocabulary:
    """Build a vocabulary.

    It has the words of `known`, words that occur at least `word_uses` times in `text`, pieces that occur at least
    `piece_uses` times in other words of `names`, and all letters.
    """
    uses, whole = Counter(words(text)), {word for some in known for word in words(some)}
    whole |= {word for word, count in uses.items() if count >= word_uses}
    rare = [word for name in names for word in words(name) if word not in whole]
    common = {
        piece for piece, count in Counter(p for word in rare for p in pieces(word)).items() if count >= piece_uses
    }
    letters = {letter for word in (*uses, *rare, *whole) for letter in word}
    return Vocabulary([*SPECIAL, *sorted(whole | common | letters)])
