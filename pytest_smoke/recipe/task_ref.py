"""Check that a task's import path leads to a class or function, without importing anything."""

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

from pytest_smoke.allowed import PROJECT_ONLY, AllowedCode, outside_fault
from pytest_smoke.text import did_you_mean


def task_fault(task: str, root: Path, *, key: str = "task", allowed: AllowedCode = PROJECT_ONLY) -> str | None:
    """Return what is wrong with `package.module:Name`; None if nothing is, or if only an import could tell.

    `key` is the recipe key that names it, `allowed` the code outside `root` that it may name.
    """
    module, name = task.split(":")
    folder = os.path.abspath(root)
    if _is_standard_library(module, folder):
        return f"{key} {task} is part of Python's standard library; name a class or function of your own"
    try:
        origin, source = _located(module, folder, tuple(sys.path))
        if source is not None and not os.path.exists(source):
            _located.cache_clear()  # the file was deleted after it was found
            origin, source = _located(module, folder, tuple(sys.path))
        if not allowed.allows_module(module, origin, folder):
            return f"{key} {task} {outside_fault(module, origin, folder)}"
        if source is None:
            return None
        state = os.stat(source)
    except _NotFoundError as error:
        return f"{key} {error}"
    except OSError:
        return None
    names = _names(source, state.st_mtime_ns, state.st_size)
    if isinstance(names, str):
        return f"{key} module {module} has a syntax error: {_relative(source, folder)}:{names}"
    if names is None or name in names:
        return None
    public = sorted(known for known in names if not known.startswith("_"))
    return f"{key} {task}: {_relative(source, folder)} has no top-level name {name}; {did_you_mean(name, public)}"


def task_source(task: str, root: Path) -> Path | None:
    """Return the source file of the task's module; None if it has none or is not found."""
    try:
        source = _located(task.partition(":")[0], os.path.abspath(root), tuple(sys.path))[1]
    except _NotFoundError:
        return None
    return Path(source) if source else None


def _is_standard_library(module: str, folder: str) -> bool:
    """Tell whether an import gives a module of Python itself, not one in `folder` that has its name."""
    top = module.partition(".")[0]
    if top not in sys.stdlib_module_names:
        return False
    return top in sys.builtin_module_names or PathFinder.find_spec(top, [folder]) is None


class _NotFoundError(Exception):
    pass


@lru_cache(maxsize=1024)
def _located(module: str, folder: str, _sys_path: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Return the module's file, and its source file; None for what it has not.

    Cached, as thousands of recipes may name one module.
    """
    spec, fault = _find(module, folder)
    if spec is None:
        importlib.invalidate_caches()  # the file may be newer than the finder's listing of its folder
        spec, fault = _find(module, folder)
    if spec is None:
        raise _NotFoundError(fault)
    if spec.origin is None:
        raise _NotFoundError(f"module {module} is a folder without __init__.py; name a module inside it")
    origin = spec.origin if spec.has_location else None
    return origin, origin if isinstance(spec.loader, SourceFileLoader) else None


def _find(module: str, folder: str) -> tuple[ModuleSpec | None, str | None]:
    """Return the module's spec, or why there is none. Parent packages are searched by folder, not imported."""
    parts = module.split(".")
    spec = PathFinder.find_spec(parts[0], [folder, *sys.path]) or _from_other_finders(parts[0])
    for depth, part in enumerate(parts[1:], start=1):
        if spec is None:
            break
        if spec.submodule_search_locations is None:
            parent = ".".join(parts[:depth])
            return (
                None,
                f"module {module} was not found: {parent} is a module, not a package with a module {part}",
            )
        # Search the last part alone: for a dotted name, PathFinder looks up a namespace package in sys.modules, and
        # nothing is imported here.
        locations = list(spec.submodule_search_locations)
        spec = PathFinder.find_spec(part, locations)
        if spec is None:
            parent = ".".join(parts[:depth])
            searched = ", ".join(_relative(location, folder) for location in locations)
            return None, f"module {module} was not found: {parent} has no module {part} in {searched}"
    if spec is None:
        return (
            None,
            f"module {module} was not found: no {parts[0]}.py or {parts[0]}/ in pytest's rootdir {folder} "
            "or on sys.path; set the rootdir with --rootdir of pytest or --root of a command",
        )
    return spec, None


def _from_other_finders(name: str) -> ModuleSpec | None:
    """Find a top-level module that is built in, or installed in editable mode."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, None) if find and finder is not PathFinder else None
        if isinstance(spec, ModuleSpec):
            return spec
    return None


def _relative(file: str, folder: str) -> str:
    base = os.path.join(folder, "")
    return Path(file[len(base) :] if file.startswith(base) else file).as_posix()


@lru_cache(maxsize=16)
def parsed(file: str, mtime_ns: int, size: int) -> ast.Module | str | None:
    """Return the syntax tree of a source file, None if it cannot be read, or `line:col: message` for a syntax error.

    Cached as long as the file does not change, for the recipes of one session that name the same module.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in the user's file is not a fault of the recipe
            return ast.parse(Path(file).read_bytes(), file)
    except SyntaxError as error:
        return f"{error.lineno or 1}:{error.offset or 1}: {error.msg}"
    except (OSError, ValueError, RecursionError, MemoryError):
        return None


@lru_cache(maxsize=1024)
def _names(file: str, mtime_ns: int, size: int) -> frozenset[str] | str | None:
    """Return the names bound at top level, None if they cannot be known, or `line:col: message` for a syntax error."""
    tree = parsed(file, mtime_ns, size)
    if not isinstance(tree, ast.Module):
        return tree
    found = frozenset(bound_names(tree.body))
    return None if _UNKNOWABLE in found or "__getattr__" in found else found


_UNKNOWABLE = "*"
_DYNAMIC = frozenset({"globals", "exec", "eval", "setattr", "vars"})


def bound_names(body: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the names that statements bind in their own scope; `*` if an import or a call may bind any name."""
    pending = list(body)
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
                # The body is another scope, except for `global`; decorators are evaluated in this one.
                yield from (bound for inner in ast.walk(node) if isinstance(inner, ast.Global) for bound in inner.names)
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
