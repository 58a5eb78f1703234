"""Whether a task's import path leads to something, found without importing anything."""

from __future__ import annotations

import ast
import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path

from pytest_smoke.recipe.explain import nearest


def task_fault(task: str, root: Path) -> str | None:
    """What is wrong with `package.module:Name`, in a sentence; None if nothing is, or if only an import could tell."""
    module, name = task.split(":")
    folder = os.path.abspath(root)
    try:
        source = _source(module, folder, tuple(sys.path))
        if source is not None and not os.path.exists(source):
            _source.cache_clear()  # the file went away since it was found
            source = _source(module, folder, tuple(sys.path))
        if source is None:
            return None
        state = os.stat(source)
    except _NotFoundError as error:
        return str(error)
    except OSError:
        return None
    outcome = _names(source, state.st_mtime_ns, state.st_size)
    if isinstance(outcome, str):
        return f"task module {module} has a syntax error: {_shown(source, folder)}:{outcome}"
    if outcome is None or name in outcome:
        return None
    known = sorted(one for one in outcome if not one.startswith("_"))
    return f"task {task}: {_shown(source, folder)} has no top-level name {name}; {nearest(name, known)}"


def task_source(task: str, root: Path) -> Path | None:
    """The file of the module that holds the task; None where it has none, or is not found."""
    try:
        source = _source(task.partition(":")[0], os.path.abspath(root), tuple(sys.path))
    except _NotFoundError:
        return None
    return Path(source) if source else None


class _NotFoundError(Exception):
    pass


@lru_cache(maxsize=1024)
def _source(module: str, folder: str, _sys_path: tuple[str, ...]) -> str | None:
    """The module's source file; None if it has none that can be read. Thousands of recipes may name one module."""
    spec, wrong = _find(module, folder)
    if spec is None:
        importlib.invalidate_caches()  # a file younger than the finder's view of its folder
        spec, wrong = _find(module, folder)
    if spec is None:
        raise _NotFoundError(wrong)
    if spec.origin is None:
        raise _NotFoundError(f"task module {module} is a folder without __init__.py; name a module in it")
    return spec.origin if isinstance(spec.loader, SourceFileLoader) else None


def _find(module: str, folder: str) -> tuple[ModuleSpec | None, str | None]:
    """The module's spec, or why there is none. Parents are searched by their folders, never imported."""
    parts = module.split(".")
    spec = PathFinder.find_spec(parts[0], [folder, *sys.path]) or _elsewhere(parts[0])
    for depth, part in enumerate(parts[1:], start=1):
        if spec is None:
            break
        if spec.submodule_search_locations is None:
            parent = ".".join(parts[:depth])
            return (
                None,
                f"task module {module} is not found: {parent} is a module, not a package that could hold {part}",
            )
        # The tail alone: a namespace package's dotted name would be looked up in sys.modules, where its parent is not.
        locations = list(spec.submodule_search_locations)
        spec = PathFinder.find_spec(part, locations)
        if spec is None:
            parent = ".".join(parts[:depth])
            looked = ", ".join(_shown(one, folder) for one in locations)
            return None, f"task module {module} is not found: {parent} has no module {part} in {looked}"
    if spec is None:
        return (
            None,
            f"task module {module} is not found: no {parts[0]}.py or {parts[0]}/ in pytest's root folder {folder} "
            "(--rootdir sets it) or on sys.path",
        )
    return spec, None


def _elsewhere(name: str) -> ModuleSpec | None:
    """A top-level module of another finder: built in, or installed in editable mode."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, None) if find and finder is not PathFinder else None
        if isinstance(spec, ModuleSpec):
            return spec
    return None


def _shown(file: str, folder: str) -> str:
    base = os.path.join(folder, "")
    return Path(file[len(base) :] if file.startswith(base) else file).as_posix()


@lru_cache(maxsize=1024)
def _names(file: str, mtime_ns: int, size: int) -> frozenset[str] | str | None:
    """Names bound at the module's top level; None if they cannot be known; `line:col: what` for a syntax error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in the user's file is not ours to report
            tree = ast.parse(Path(file).read_bytes(), file)
        found = frozenset(_bound(tree.body))
    except SyntaxError as error:
        return f"{error.lineno or 1}:{error.offset or 1}: {error.msg}"
    except (OSError, ValueError, RecursionError, MemoryError):
        return None
    return None if _UNKNOWABLE in found or "__getattr__" in found else found


_UNKNOWABLE = "*"
_DYNAMIC = frozenset({"globals", "exec", "eval", "setattr", "vars"})


def _bound(body: Sequence[ast.AST]) -> Iterator[str]:
    """Names that statements bind in their own scope; `*` where an import or a call may bind any."""
    pending = list(body)
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
                # Another scope, but for `global` in it, and decorators, which are read here.
                yield from (one for inner in ast.walk(node) if isinstance(inner, ast.Global) for one in inner.names)
                pending += node.decorator_list
                continue
            case ast.Lambda():
                continue
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from ((alias.asname or alias.name.partition(".")[0]) for alias in aliases)
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Name(id=name) if name in _DYNAMIC:
                yield _UNKNOWABLE
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
        pending += ast.iter_child_nodes(node)
