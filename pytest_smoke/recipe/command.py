"""The `command` of a recipe: its placeholders, what they stand for, and what such a recipe cannot have."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.explain import Keys, Problem, dotted
from pytest_smoke.recipe.imports import imported_files
from pytest_smoke.recipe.model import LogSpec, Settings, Smoke
from pytest_smoke.roots import is_installed
from pytest_smoke.text import closest

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
NONE = "none"
"""How `spelling` names the value of a setting that is off."""
RUN_KEYS = (
    "run_steps",
    "mode",
    "seed",
    "cpu_threads",
    "evaluate_every_steps",
    "steps_per_epoch",
    "effective_batch",
    "python",
)
"""Placeholders that are not settings of the full run; `{effective_batch}` are the samples in an optimizer
step, `{python}` is the interpreter that runs pytest."""
SOURCES = (".py", ".sh", ".yaml", ".yml", ".toml", ".json", ".cfg", ".ini", ".conf", ".gin", ".jsonnet")
"""Endings of the files on a command line that it reads and does not write."""
MODULE_OPTIONS = ("-m", "--module")
"""Options of Python and torchrun that name a module to run."""
NAMED = ("args", "loss_weights")
"""Mappings whose entries are placeholders, as `{args.hidden_size}`."""
PLACEHOLDERS = (*(key for key in Settings.model_fields if key not in ("loss_weights", "from_scratch")), *RUN_KEYS)
"""Every other placeholder."""
COMMAND_KEYS = ("log", "env", "cwd", "spelling")
"""Keys that only a recipe with a `command` has."""
REFUSED_KEYS: Mapping[tuple[str, ...], str] = {
    ("stages",): "a command trains in one stage; write a recipe for each stage",
    ("smoke", "pipeline"): "the model of a command cannot be exported",
    ("smoke", "loss_weights"): "write loss_weights in full, and pass them on as {loss_weights.NAME}",
    ("checks", "resume"): "the state of a command cannot be saved and restored",
    ("checks", "grad_ratio"): "the log of a command does not show the gradients of single loss terms",
    ("checks", "overfit"): "a command draws its batches itself",
}
"""What a recipe with a `command` cannot have, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandPlan:
    """A command with all its placeholders filled in."""

    argv: tuple[str, ...]
    """Program and arguments; no shell sees them."""
    env: Mapping[str, str]
    """Environment variables in addition to those of the pytest process."""
    cwd: str
    """Folder it runs in, absolute."""
    log: str | None
    """File with the log, absolute; None: what the command prints."""
    columns: LogSpec
    """Names of the log's columns, and what its steps count."""
    micro_batches: int
    """Steps of the log in one optimizer step."""

    @classmethod
    def of(cls, case: Case, root: str | Path) -> CommandPlan:
        """Fill in the placeholders of a recipe without faults."""
        recipe, values = case.recipe, placeholder_values(case)
        assert recipe.command is not None, "the recipe names no command"
        cwd = os.path.normpath(os.path.join(os.path.abspath(root), _filled(recipe.cwd or "", values)))
        columns = recipe.log if isinstance(recipe.log, LogSpec) else LogSpec(path=recipe.log)
        log = None if columns.path == "stdout" else os.path.join(cwd, _filled(columns.path, values))
        return cls(
            argv=tuple(_filled(part, values) for part in recipe.command),
            env={name: _filled(text, values) for name, text in recipe.env.items()},
            cwd=cwd,
            log=log,
            columns=columns,
            micro_batches=case.settings.grad_accum_steps if columns.counts == "micro-batches" else 1,
        )

    def sources(self, root: str | Path) -> list[str]:
        """Return the program, the scripts and the configurations below `root` that the command line names, absolute.

        And the modules below `root` that its Python scripts import.
        """
        base = os.path.join(os.path.abspath(root), "")
        words = [part for word in self.argv for part in (word, word.partition("=")[2]) if part]
        candidates = {os.path.normpath(os.path.join(self.cwd, part)) for part in words}
        program = os.path.normpath(os.path.join(self.cwd, self.argv[0]))
        named = {
            path
            for path in candidates - {self.log}
            if path.startswith(base) and (path.endswith(SOURCES) or path == program) and os.path.isfile(path)
            if not is_installed(path) and not _is_in_environment(path)
        }
        scripts = {path for path in named if path.endswith(".py")}
        modules = {module for option, module in pairwise(self.argv) if option in MODULE_OPTIONS}
        folders = [*filter(None, self.env.get("PYTHONPATH", "").split(os.pathsep)), self.cwd, os.path.abspath(root)]
        absolute = [os.path.normpath(os.path.join(self.cwd, folder)) for folder in folders]
        return sorted(named | imported_files(scripts, modules, folders=absolute, root=str(root)))


def _is_in_environment(program: str) -> bool:
    """Tell whether a program is in a virtual or conda environment, which may be below the rootdir."""
    environment, folder = os.path.split(os.path.dirname(program))
    marks = ("pyvenv.cfg", "conda-meta")
    return folder == "bin" and any(os.path.exists(os.path.join(environment, mark)) for mark in marks)


def placeholder_values(case: Case) -> dict[str, str]:
    """Return the text of every placeholder of a case."""
    settings, smoke = case.settings, case.recipe.smoke
    found: dict[str, Any] = {key: getattr(settings, key) for key in PLACEHOLDERS if key in Settings.model_fields}
    found |= {key: getattr(smoke, key) for key in RUN_KEYS if key in Smoke.model_fields and key != "run_steps"}
    found |= {
        "run_steps": case.run_steps,
        "mode": case.mode,
        "effective_batch": settings.effective_batch,
        "python": sys.executable,
    }
    found |= _flat("args", {**case.recipe.args, **smoke.args})
    found |= _flat("loss_weights", settings.loss_weights)
    return {
        name: text for name, value in found.items() if (text := _text(name, value, case.recipe.spelling)) is not None
    }


