"""YAML text as plain data, with the line and column of every key and value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pytest_smoke.errors import Fault
from pytest_smoke.recipe.scalar import Trap, read_plain

MAX_DEPTH = 50
"""Nested mappings and lists; libyaml's composer overflows the C stack at some 10,000 and takes the process along."""
MAX_NODES = 20_000
"""Keys and values once aliases are written out; a recipe has some 100."""

Place = tuple[int, int]
"""Line and column, from 1."""


class _Unreadable:
    """Stands where a value was refused, so that nothing says a second time that it is wrong."""

    def __repr__(self) -> str:
        return "<refused>"


REFUSED: Final = _Unreadable()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Document:
    """One recipe file: its data and where each part of it is written."""

    path: str
    """The file as faults name it."""
    root: MappingNode
    """YAML nodes, for places."""
    data: dict[str, Any]
    """Plain data; `REFUSED` where a fault was found."""

    def key_place(self, keys: Sequence[str | int]) -> Place | None:
        """Where the last of `keys` is written as a key (a list's element: where it starts); None if it is not here."""
        found = _find(self.root, keys)
        return found and _place(found[0])

    def value_place(self, keys: Sequence[str | int]) -> Place | None:
        """Where the value at `keys` starts; None if it is not here."""
        found = _find(self.root, keys)
        return found and _place(found[1])


def parse(text: str, path: str) -> tuple[Document | None, list[Fault]]:
    """The document in `text` (None if it is no mapping) and every fault in its spelling."""
    bad = _UNPRINTABLE.search(text)
    if bad:
        line, column = place_at(text, bad.start())
        return None, [Fault(path, line, column, f"control character {bad[0]!r} is not allowed in YAML; delete it")]
    try:
        root = yaml.compose(text, _Loader)
    except _TooMuchError as error:
        return None, [Fault(path, *_place(error.node), error.text)]
    except yaml.YAMLError as error:
        return None, [_syntax_fault(error, text, path)]
    if root is None or (isinstance(root, ScalarNode) and root.tag == _PLAIN and not root.value):
        return None, [Fault(path, 1, 1, "the file is empty; a recipe is a mapping with the keys task, full and smoke")]
    reader = _Reader(path)
    try:
        data = reader.value(root)
    except _TooMuchError as error:
        return None, [*reader.faults, Fault(path, *_place(error.node), error.text)]
    if not isinstance(root, MappingNode) or not isinstance(data, dict):
        shape = "a list" if isinstance(root, SequenceNode) else f"the text {_short(root.value)}"
        what = f"the file holds {shape}; a recipe is a mapping with the keys task, full and smoke"
        return None, reader.faults or [Fault(path, *_place(root), what)]
    return Document(path=path, root=root, data=data), reader.faults


def place_at(text: str, index: int) -> Place:
    """Line and column of a character index."""
    return text.count("\n", 0, index) + 1, index - (text.rfind("\n", 0, index) + 1) + 1


_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PLAIN, _TEXT = "plain", "text"
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _TooMuchError(Exception):
    def __init__(self, node: Node, text: str) -> None:
        super().__init__(text)
        self.node = node
        self.text = text


class _Loader(_Base):  # type: ignore[misc]
    """Composes nodes only; their tags say plain or quoted, which is all that `read_plain` needs."""

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
            raise _TooMuchError(parent, f"more than {MAX_DEPTH} nested levels; a recipe needs fewer than 10")
        if parent is not None and self._nodes > MAX_NODES:
            raise _TooMuchError(parent, f"more than {MAX_NODES} keys and values; a recipe needs some 100")

    def ascend_resolver(self) -> None:
        self._depth -= 1


class _Reader:
    """Reads nodes into plain data and gathers faults on the way."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.faults: list[Fault] = []
        self._nodes = 0
        self._open: set[int] = set()

    def value(self, node: Node) -> Any:
        """The node's data, `REFUSED` where it has a fault of its own."""
        self._nodes += 1
        tag = node.tag
        if tag != _PLAIN and tag != _TEXT:
            return self._refuse(node, f"tag {_tag_text(tag)} is not allowed; write the plain value")
        if isinstance(node, ScalarNode):
            if tag == _TEXT:
                return node.value
            try:
                return read_plain(node.value)
            except Trap as trap:
                return self._refuse(node, str(trap))
        if id(node) in self._open:
            return self._refuse(node, "an alias inside its own anchor never ends; write the value out")
        if self._nodes > MAX_NODES:
            what = f"aliases expand to more than {MAX_NODES} keys and values; a recipe needs some 100"
            raise _TooMuchError(node, what)
        if len(self._open) >= MAX_DEPTH:
            raise _TooMuchError(node, f"aliases nest more than {MAX_DEPTH} levels; a recipe needs fewer than 10")
        self._open.add(id(node))
        data = self._mapping(node) if isinstance(node, MappingNode) else [self.value(item) for item in node.value]
        self._open.discard(id(node))
        return data

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key in data:
                first = next(first for first, _ in node.value if first.value == key)
                self._refuse(
                    key_node, f"key {_short(key)} is already on line {first.start_mark.line + 1}; keep one of them"
                )
            elif key is not None:
                data[key] = self.value(value_node)
        return data

    def _key(self, node: Node) -> str | None:
        """The key's text; None if it is refused."""
        if not isinstance(node, ScalarNode) or (node.tag != _PLAIN and node.tag != _TEXT):
            self._refuse(node, "a key must be text")
            return None
        key: str = node.value
        if node.tag == _TEXT or (key[:1].isalpha() and key not in _KEYS_READ_AS_VALUES):
            return key
        if key == "<<":
            self._refuse(node, "merge key << is not supported; use `extends`, or write the keys out")
            return None
        if key in _KEYS_READ_AS_VALUES or not isinstance(_read_key(key), str):
            self._refuse(node, f"key {key or '(empty)'} is not read as text by YAML; quote it")
            return None
        return key

    def _refuse(self, node: Node, text: str) -> _Unreadable:
        self.faults.append(Fault(self.path, *_place(node), text))
        return REFUSED


_KEYS_READ_AS_VALUES = frozenset(
    spelling
    for word in ("true", "false", "null", "yes", "no", "on", "off")  # y and n are fine names of an argument
    for spelling in (word, word.capitalize(), word.upper())
)


def _read_key(key: str) -> object:
    try:
        return read_plain(key)
    except Trap:
        return None


def _find(root: Node, keys: Sequence[str | int]) -> tuple[Node, Node] | None:
    """The key node and the value node at `keys`; the same node twice for the root and for a list's elements."""
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


def _place(node: Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _tag_text(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _syntax_fault(error: yaml.YAMLError, text: str, path: str) -> Fault:
    mark = isinstance(error, yaml.MarkedYAMLError) and (error.problem_mark or error.context_mark)
    if not mark or not isinstance(error, yaml.MarkedYAMLError):
        return Fault(path, 1, 1, f"not valid YAML: {' '.join(str(error).split())}")
    line, column = mark.line + 1, mark.column + 1
    if text[mark.index : mark.index + 1] == "\t":
        return Fault(path, line, column, "not valid YAML: a tab cannot indent; use spaces")
    if error.problem == "but found another document":
        return Fault(path, line, column, "a second YAML document starts here; one recipe a file")
    context = f" {error.context}" if error.context else ""
    if context and error.context_mark and error.context_mark.line + 1 != line:
        context += f" that starts on line {error.context_mark.line + 1}"
    return Fault(path, line, column, f"not valid YAML: {error.problem}{context}")
