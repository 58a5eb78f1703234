"""The form of a printed line: which of its numbers has which name.

A line is split at its numbers. What lies between them is the same for all lines of one print statement, so it is
interpreted once per form and looked up for every other line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_smoke.logs import columns

COUNT = "count"
"""Column of the innermost count without a name, as 300 in `[1/25][300/3183] Loss: 2.3`."""
LEADING = "leading number"
"""Column of a number without a name that begins the line, as 300 in `300 | loss 2.3`."""
OUTER_COUNT = "outer count"
"""Column of the count before it: 1 in `[1/25][300/3183] Loss: 2.3`."""
MAX_NUMBERS = 2000
"""Numbers of a line that can have a name; the rest of a longer line is not read."""
MAX_NAME_CHARS = 80
_MAX_TEMPLATE_CHARS = 100_000
_MAX_WEAK_WORDS = 3
"""Words of a name that no colon or equals sign follows and that has no known word; a longer one is a sentence."""

_N, _IGNORED = "\0", "\1"
"""A number in a template; one that is part of a time, a place in the code or a progress bar."""
_TIME = f"{_N}:{_N}(?::{_N})?(?:[.,]{_N})?"
_NOISE = re.compile(
    rf"""
    ^\W{{0,3}}{_N}/{_N}[ ]{_TIME}(?!\s*<)
  | (?<![\w.]){_N}[-/.]{_N}[-/.]{_N}[T_ ,]{{1,2}}(?:-\s)?{_TIME}(?:\s?[AP]M\b|Z|[-+]{_N}(?::{_N})?)?  # date, time
  | (?<![\w.]){_N}-{_N}-{_N}(?![\w-])
  | (?:{_N}\sdays?,\s)?{_TIME}(?:<(?:{_N}\sdays?,\s)?{_TIME}|<\?)?  # durations
  | \b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{{0,6}}\.?\s+{_N}
  | \b[IWEF]\d{{4}}\s+[{_N}{_IGNORED}:.]+\s+{_N}\s  # glog
  | [\w.<>/-]{{1,100}}:[\w.<>]{{1,100}}:{_N}(?=\s(?:-|\|))  # loguru
  | (?:^|(?<=[\s(\[|]))[\w./<>-]{{1,200}}\.(?:py|cpp|cc|cu|c|h|hpp|java|scala|jl|rs|go)\b
    [\s:]{{0,3}}(?:line[\s:]{{1,3}})?{_N}(?:\s+{_N}\])?(?::\w{{1,80}})?
  | \((?:trainer|launch|abs_task|train|main):{_N}\)
  | {_N}%\|[^|]*\|  # tqdm
  | {_N}%\s?[^\w\s\[\](){_N}{_IGNORED}]{{2,}}  # rich
  | \[[\s=>.\#-]{{5,}}\]  # Keras
  | \b(?:INFO|DEBUG|WARNING|WARN|ERROR|CRITICAL|NOTICE)\b
    """,
    re.VERBOSE,
)
_DARKNET = re.compile(rf"\s*{_N}(?:, {_N})?: {_N}, {_N} avg(?: loss)?, {_N} rate")
"""`9798: 0.370096, 0.451929 avg, 0.001000 rate, 3.3 seconds, 627072 images`; classifiers print `12, 0.4: 2.3, ...`."""
_MPI = re.compile(rf"\s*\[{_N},{_N}\]<std(?:out|err)>:")
"""What `mpirun --tag-output` writes before a line."""
_DARKNET_LAYER = re.compile(r"\s*(?:v3|v4|Region|\(next mAP)\b")
_DELIMITERS = re.compile(r"[|,;\t)\]}>]|(?<=[a-z]{5})\.\s|\s[-\u2013\u2014\u00b7\u2022]\s|\s{2,}")
_ASIDE = re.compile(r"\s?\([A-Za-z ]{1,30}\)")
"""`(for one batch)` in `Training loss (for one batch) at step 0: 2.3`."""
_UNIT = re.compile(r"/?(?:[A-Za-z\u00b5\u00b0]+|%)(?:/[A-Za-z]+)?")
_WORD_NAME = re.compile(r"[A-Za-z_#][\w./#-]*")
_SYMBOLS = re.compile(r"^[^\w#]+")
_WRAPPER = re.compile(r"\b(?:tensor|array|Array|DeviceArray|(?:np\.|numpy\.)?float\d*)\($")
_SEPARATORS = " \t:=[({<\"'`*~>\u2192\u2248-"
_LABEL = re.compile(
    r"(?<![\w./-])(?:(valid|validation|validate|validating|val|eval|evaluation|evaluate|evaluating|test|testing|dev|holdout)"
    r"|(train|training))(?![\w./-])",
    re.IGNORECASE,
)
_SUMMARY_WORDS = re.compile(
    r"\b(?:averaged|average|avg|mean|summary|results?|finished|completed|ended|overall|final|finally|end of)\b",
    re.IGNORECASE,
)
_ATTACHED = {"epoch": "epoch", "batch": "batch", "step": "step", "steps": "step", "iter": "iter", "it": "iter"}
_RATES = re.compile(r"(?<![A-Za-z])(?:it|s)/(?:s|it)\b|%\|")


@dataclass(frozen=True, slots=True)
class Shape:
    """The meaning of the lines with one form."""

    cells: tuple[tuple[int, str, bool], ...]
    """Position of the number, its column, and whether only a finite number can be meant."""
    flags: int
    """`table.SUMMARY` and `table.BAR`, or 0."""
    label: str
    """Word of held-out data that the line is about, as `valid`; empty for training."""


def shape_of(gaps: Sequence[str], numbers: Sequence[str], *, summary_flag: int, bar_flag: int) -> Shape:
    """Interpret what lies before, between and after the numbers of a line; `numbers` are those of its first line."""
    reader = _ShapeReader(gaps[: MAX_NUMBERS + 1], numbers)
    template = reader.template
    flags = summary_flag if reader.is_summary else 0
    if _RATES.search(template):
        flags |= bar_flag
    return Shape(tuple(reader.cells), flags, reader.label)


class _ShapeReader:
    """Walks once over a template."""

    def __init__(self, gaps: Sequence[str], numbers: Sequence[str]) -> None:
        self._numbers = numbers
        clean = (gap.replace(_N, " ").replace(_IGNORED, " ") for gap in gaps)
        self.template = _N.join(clean)[:_MAX_TEMPLATE_CHARS]
        self.cells: list[tuple[int, str, bool]] = []
        self.label = ""
        self.is_summary = False
        self._counts: list[int] = []
        """Positions of the counts without a name, before the first number with one."""
        self._leading = -1
        """Position of the first number if it begins the line."""
        self._read()

    def _read(self) -> None:
        if _DARKNET_LAYER.match(self.template):
            return
        if _DARKNET.match(self.template):
            at = 0 if self.template.split(":", 1)[0].count(_N) == 1 else 1
            self.cells = [
                (0, "batch", False),
                (at + 1, "loss", False),
                (at + 2, "avg loss", False),
                (at + 3, "rate", False),
            ]
            return
        if _MPI.match(self.template):
            self.cells.append((1, "rank", False))
            self.template = self.template.replace(_N, _IGNORED, 2)
        self._is_bar = _RATES.search(self.template) is not None
        cleaned = _NOISE.sub(lambda found: " " + _IGNORED * found.group().count(_N) + " ", self.template)
        pieces = re.split(f"([{_N}{_IGNORED}])", cleaned)
        gaps, kinds = pieces[::2], pieces[1::2]
        skip_next, named, carried, pending = False, False, "", ""
        is_first = True
        for at, kind in enumerate(kinds):
            before, after = carried + gaps[at], gaps[at + 1]
            carried = before if kind == _IGNORED else ""
            is_total, skip_next = skip_next, False
            if at + 1 < len(kinds) and after.strip() == "/":
                skip_next = True
            if kind == _IGNORED:
                continue
            is_first, was_first = False, is_first
            if is_total or self._is_denominator(before, at):
                self._note_text(before)
                continue
            name, is_strong, text = self._name(before, first=at == 0)
            self._note_text(text)
            is_percent = after.startswith("%")
            if not name and pending and not before.strip(_SEPARATORS):
                name, is_strong = pending, True
            pending = ""
            if (sentence := columns.split_sentence(name)) is not None and not is_strong:
                pending, name = sentence
            elif name and not is_strong and columns.is_component(name) and self._is_step_before_loss(at, after):
                pending, name = name, COUNT
            if not name:
                if (own := self._name_after(before, after)) is not None:
                    self._add(at, own, is_strong=False)
                elif not is_percent and self._is_count(before, named=named, counted=skip_next, first=was_first):
                    self._counts.append(at)
                    if was_first and not skip_next:
                        self._leading = at
                continue
            if is_percent and columns.is_counter(name):
                continue
            is_epoch = not skip_next and after.strip() == "[" and columns.words(name) <= {"train", "training"}
            is_unknown = not (columns.is_counter(name) or columns.is_micro(name) or columns.is_component(name))
            if is_epoch or (skip_next and is_unknown):
                self._note_text(name)
                self._counts.append(at)
                continue
            if columns.is_counter(name):
                self._note_text(name)
                name = columns.counter_tail(name)
            else:
                named = True
                if not columns.is_known(name):
                    self._note_text(name)
            self._add(at, name, is_strong=is_strong)
        for name, at in zip((COUNT, OUTER_COUNT), reversed(self._counts), strict=False):
            self.cells.append((at, LEADING if at == self._leading and len(self._counts) == 1 else name, False))
        self._note_text(carried + gaps[-1] if not self.cells else "")

    def _note_text(self, text: str) -> None:
        """Remember what the words outside the names say about the numbers that follow."""
        for found in _LABEL.finditer(text):
            self.label = (found.group(1) or "").lower()
        if _SUMMARY_WORDS.search(text):
            self.is_summary = True

    def _add(self, at: int, name: str, *, is_strong: bool) -> None:
        if not is_strong and not columns.is_known(name) and len(name.split()) > _MAX_WEAK_WORDS:
            return
        is_weak = not is_strong and not columns.ends_in_role(name)
        if self.label and not columns.is_counter(name) and not columns.is_held_out(name):
            name = f"{self.label} {name}"
        self.cells.append((at, name, is_weak))

    @staticmethod
    def _is_denominator(before: str, at: int) -> bool:
        """Whether the number is the second part of a quotient, as 390 in `62.4s/390 iters`."""
        return bool(at) and re.fullmatch(r"\w{0,10}\s*/\s*", before) is not None

    def _is_count(self, before: str, *, named: bool, counted: bool, first: bool) -> bool:
        """Whether a number without a name may count: in square brackets, at the start of the line, or `12/1500`.

        After the first name only a count of a bar or in brackets, as in `loss: 2.3  [   64/60000]`.
        """
        is_bracketed = before.rstrip(" ").endswith("[")
        if named:
            return counted and not self._counts and (is_bracketed or self._is_bar)
        return (
            counted
            or is_bracketed
            or (first and not before.strip(" #\t-=>*[]()|"))
            or (bool(self._counts) and before.strip() in (",", "|"))
        )

    def _is_step_before_loss(self, at: int, after: str) -> bool:
        """Whether a whole number after the name of a loss is its step, as in `Train loss 5 2.345` (Tacotron)."""
        pair = self._numbers[at : at + 2]
        return not after.strip() and len(pair) == 2 and pair[0].isdigit() and not pair[1].isdigit()

    @staticmethod
    def _name_after(before: str, after: str) -> str | None:
        """Return the name of a number that stands before its name, as in `1epoch:train:1-1000batch`."""
        found = _UNIT.match(after)
        if found is None or (before and before[-1] == "("):
            return None
        return _ATTACHED.get(found.group().lower())

    @staticmethod
    def _name(gap: str, *, first: bool) -> tuple[str, bool, str]:
        """Return the name at the end of a gap, whether `:` or `=` follows it, and the text before it."""
        start = 0
        if not first and (unit := _UNIT.match(gap)):
            start = unit.end()
        gap = _WRAPPER.sub("", gap[start:])
        text = gap.rstrip(_SEPARATORS)
        tail = gap[len(text) :]
        is_strong = ":" in tail or "=" in tail or ">" in tail
        if not text:
            return "", False, ""
        if text[-1] in ",;":
            return _listed_name(text[:-1], gap)
        if text[-1] in ")]}":
            return _bracketed_name(text, is_strong, gap)
        text = _ASIDE.sub("", text)
        last = _DELIMITERS.split(text)[-1]
        name, is_strong = _after_label(last, is_strong)
        return name, is_strong, text[: len(text) - len(name)]


def _listed_name(text: str, gap: str) -> tuple[str, bool, str]:
    """Return the name in `step 10, loss_train, 0.838`: a known word between commas."""
    pieces = re.split("[,;]", text)
    name = pieces[-1].strip()
    if len(pieces) > 1 and _WORD_NAME.fullmatch(name) and columns.is_known(name):
        return name, False, text[: len(text) - len(pieces[-1])]
    return "", False, gap


def _bracketed_name(text: str, is_strong: bool, gap: str) -> tuple[str, bool, str]:
    """Return the name in `[Loss] 2.3`, `iter time (s): 3.2` or `Loss (train): 2.3`."""
    opening = max(text.rfind(bracket) for bracket in "([{")
    if opening < 0:
        return "", False, gap
    content, before = text[opening + 1 : -1].strip(), text[:opening]
    last = _DELIMITERS.split(before.rstrip())[-1].strip() if before.strip() else ""
    is_attached = bool(last) and (text[opening] == "(" or not before.endswith(" "))
    if is_attached:
        name, is_strong = _after_label(f"{last} ({content})", is_strong)
        return name, is_strong, before[: len(before.rstrip()) - len(last)]
    if not content or not re.search("[A-Za-z]", content):
        return "", False, gap
    if not is_strong and not columns.is_known(content):
        return "", False, gap
    return content, is_strong, before


def _after_label(text: str, is_strong: bool) -> tuple[str, bool]:
    """Drop a label before a colon, as `root: step`, unless it tells what the number is about, as `Valid: loss`."""
    text = _SYMBOLS.sub("", text).strip().strip("\"'`*").strip()
    label, colon, name = text.rpartition(":")
    if colon and name.strip() and (columns.is_counter(name.strip()) or not columns.tells_role(label)):
        text = name.strip()
    if len(text) > MAX_NAME_CHARS:
        text = text[-MAX_NAME_CHARS:].partition(" ")[2]
    if not re.search(r"[^\W\d_]|#", text):
        return "", False
    return text, is_strong