def settings_not_passed(case: Case) -> list[str]:
    """Return the settings and arguments of a case that no placeholder passes on to its command."""
    recipe = case.recipe
    path = recipe.log.path if isinstance(recipe.log, LogSpec) else recipe.log
    texts = [*(recipe.command or ()), *recipe.env.values(), recipe.cwd or "", path]
    used = {name for text in texts for name in names_in(text)}
    if "run_steps" in used:
        used.add("max_steps")
    if "effective_batch" in used:
        used |= {"batch_size", "grad_accum_steps", "world_size"}
    told = {*recipe.full.model_fields_set, *case.declared, "lr_schedule"} - {"from_scratch", "loss_weights"}
    named = [*_flat("args", recipe.args), *_flat("loss_weights", case.settings.loss_weights)]
    one = {key for key in ("grad_accum_steps", "world_size") if getattr(case.settings, key) == 1}
    return [name for name in (*Settings.model_fields, *named) if name in {*told, *named} - used - one]


def names_in(text: str) -> list[str]:
    """Return the placeholders of a text."""
    return [found[1] for found in _PART.finditer(text) if found[1] is not None]


def command_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each fault of a recipe's command in its data, beyond those that the model itself reports."""
    if data.get("command") is None:
        for key in COMMAND_KEYS:
            if key in data:
                yield Problem(keys=(key,), at_key=True, text=f"{key} belongs to a command, and this recipe has none")
        return
    for refused, why in REFUSED_KEYS.items():
        section = data if len(refused) == 1 else data.get(refused[0])
        if isinstance(section, Mapping) and section.get(refused[-1]):
            yield Problem(keys=refused, at_key=True, text=f"{dotted(refused)} is not possible with a command: {why}")
    used: set[str] = set()
    for keys, text in _texts_with_keys(data):
        used |= set(names_in(text))
        fault = _text_fault(text, data)
        if fault:
            yield Problem(keys=keys, at_key=False, text=fault)
    for name, cell in data["ablate"].items() if isinstance(data.get("ablate"), Mapping) else ():
        for key in cell if isinstance(cell, Mapping) else ():
            if (changed := str(key).removeprefix("full.").removeprefix("smoke.")) not in used:
                text = f"cell {name} changes {key}, which the command does not get; add {{{changed}}} to the command"
                yield Problem(keys=("ablate", name, key), at_key=True, text=text)


def _text_fault(text: str, data: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the placeholders of a text."""
    for found in _PART.finditer(text):
        if found[0] in ("{", "}"):
            return f"{text!r} has a single {found[0]}; write {found[0] * 2} for the character itself"
        name = found[1]
        if name is None:
            continue
        known = [*PLACEHOLDERS, *(one for section in NAMED for one in _names_of(data, section))]
        if name not in known:
            near = closest(name.strip(), known)
            more = f"did you mean {{{near}}}? " if near else ""
            allowed = ", ".join(f"{{{one}}}" for one in known)
            return f"unknown placeholder {{{name}}}; {more}allowed: {allowed}"
        if (off := _off(name, data)) is not None:
            return off
    return None


def _off(name: str, data: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the placeholder of a setting that has no value."""
    sections = [data.get(section) for section in ("smoke", "full")]
    if name not in ("grad_clip_norm", "evaluate_every_steps", "steps_per_epoch") or any(
        isinstance(section, Mapping) and section.get(name) is not None for section in sections
    ):
        return None
    spelling = data.get("spelling")
    own = spelling.get(name) if isinstance(spelling, Mapping) else None
    if isinstance(own, Mapping) and NONE in own:
        return None
    return (
        f"{{{name}}} has no value, because the recipe does not set {name}; set it, or say how the command spells that: "
        f"spelling: {{{name}: {{{NONE}: TEXT}}}}"
    )


def _names_of(data: Mapping[str, Any], section: str) -> list[str]:
    whole = data if section == "args" else data.get("full")
    values = whole.get(section) if isinstance(whole, Mapping) else None
    return list(_flat(section, values)) if isinstance(values, Mapping) else []


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a mapping by dotted name, also those of mappings in it."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}"
        found |= _flat(name, value) if isinstance(value, Mapping) else {name: value}
    return found


def _text(name: str, value: Any, spelling: Mapping[str, Mapping[str, str]]) -> str | None:
    """Return how the command spells a value: as `spelling` says, else as YAML and Python do; None for no value."""
    text = NONE if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    spelt = spelling.get(name, {}).get(text)
    return spelt if spelt is not None or value is None else text


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _PART.sub(lambda part: part[0][0] if part[1] is None else values[part[1]], text)


def _texts_with_keys(data: Mapping[str, Any]) -> Iterator[tuple[Keys, str]]:
    """Yield the texts that may have placeholders, with their place in a recipe's data."""
    command, env, log = data.get("command"), data.get("env"), data.get("log")
    places: list[tuple[Keys, Any]] = [(("cwd",), data.get("cwd")), (("log",), log)]
    places += [(("command", at), part) for at, part in enumerate(command)] if isinstance(command, list) else []
    places += [(("env", name), text) for name, text in env.items()] if isinstance(env, Mapping) else []
    places += [(("log", "path"), log.get("path"))] if isinstance(log, Mapping) else []
    yield from ((keys, text) for keys, text in places if isinstance(text, str))
