"""Read YAML text as plain data, with the line and column of every key and value.

Plain scalars have PyYAML's value (YAML 1.1). Those that YAML readers disagree about, or that YAML 1.1 reads in a way
few people expect (`1e-3` is text, `off` is false, `010` is 8), are faults, so that no recipe means something else than
its author thinks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isinf
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pytest_smoke.errors import Fault

MAX_DEPTH = 50
"""Levels of nested mappings and lists. libyaml's composer is recursive and overflows the C stack near 10,000 levels."""
MAX_NODES = 20_000
"""Keys and values in a file, with aliases expanded; a recipe has about 100."""

Place = tuple[int, int]
"""Line and column, from 1."""
Scalar = str | int | float | bool | None


class _Refused:
    """Replaces a value that has a fault, so that no later check reports it a second time."""

    def __repr__(self) -> str:
        return "<refused>"


REFUSED: Final = _Refused()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Which YAML a file may have, and what messages call the file."""

    noun: str
    """`recipe` or `config`."""
    shape: str
    """What the file must contain, for messages."""
    strict: bool
    """Whether a scalar that YAML readers disagree about, a tag or a merge key is a fault. If not, they mean what they
    mean to the trainers that read the file: `1e-4` is a number, `off` is false, `<<` merges."""


RECIPE: Final = Dialect(noun="recipe", shape="a recipe is a mapping with the keys task, full and smoke", strict=True)
CONFIG: Final = Dialect(noun="config", shape="a config is a mapping of settings", strict=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Document:
    """The data of one recipe file, and the place of each part of it."""

    path: str
    """The file, as faults name it."""
    root: MappingNode
    """PyYAML's nodes, which know their lines and columns."""
    data: dict[str, Any]
    """Plain data, with `REFUSED` in place of every value that has a fault."""
    text: str = field(default="", repr=False)
    """The file as it was read."""

    def key_place(self, keys: Sequence[str | int]) -> Place | None:
        """Return where the last of `keys` is written, or where an element of a list starts; None if it is not here."""
        found = _find(self.root, keys)
        return found and _place(found[0])

    def key_lines(self, depth: int = 3) -> Iterator[tuple[tuple[str | int, ...], int]]:
        """Iterate over the lines of all keys and elements of lists, down to `depth` levels."""
        return _lines(self.root, depth, ())

    def value_place(self, keys: Sequence[str | int]) -> Place | None:
        """Return where the value at `keys` starts; None if it is not here."""
        found = _find(self.root, keys)
        return found and _place(found[1])


def parse_document(text: str, path: str, dialect: Dialect = RECIPE) -> tuple[Document | None, list[Fault]]:
    """Return the document in `text` (None if it has no readable mapping) and every fault of its YAML."""
    control = _UNPRINTABLE.search(text)
    if control:
        line, column = place_at(text, control.start())
        return None, [Fault(path, line, column, f"control character {control[0]!r} is not allowed in YAML; delete it")]
    try:
        root = yaml.compose(text, _Loader)
    except _TooLargeError as error:
        return None, [_limit_fault(error, path, dialect)]
    except yaml.YAMLError as error:
        return None, [_fault_before(error, text, path, dialect) or _syntax_fault(error, text, path, dialect)]
    if root is None or (isinstance(root, ScalarNode) and root.tag == _PLAIN and not root.value):
        return None, [Fault(path, 1, 1, f"the file is empty; {dialect.shape}")]
    reader = _Reader(path, dialect)
    try:
        data = reader.value(root)
    except _TooLargeError as error:
        return None, [*reader.faults, _limit_fault(error, path, dialect)]
    if not isinstance(root, MappingNode) or not isinstance(data, dict):
        shape = "a list" if isinstance(root, SequenceNode) else f"the text {_short(root.value)}"
        return None, reader.faults or [Fault(path, *_place(root), f"the file contains {shape}; {dialect.shape}")]
    return Document(path=path, root=root, data=data, text=text), reader.faults


def place_at(text: str, index: int) -> Place:
    """Return the line and column of a character, given its index."""
    return text.count("\n", 0, index) + 1, index - (text.rfind("\n", 0, index) + 1) + 1


