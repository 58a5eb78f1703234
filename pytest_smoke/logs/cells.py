"""Numbers as trainers write them: the token that a text line is split at, and the value of a cell."""

from __future__ import annotations

import math
import re

Cell = str | float | None
"""As logged: text (perhaps blank), a number, or null."""

_AFTER_DIGIT = r"""(?:
    [0-9]{0,2}+(?:,[0-9]{3})++(?:\.[0-9]++)?+(?![0-9]|,[0-9])                      # 150,100
  | (?<=[:=\s+-][0-9])[0-9]*+,[0-9]++(?![0-9]|[.,][0-9])                           # loss: 2,31
  | \.\#(?:[QS]NAN|IND|INF)[0-9]*+                                                 # 1.#QNAN, as MSVC prints NaN
  | [0-9]*+(?:\.[0-9]*+)?+(?:[eE][-+]?[0-9]++)?+(?![0-9_])
)"""
_NAN = r"[aA][nN](?:\([a-z]*+\))?+(?!\w)"
_INF = r"[nN][fF](?:[iI][nN][iI][tT][yY])?+(?!\w)"

NUMBER = re.compile(
    rf"""(
    [0-9](?:(?<![\w.][0-9])|(?<=[Rr]ank[0-9])|(?<=RANK[0-9])|(?<=default[0-9])
          |(?<=[Nn]ode[0-9])|(?<=[Ww]orker[0-9])|(?<=GPU[0-9])|(?<=gpu[0-9])){_AFTER_DIGIT}
  | [-+](?<![\w.][-+])(?:[0-9]{_AFTER_DIGIT}|\.[0-9]++(?:[eE][-+]?[0-9]++)?+(?![0-9_])
                        |[nN]{_NAN}|[iI]{_INF})
  | \.(?<![\w.]\.)[0-9]++(?:[eE][-+]?[0-9]++)?+(?![0-9_])
  | [nN](?<![\w.][nN]){_NAN}
  | [iI](?<![\w.][iI]){_INF}
  )""",
    re.VERBOSE,
)
"""A number in a text line.

Every quantifier is possessive and every match starts at a word boundary, so that the time to search a line is
proportional to its length; every alternative starts with a set of characters, which `re` scans fast. A rank may be
glued to its word, as in `[rank0]`.
"""

_BLANK = {"", "none", "null", "n/a", "na", "-", "--", "no log"}
_WRAPPED = re.compile(
    r"""(?:[A-Za-z_][\w.]{0,30}\(|[\[('"]){1,3}\s*([^,()\[\]'"\s]{1,40})\s*(?:,[^()]*+\)|[)\]'"]){1,3}"""
)
"""`tensor(2.5, device='cuda:0')`, `np.float64(2.5)`, `[0.001]`."""
_COUNT = re.compile(r"\s*(\d{1,18})\s*/\s*\d{1,18}\s*")
_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_COMMA = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")
_NON_FINITE = re.compile(r"([-+]?)(?:\d\.#)?([QS]?NAN|IND|INF(?:INITY)?)(?:\([a-z]*\))?\d*\.?", re.IGNORECASE)
MAX_CELL_CHARS = 400
"""A longer cell is text."""


def number(cell: Cell, *, decimal_comma: bool = False) -> float | None:
    """Return the number in a cell, None for a blank or null. Raises ValueError for any other text.

    Reads what Python's `float` reads, thousands separators (`150,100`), counts (`80/240` is 80), decimal commas, the
    spellings of NaN and infinity of other languages, and numbers in brackets or in `tensor(...)`. A single comma before
    three digits is a thousands separator, unless the log uses a `decimal_comma`.
    """
    if cell is None:
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        pass
    text = str(cell).strip().replace("\N{MINUS SIGN}", "-")
    if text.lower() in _BLANK:
        return None
    if len(text) > MAX_CELL_CHARS:
        raise ValueError(f"{text[:MAX_CELL_CHARS]!r} is not a number")
    if decimal_comma and _COMMA.fullmatch(text):
        return float(text.replace(",", "."))
    if _GROUPS.fullmatch(text):
        return float(text.replace(",", ""))
    if _COMMA.fullmatch(text):
        return float(text.replace(",", "."))
    if found := _COUNT.fullmatch(text):
        return float(found.group(1))
    if found := _NON_FINITE.fullmatch(text):
        size = math.inf if found.group(2).upper().startswith("INF") else math.nan
        return -size if found.group(1) == "-" else size
    if (found := _WRAPPED.fullmatch(text)) and found.group(1) != text:
        return number(found.group(1), decimal_comma=decimal_comma)
    return float(text)


def is_number(cell: str) -> bool:
    """Whether a cell holds a number."""
    try:
        return number(cell) is not None
    except ValueError:
        return False
