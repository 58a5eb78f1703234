"""Check the recipe's `args` against the signature of its task, as far as its source tells it; nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_smoke.recipe.explain import Keys, Problem
from pytest_smoke.recipe.task_ref import bound_names, parsed, task_source
from pytest_smoke.text import closest, listed

REPLACED = frozenset({"__init__", "__new__", "__call__", "__signature__"})
"""Attributes through which a module can change the signature of a class after its definition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a task can be called with, by keyword."""

    names: tuple[str, ...]
    """Names of its arguments."""
    required: tuple[str, ...]
    """Those of them without a default."""
    takes_others: bool
    """Whether it has `**kwargs`."""


def argument_problems(data: Mapping[str, Any], root: Path, *, key: str = "task") -> Iterator[Problem]:
    """Yield a problem for each argument in a recipe's data that its task does not take, and for those that are missing.

    `key` is the recipe key that names the task. Nothing is yielded if the signature cannot be read: of what is
    imported, decorated, inherited from another module or bound twice.
    """
    task = data.get(key)
    signature = _signature_of(task, root) if isinstance(task, str) and task.count(":") == 1 else None
    if signature is None:
        return
    given: list[tuple[Keys, str]] = []
    sections: list[tuple[Keys, Any]] = [(("args",), data), (("smoke", "args"), data.get("smoke"))]
    for within, section in sections:
        args = section.get("args", {}) if isinstance(section, Mapping) else {}
        if not isinstance(args, Mapping):
            return  # a fault that is reported anyway
        given += [((*within, name), str(name)) for name in args]
    cells = data.get("ablate")
    for cell, changes in cells.items() if isinstance(cells, Mapping) else ():
        for changed in changes if isinstance(changes, Mapping) else ():
            section, _, name = str(changed).partition(".")
            if section == "args" and name:
                given.append((("ablate", cell, changed), name.partition(".")[0]))
    names = [name for keys, name in given if keys[0] != "ablate"]
    for keys, name in given:
        if name not in signature.names and not signature.takes_others:
            text = f"{key} {task} has no argument {name}; {_suggestion(name, signature)}"
            yield Problem(keys=keys, at_key=True, text=text)
    missing = [name for name in signature.required if name not in names]
    if missing:
        text = f"{key} {task} needs the {_arguments(missing)}; add {'it' if len(missing) == 1 else 'them'} to args"
        yield Problem(keys=("args",) if "args" in data else (key,), at_key="args" in data, text=text)


def _suggestion(name: str, signature: Signature) -> str:
    near = closest(name, signature.names, cutoff=0.7)
    if near:
        return f"did you mean {near}?"
    return f"it takes {listed(signature.names, limit=len(signature.names))}" if signature.names else "it takes none"


def _arguments(names: list[str]) -> str:
    return f"{'argument' if len(names) == 1 else 'arguments'} {listed(names, limit=len(names))}"


def _signature_of(task: str, root: Path) -> Signature | None:
    source = task_source(task, root)
    if source is None:
        return None
    try:
        state = source.stat()
    except OSError:
        return None
    return _signature(str(source), state.st_mtime_ns, state.st_size, task.partition(":")[2])


@lru_cache(maxsize=1024)
def _signature(file: str, mtime_ns: int, size: int, name: str) -> Signature | None:
    """Return the signature of a module's top-level class or function; None if only an import could tell it."""
    tree = parsed(file, mtime_ns, size)
    if not isinstance(tree, ast.Module):
        return None
    bound = list(bound_names(tree.body))
    replaced = any(isinstance(node, ast.Attribute) and node.attr in REPLACED for node in _stores(tree))
    if "*" in bound or replaced:
        return None
    once = {node.name: node for node in tree.body if isinstance(node, _DEFINITIONS) and bound.count(node.name) == 1}
    return _of_definition(once.get(name), once)


_DEFINITIONS = (ast.ClassDef, ast.FunctionDef)


def _stores(tree: ast.Module) -> Iterator[ast.AST]:
    return (node for node in ast.walk(tree) if isinstance(getattr(node, "ctx", None), ast.Store))


def _of_definition(
    node: ast.ClassDef | ast.FunctionDef | None, known: Mapping[str, ast.ClassDef | ast.FunctionDef], depth: int = 0
) -> Signature | None:
    if node is None or node.decorator_list or depth > len(known):
        return None
    if isinstance(node, ast.FunctionDef):
        return _of_arguments(node.args, bound=0)
    if node.keywords:  # a metaclass
        return None
    own = [name for name in bound_names(node.body) if name in ("__init__", "__new__")]
    if own:
        init = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
        return _of_arguments(init.args, bound=1) if init and own == ["__init__"] and not init.decorator_list else None
    match node.bases:
        case [] | [ast.Name(id="object")]:
            return Signature(names=(), required=(), takes_others=False)
        case [ast.Name(id=base)]:
            parent = known.get(base)
            return _of_definition(parent, known, depth + 1) if isinstance(parent, ast.ClassDef) else None
    return None


def _of_arguments(args: ast.arguments, *, bound: int) -> Signature | None:
    """Return a signature without its first `bound` arguments; None if it has some that have no name for a caller."""
    positional = [*args.posonlyargs, *args.args][bound:]
    if len(args.posonlyargs) > bound or len(args.args) + len(args.posonlyargs) < bound:
        return None
    with_default = len(args.defaults)
    needed = positional[: len(positional) - with_default] if with_default else positional
    only = [(arg.arg, default is None) for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return Signature(
        names=(*(arg.arg for arg in positional), *(name for name, _ in only)),
        required=(*(arg.arg for arg in needed), *(name for name, is_needed in only if is_needed)),
        takes_others=args.kwarg is not None,
    )