_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PLAIN, _TEXT = "plain", "text"
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _TooLargeError(Exception):
    def __init__(self, node: Node, text: str) -> None:
        super().__init__(text)
        self.node = node
        self.text = text


class _Loader(_Base):  # type: ignore[misc]  # the base class is chosen at run time
    """Composes nodes whose tags say only whether a scalar is plain; nothing is constructed."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0
        self._nodes = 0

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        return _PLAIN if kind is ScalarNode and implicit[0] else _TEXT

    def descend_resolver(self, parent: Node | None, index: Any) -> None:
        self._depth += 1
        self._nodes += 1
        if parent is not None and self._depth > MAX_DEPTH:
            raise _TooLargeError(parent, f"more than {MAX_DEPTH} nested levels; a recipe needs fewer than 10")
        if parent is not None and self._nodes > MAX_NODES:
            raise _TooLargeError(parent, f"more than {MAX_NODES:,} keys and values; a recipe needs about 100")

    def ascend_resolver(self) -> None:
        self._depth -= 1


def _limit_fault(error: _TooLargeError, path: str, dialect: Dialect) -> Fault:
    """Return the fault of too many levels or values; what a recipe needs is said about recipes only."""
    return Fault(path, *_place(error.node), error.text if dialect is RECIPE else error.text.partition(";")[0])


def _fault_before(error: yaml.YAMLError, text: str, path: str, dialect: Dialect) -> Fault | None:
    """Return the fault of too many levels or values in the text before libyaml's error; None if there is none.

    libyaml scans up to 1,024 characters ahead of what it composes, and since 0.2.6 (PyYAML 6.0.4) the scanner has its
    own limit of 1,000 levels. Without this, the message would depend on the version.
    """
    mark = isinstance(error, yaml.MarkedYAMLError) and error.problem_mark
    if not mark:
        return None
    try:
        yaml.compose(text[: mark.index], _Loader)
    except _TooLargeError as too_large:
        return _limit_fault(too_large, path, dialect)
    except yaml.YAMLError:
        pass
    return None


class _Reader:
    """Convert nodes to plain data and collect their faults."""

    def __init__(self, path: str, dialect: Dialect) -> None:
        self.path = path
        self.dialect = dialect
        self.faults: list[Fault] = []
        self._nodes = 0
        self._open: set[int] = set()

    def value(self, node: Node) -> Any:
        """Return the node's data, or `REFUSED` if it has a fault of its own."""
        self._nodes += 1
        tag = node.tag
        if tag != _PLAIN and tag != _TEXT and self.dialect.strict:
            return self._refuse(node, f"tag {_tag_text(tag)} is not allowed; write the value without a tag")
        if isinstance(node, ScalarNode):
            if tag == _TEXT:
                return node.value
            try:
                return read_plain(node.value)
            except AmbiguousScalarError as error:
                return self._refuse(node, str(error)) if self.dialect.strict else _as_trainers_read(node.value)
        if id(node) in self._open:
            return self._refuse(node, "an alias refers to a value that it is part of; write the value out")
        if self._nodes > MAX_NODES:
            text = f"aliases expand to more than {MAX_NODES:,} keys and values; a recipe needs about 100"
            raise _TooLargeError(node, text)
        if len(self._open) >= MAX_DEPTH:
            raise _TooLargeError(node, f"aliases nest more than {MAX_DEPTH} levels; a recipe needs fewer than 10")
        self._open.add(id(node))
        data = self._mapping(node) if isinstance(node, MappingNode) else [self.value(item) for item in node.value]
        self._open.discard(id(node))
        return data

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: list[Any] = []
        for key_node, value_node in node.value:
            if key_node.value == "<<" and key_node.tag == _PLAIN and not self.dialect.strict:
                merged.append(self.value(value_node))
                continue
            key = self._key(key_node)
            if key in data:
                first = next(first for first, _ in node.value if first.value == key)
                line = first.start_mark.line + 1
                self._refuse(key_node, f"key {_short(key)} is already on line {line}; delete one of them")
            elif key is not None:
                data[key] = self.value(value_node)
        for base in merged:
            for one in base if isinstance(base, list) else [base]:
                data = {**one, **data} if isinstance(one, dict) else data
        return data

    def _key(self, node: Node) -> str | None:
        """Return the key's text; None if it has a fault."""
        if not isinstance(node, ScalarNode) or (node.tag != _PLAIN and node.tag != _TEXT):
            self._refuse(node, "a key must be text")
            return None
        key: str = node.value
        if not self.dialect.strict or node.tag == _TEXT or (key[:1].isalpha() and key not in _KEYS_READ_AS_VALUES):
            return key
        if key == "<<":
            self._refuse(node, "merge key << is not supported; use `extends`, or write the keys out")
            return None
        if key in _KEYS_READ_AS_VALUES or not isinstance(_read_key(key), str):
            self._refuse(node, f"key {key or '(empty)'} is not text in YAML; quote it")
            return None
        return key

    def _refuse(self, node: Node, text: str) -> _Refused:
        self.faults.append(Fault(self.path, *_place(node), text))
        return REFUSED


