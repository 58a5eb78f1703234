"""Settings in Python text: what `print(training_args)` printed, dict literals, and calls with literal arguments.

Nothing is executed. A value that is not a literal is kept as an `Expression`, which no setting can be read from.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Keys = tuple[str | int, ...]
Place = tuple[int, int]

SIGNATURE = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "lr_scheduler_type")
"""Arguments by which a call is recognised as one that makes training arguments."""
MIN_DUMP_LINES = 5
"""Consecutive `name=value,` lines that make a dump; `print(training_args)` prints more than 100."""


class Expression(str):
    """The text of a Python expression that is not a literal."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonText:
    """What was read of a Python text."""

    data: Mapping[str, Any]
    places: Mapping[Keys, Place]


# What `print(training_args)` printed. Texts are not quoted there, so that Python cannot parse it.

_ARGUMENT = re.compile(r"^(\s*)([A-Za-z_]\w*)=(.*)$")


def has_arguments_dump(text: str) -> bool:
    """Tell whether the text contains lines as `print(training_args)` prints them."""
    return any(True for _ in _dumps(text))


def read_arguments_dump(text: str) -> PythonText:
    """Return the settings of the dump in a text. Copies of it, as every process prints one, count as one.

    Raises ValueError if two dumps of training arguments differ.
    """
    dumps = list(_dumps(text))
    training = [dump for dump in dumps if any(name in dump for name in SIGNATURE)] or dumps
    first = training[0]
    for other in training[1:]:
        names = [name for name, (value, _) in other.items() if name in first and first[name][0] != value]
        unlike = [name for name in names if name not in ("local_rank", "logging_dir", "process_index")]
        if unlike:
            lines = f"lines {first[unlike[0]][1][0]} and {other[unlike[0]][1][0]}"
            raise ValueError(f"the file has two dumps that differ in {unlike[0]} ({lines}); keep one of them")
    data = {name: value for name, (value, _) in first.items()}
    return PythonText(data=data, places={(name,): place for name, (_, place) in first.items()})


def _dumps(text: str) -> Iterator[dict[str, tuple[Any, Place]]]:
    found: dict[str, tuple[Any, Place]] = {}
    open_text, open_name, open_place, depth = "", "", (0, 0), 0
    for number, line in enumerate(text.splitlines(), 1):
        if open_name and (depth := depth + _balance(line)) >= 0 and len(open_text) < 10_000:
            open_text += "\n" + line
            if depth > 0:
                continue
            found[open_name] = _shown_value(open_text.strip().removesuffix(",")), open_place
            open_name = ""
            continue
        argument = _ARGUMENT.match(line)
        if argument and (argument[3].rstrip().endswith(",") or _balance(argument[3]) > 0):
            place = number, len(argument[1]) + 1
            depth = _balance(argument[3])
            if depth > 0:
                open_name, open_text, open_place = argument[2], argument[3], place
            else:
                found[argument[2]] = _shown_value(argument[3].strip().removesuffix(",")), place
            continue
        if len(found) >= MIN_DUMP_LINES:
            yield found
        found, open_name = {}, ""
    if len(found) >= MIN_DUMP_LINES:
        yield found


def _balance(text: str) -> int:
    return sum((char in "([{") - (char in ")]}") for char in text)


def _shown_value(text: str) -> Any:
    """Return the value that `str` shows as `text`: a literal, or a text without quotes."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return _plain(value)


def _plain(value: Any) -> Any:
    """Return a literal as JSON has it: tuples and sets as lists, keys as text."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


# Python source.


def is_source(text: str) -> bool:
    """Tell whether Python can parse the text."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def read_source(text: str) -> PythonText:
    """Return the settings in a Python source: one dict or call as a whole, otherwise what is assigned at the top level.

    Calls that make training arguments are found wherever they are. Raises SyntaxError, and ValueError without settings.
    """
    try:
        tree = ast.parse(text.strip("\ufeff"))
    except (MemoryError, RecursionError, ValueError):
        raise ValueError("the text is nested too deeply for Python") from None
    places: dict[Keys, Place] = {}
    match tree.body:
        case [ast.Expr(value=(ast.Dict() | ast.Call()) as whole)] | [
            ast.Assign(targets=[ast.Name()], value=(ast.Dict() | ast.Call()) as whole)
        ]:
            data = _value(whole, (), places)
            if isinstance(data, dict):
                return PythonText(data=data, places=places)
    found: dict[str, Any] = {}
    for name, node in _assigned(tree.body):
        places[(name,)] = _place(node)
        found[name] = _value(node, (name,), places)
    for call in _training_calls(tree):
        if not any(places.get((name,)) == _place(call) for name in found):
            name = _function_name(call)
            key = name if name not in found else f"{name}@{call.lineno}"
            places[(key,)] = _place(call)
            found[key] = _value(call, (key,), places)
    if not any(not isinstance(value, Expression) for value in found.values()):
        raise ValueError(
            "the file has no dict literal, no assigned literals, and no call that makes training arguments"
        )
    return PythonText(data=found, places=places)


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value


def _training_calls(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and any(keyword.arg in SIGNATURE for keyword in node.keywords):
            yield node


def _value(node: ast.expr, keys: Keys, places: dict[Keys, Place]) -> Any:
    """Return a node's plain value, and note the places of what is in it."""
    match node:
        case ast.Dict():
            data = {}
            for key_node, value_node in zip(node.keys, node.values, strict=True):
                if isinstance(key_node, ast.Constant):
                    key = str(key_node.value)
                    places[(*keys, key)] = _place(key_node)
                    data[key] = _value(value_node, (*keys, key), places)
            return data
        case ast.Call(args=[], keywords=keywords) if all(keyword.arg for keyword in keywords) and keywords:
            data = {}
            for keyword in keywords:
                assert keyword.arg is not None
                places[(*keys, keyword.arg)] = keyword.lineno, keyword.col_offset + 1
                data[keyword.arg] = _value(keyword.value, (*keys, keyword.arg), places)
            return data
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, (*keys, number), places) for number, part in enumerate(parts)]
        case ast.Attribute(attr=attr) if attr.isupper():  # a member of an enumeration, SchedulerType.COSINE
            return ast.unparse(node)
    try:
        return _plain(ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return Expression(ast.unparse(node))


def _function_name(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


def _place(node: ast.expr) -> Place:
    return node.lineno, node.col_offset + 1