_KEYS_READ_AS_VALUES = frozenset(
    spelling
    for word in ("true", "false", "null", "yes", "no", "on", "off")  # not y and n, which are common argument names
    for spelling in (word, word.capitalize(), word.upper())
)


def _read_key(key: str) -> object:
    try:
        return read_plain(key)
    except AmbiguousScalarError:
        return None


def _find(root: Node, keys: Sequence[str | int]) -> tuple[Node, Node] | None:
    """Return the key node and the value node at `keys`; twice the same node for the root and for a list's elements."""
    key_node = value_node = root
    for key in keys:
        if isinstance(value_node, MappingNode):
            pair = next((pair for pair in value_node.value if pair[0].value == key), None)
            if pair is None:
                return None
            key_node, value_node = pair
        elif isinstance(value_node, SequenceNode) and isinstance(key, int) and key < len(value_node.value):
            key_node = value_node = value_node.value[key]
        else:
            return None
    return key_node, value_node


def _lines(node: Node, depth: int, above: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    parts: Iterable[tuple[str | int, Node, Node]] = ()
    if isinstance(node, MappingNode):
        parts = (
            (key.value, key, value) for key, value in reversed(node.value)
        )  # the first of two equal ones comes last
    elif isinstance(node, SequenceNode):
        parts = ((at, item, item) for at, item in enumerate(node.value))
    for name, key, value in parts:
        yield (*above, name), key.start_mark.line + 1
        if depth > 1 and not isinstance(value, ScalarNode):
            yield from _lines(value, depth - 1, (*above, name))


def _place(node: Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _tag_text(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _syntax_fault(error: yaml.YAMLError, text: str, path: str, dialect: Dialect) -> Fault:
    mark = isinstance(error, yaml.MarkedYAMLError) and (error.problem_mark or error.context_mark)
    if not mark or not isinstance(error, yaml.MarkedYAMLError):
        return Fault(path, 1, 1, f"not valid YAML: {' '.join(str(error).split())}")
    line, column = mark.line + 1, mark.column + 1
    if text[mark.index : mark.index + 1] == "\t":
        return Fault(path, line, column, "not valid YAML: tabs cannot indent; use spaces")
    if error.problem == "but found another document":
        return Fault(path, line, column, f"a second YAML document starts here; write one {dialect.noun} in each file")
    context = f" {error.context}" if error.context else ""
    if context and error.context_mark and error.context_mark.line + 1 != line:
        context += f" that starts on line {error.context_mark.line + 1}"
    return Fault(path, line, column, f"not valid YAML: {error.problem}{context}")


class AmbiguousScalarError(ValueError):
    """A plain scalar that YAML readers disagree about; the message names it and says what to write instead."""


_WORDS: dict[str, Scalar] = {"": None, "~": None}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    _WORDS |= dict.fromkeys((_word, _word.capitalize(), _word.upper()), _value)
_SWITCHES = {
    spelling: value
    for word, value in (("yes", True), ("on", True), ("y", True), ("no", False), ("off", False), ("n", False))
    for spelling in (word, word.capitalize(), word.upper())
}
_INFINITIES = {f"{sign}.{word}": float(f"{sign}inf") for sign in ("", "+", "-") for word in ("inf", "Inf", "INF")}
_NANS = {f"{sign}.{word}" for sign in ("", "+", "-") for word in ("nan", "NaN", "NAN")}

_NUMERIC_START = frozenset("0123456789+-.")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_BASED_INT = re.compile(r"[-+]?0(?:x[0-9a-fA-F_]*[0-9a-fA-F]|b[01_]*[01])")
_FLOAT = re.compile(r"(?:[-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?")
_OCTAL = re.compile(r"[-+]?0o?[0-9_]+")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?")
_NUMBER_AS_TEXT = re.compile(r"([-+]?)([0-9][0-9_]*)?(?:\.([0-9][0-9_]*)?)?(?:[eE]([-+]?)([0-9]+))?")


def read_plain(text: str) -> Scalar:
    """Return the value of a plain (unquoted) scalar.

    Raises AmbiguousScalarError for switches (`off`), floats that YAML 1.1 reads as text (`1e-3`), octal and base-60
    numbers, dates, and NaN.
    """
    if text[:1] in _NUMERIC_START and text:
        return _read_numeric(text)
    if text in _WORDS:
        return _WORDS[text]
    if text in _SWITCHES:
        value = "true" if _SWITCHES[text] else "false"
        raise AmbiguousScalarError(
            f"{text} is {value} to some YAML readers and text to others; write {value}, or quote it"
        )
    return text


MAX_DIGITS = 3_000
"""Longest whole number. Python writes at most 4,300 decimal digits, which are 3,571 hexadecimal ones."""


def _as_trainers_read(text: str) -> Scalar:
    """Return an ambiguous plain scalar as trainers read it: PyYAML's switches, OmegaConf's floats, otherwise text."""
    if text in _SWITCHES and len(text) > 1:
        return _SWITCHES[text]
    if _NUMBER_AS_TEXT.fullmatch(text):
        try:
            return float(text.replace("_", ""))
        except ValueError:
            return text
    return text


def _read_numeric(text: str) -> Scalar:
    if _INT.fullmatch(text):
        return _whole(text, 10)
    if _FLOAT.fullmatch(text):
        value = float(text.replace("_", ""))
        if isinf(value):
            raise AmbiguousScalarError(
                f"{text} is too large for a float; the largest is about 1.8e+308, infinity is .inf"
            )
        return value
    if _BASED_INT.fullmatch(text):
        return _whole(text, 0)
    if text in _INFINITIES:
        return _INFINITIES[text]
    _refuse_ambiguous(text)
    return text


def _refuse_ambiguous(text: str) -> None:
    """Raise AmbiguousScalarError if `text` looks like a number or a date that YAML readers disagree about."""
    if text in _NANS:
        raise AmbiguousScalarError(
            f"{text} is not allowed, because NaN is not equal to itself; write a finite number, or null"
        )
    if _OCTAL.fullmatch(text):
        sign = "-" if text.startswith("-") else ""
        digits = sign + (text.replace("_", "").lstrip("+-").lstrip("0o") or "0")
        raise AmbiguousScalarError(
            f"{text} is octal to some YAML readers; write {digits} without leading zeros, or quote it"
        )
    if _BASE_60.fullmatch(text):
        raise AmbiguousScalarError(f"{text} is a base-60 number in YAML 1.1; write the number in full, or quote it")
    if _DATE.fullmatch(text):
        raise AmbiguousScalarError(f"{text} is a date in YAML; quote it")
    number = _NUMBER_AS_TEXT.fullmatch(text)
    if number and (number[2] or number[3]):
        sign, whole, fraction, exponent_sign, exponent = (part or "" for part in number.groups())
        written = f"{sign}{whole or '0'}.{fraction or '0'}" + (f"e{exponent_sign or '+'}{exponent}" if exponent else "")
        raise AmbiguousScalarError(
            f"{text} is text in YAML 1.1, not a number; write {written.replace('_', '')}, or quote it"
        )


def _whole(text: str, base: int) -> int:
    if len(text) > MAX_DIGITS:
        raise AmbiguousScalarError(f"a whole number of {len(text):,} digits is too large")
    return int(text.replace("_", ""), base)
