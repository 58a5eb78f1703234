"""Load a recipe file, and the files it extends, as cases to run; or report every fault in them at once."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_smoke.allowed import COMMANDS_KEY, PYTHON, AllowedCode, allowed_by_files
from pytest_smoke.errors import Fault, RecipeError
from pytest_smoke.files import open_without_waiting, read_failure
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.cells import cell_problems, with_cell
from pytest_smoke.recipe.command import command_problems
from pytest_smoke.recipe.configs.expand import Expanded, expand, with_absolute_config
from pytest_smoke.recipe.configs.settings import TrainerConfig
from pytest_smoke.recipe.criteria_faults import criterion_problems, reach_problems
from pytest_smoke.recipe.explain import Keys, Problem, described, dotted, problems
from pytest_smoke.recipe.launch import launch_faults
from pytest_smoke.recipe.model import FACTORIES, SELF_DESCRIBING, TRAINERS, Mode, Recipe, Smoke
from pytest_smoke.recipe.modes import modes_of
from pytest_smoke.recipe.resume import resume_fault
from pytest_smoke.recipe.stage_faults import stage_problems
from pytest_smoke.recipe.task_args import argument_problems
from pytest_smoke.recipe.task_ref import task_fault
from pytest_smoke.recipe.yaml_document import REFUSED, Document, parse_document
from pytest_smoke.text import either, listed

MAX_BYTES = 2**20
"""Largest recipe. One has about 2 KiB; a larger file is something else under a recipe's name."""
MAX_EXTENDS = 8
"""Longest chain of recipes that extend each other."""


def load_recipe(path: Path, *, root: Path) -> Recipe:
    """Load the recipe in a file; its task is looked for from `root`, but not imported.

    Raises RecipeError with every fault of the file and of those it extends.
    """
    return _validated(read_files(path, root), root, allowed_by_files(root))


def load_cases(path: Path, *, root: Path, mode: Mode | None = None, allowed: AllowedCode | None = None) -> list[Case]:
    """Load the smoke runs of a recipe file: for each mode the baseline, then its ablation cells.

    `mode` replaces the modes of the recipe, and with them the `lr_schedule` of its `smoke` section; the full run's
    schedule stays. `allowed` is the code that the recipe may name; None: what the ini file in `root` allows. Raises
    RecipeError as `load_recipe` does.
    """
    files = read_files(path, root)
    return _cases_of(files, path_from(path, root), root=root, mode=mode, allowed=allowed or allowed_by_files(root))


def settings_cases(
    data: Mapping[str, Any], *, path: Path, line: int, root: Path, mode: Mode | None = None
) -> list[Case]:
    """Return the smoke runs of settings that were given in Python, as `load_cases` does.

    `path` and `line` say where: they are the place of every fault and setting. Paths in the settings are relative to
    the folder of the file. Raises RecipeError.
    """
    own = with_absolute_config(_with_absolute_corpus(dict(data), path.parent), path.parent)
    expanded: Expanded = expand(own, root)
    shown_path = path_from(path, root)
    files = _SettingsInPython(
        documents=(),
        data=expanded.data,
        faults=expanded.faults,
        checksums=expanded.checksums,
        problems=expanded.problems,
        configs=expanded.configs,
        read_places=expanded.places,
        path=shown_path,
        line=line,
    )
    return _cases_of(files, shown_path, root=root, mode=mode, allowed=PYTHON)


def _cases_of(
    files: RecipeFiles, shown_path: str, *, root: Path, mode: Mode | None, allowed: AllowedCode
) -> list[Case]:
    recipe = _validated(files, root, allowed)
    places = files.places()
    recipes: dict[str | None, Recipe] = {None: recipe}
    without_cells = {**files.data, "ablate": {}}  # they are valid, and not to be read again for each of them
    for name, cell in recipe.ablate.items():
        recipes[name] = with_cell(without_cells, cell).model_copy(update={"ablate": recipe.ablate})
    if mode is not None:
        recipes = {cell: _without_schedule(changed) for cell, changed in recipes.items()}
    return [
        Case(
            path=shown_path,
            recipe=changed,
            mode=one_mode,
            cell=cell,
            places=places,
            checksums=files.checksums,
            configs=files.configs,
            text=files.text,
            allowed=allowed,
        )
        for one_mode in modes_of(recipe.smoke, mode)
        for cell, changed in recipes.items()
    ]


def path_from(file: Path, root: Path) -> str:
    """Return the file as a POSIX path relative to the root; absolute if it is outside."""
    absolute = os.path.abspath(file)
    base = os.path.join(os.path.abspath(root), "")
    return absolute.removeprefix(base).replace(os.sep, "/")


def _without_schedule(recipe: Recipe) -> Recipe:
    """Remove `smoke.lr_schedule`, so that the mode sets it."""
    kept = recipe.smoke.model_fields_set - {"lr_schedule"}
    smoke = Smoke.model_construct(kept, **recipe.smoke.model_copy(update={"lr_schedule": None}).__dict__)
    return recipe.model_copy(update={"smoke": smoke})


def _validated(files: RecipeFiles, root: Path, allowed: AllowedCode) -> Recipe:
    found: list[Problem] = list(files.problems)
    recipe = None
    try:
        recipe = Recipe.model_validate(files.data)
    except ValidationError as error:
        found += problems(error)
    found += cell_problems(files.data)
    found += _row_problems(files.data)
    if recipe is not None:
        found += stage_problems(recipe) or [*_resume_problems(recipe), *reach_problems(recipe)]
        found += _launch_problems(recipe, files.data)
    found += _trainer_problems(files.data)
    found += _task_only_problems(files.data)
    for key in FACTORIES:
        path = files.data.get(key)
        if not isinstance(path, str) or any(problem.keys == (key,) for problem in found):
            continue
        fault = task_fault(path, root, key=key, allowed=allowed)
        if fault:
            found.append(Problem(keys=(key,), at_key=False, text=fault))
        else:
            found += argument_problems(files.data, root, key=key)
    found += command_problems(files.data)
    if files.data.get("command") is not None and not allowed.commands:
        text = f"command starts a program, and the ini key {COMMANDS_KEY} = false allows none; name a task"
        found.append(Problem(keys=("command",), at_key=True, text=text))
    found += criterion_problems(files.data)
    faults: list[Fault] = [*files.faults, *map(files.fault, found)]
    if faults:
        raise RecipeError(faults)
    assert recipe is not None, "a recipe that does not validate has faults"
    return recipe


def _resume_problems(recipe: Recipe) -> list[Problem]:
    if isinstance(recipe.checks.resume, bool):
        return []
    case = Case(path="", recipe=recipe, mode="constant")
    fault = resume_fault(recipe.checks.resume, case.stages)
    return [Problem(keys=("checks", "resume"), at_key=False, text=fault)] if fault else []


def _launch_problems(recipe: Recipe, data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each reason why the processes of `launch` cannot train the recipe together."""
    if recipe.launch is None:
        return
    section = "full" if recipe.smoke.world_size is None else "smoke"
    world_sizes: dict[tuple[str, ...], int] = {
        (section, "world_size"): recipe.smoke.world_size or recipe.full.world_size
    }
    if section == "full":
        cells = {name: cell["full.world_size"] for name, cell in recipe.ablate.items() if "full.world_size" in cell}
        world_sizes |= {("ablate", name, "full.world_size"): cells[name] for name in cells if type(cells[name]) is int}
    for keys, text in launch_faults(recipe.launch, trainer=recipe.trainer, world_sizes=world_sizes, data=data):
        yield Problem(keys=keys, at_key=False, text=text)


def _trainer_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem if no key of a recipe's data says what trains, or several do."""
    named = [key for key in TRAINERS if data.get(key) is not None]
    if len(named) > 1:
        text = f"{listed(named)} say what trains; keep one of these keys"
        yield Problem(keys=(named[1],), at_key=True, text=text)
    elif not named:
        empty = next((key for key in TRAINERS if key in data), None)
        text = f"no key says what trains; add {either(TRAINERS)}"
        yield Problem(keys=(empty,) if empty else (), at_key=False, text=text)


TASK_ONLY = {
    "stages": "stages change the task's model and data between them",
    "smoke.pipeline": "the export pipeline needs the task's example_inputs",
    "checks.resume": "our checkpoints hold the state of a task's run",
    "checks.overfit": "one repeated batch is trained with the task's losses",
    "full.loss_weights": "the trainer weights its own losses",
    "smoke.loss_weights": "the trainer weights its own losses",
}
"""Keys that only a task can follow, and why."""


def _task_only_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each key that what trains cannot follow."""
    trainer = next((key for key in SELF_DESCRIBING if data.get(key) is not None), None)
    if trainer is None:
        return
    for key, why in TASK_ONLY.items():
        section, _, name = key.rpartition(".")
        within = data.get(section) if section else data
        if isinstance(within, Mapping) and within.get(name):
            text = f"{key} needs a task, and this recipe trains with {trainer}: {why}; remove the key"
            yield Problem(keys=(section, name) if section else (name,), at_key=True, text=text)
    cells = data.get("ablate")
    for name, cell in cells.items() if isinstance(cells, Mapping) else ():
        for key in cell if isinstance(cell, Mapping) else ():
            if str(key).startswith("full."):
                text = (
                    f"cell {name} changes {key}, which is read from the trainer; make it an argument of the factory, "
                    "and change it as args.KEY"
                )
                yield Problem(keys=("ablate", name, key), at_key=True, text=text)


def _row_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each source of the mix without rows, if there is no corpus to count them in."""
    mix = data.get("mix")
    sources = mix.get("sources") if isinstance(mix, Mapping) and mix.get("corpus") is None else None
    for name, source in sources.items() if isinstance(sources, Mapping) else ():
        if isinstance(source, Mapping) and source.get("rows") is None:
            text = f"key mix.sources.{name}.rows is missing; write the number of rows, or name a corpus in mix.corpus"
            yield Problem(keys=("mix", "sources", name), at_key=False, text=text)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecipeFiles:
    """The merged data of a recipe, and the files that it was written in."""

    documents: tuple[Document, ...]
    """The recipe itself, then the files that it extends, nearest first."""
    data: dict[str, Any]
    """Merged data without `extends`. Mappings are merged, the nearest file wins; lists are replaced as a whole."""
    faults: tuple[Fault, ...]
    """Faults in the YAML of any of the files."""
    checksums: Mapping[str, str]
    """SHA-256 of the text that was read, by absolute path."""
    problems: tuple[Problem, ...] = ()
    """Faults in how the recipe reads the config files of `full` and `smoke`."""
    configs: Mapping[str, TrainerConfig] = field(default_factory=dict)
    """The config files, by the section that names them."""
    read_places: Mapping[Keys, Fault] = field(default_factory=dict)
    """Where the settings are written that were read of these, as faults without a text."""

    @property
    def text(self) -> str:
        """The recipe as it was read, followed by the files that it extends; empty for settings in Python."""
        return "\n".join(
            f"# {document.path}\n{document.text}" if number else document.text
            for number, document in enumerate(self.documents)
        )

    def places(self) -> dict[str, str]:
        """Return `path:line` by dotted key: of each section, stage and criterion, and of each key in a section."""
        keys: list[Keys] = [(section,) for section in self.data]
        keys += [(section, key) for section, value in self.data.items() if isinstance(value, dict) for key in value]
        accept = self.data.get("checks", {}).get("accept", [])
        keys += [("checks", "accept", number) for number in range(len(accept))]
        for number, stage in enumerate(self.data.get("stages", [])):
            keys += [("stages", number), *(("stages", number, key) for key in stage)]
        lines = self._key_lines()
        return {dotted(key): f"{path}:{line}" for key in keys for path, line in [lines[key]]}

    def _key_lines(self) -> Mapping[Keys, tuple[str, int]]:
        """Return file and line of all keys: where a setting was read, otherwise the nearest file that has the key."""
        lines: dict[Keys, tuple[str, int]] = {}
        for document in reversed(self.documents):
            lines |= {keys: (document.path, line) for keys, line in document.key_lines()}
        return lines | {keys: (fault.path, fault.line) for keys, fault in self.read_places.items()}

    def fault(self, problem: Problem) -> Fault:
        """Locate a problem: in the nearest file that has the offending text, otherwise at what encloses it."""
        keys = problem.keys
        read = self.read_places.get(keys[:2])
        if read is not None:
            return Fault(read.path, read.line, read.column, problem.text)
        while True:
            for document in self.documents:
                at_key = problem.at_key and keys == problem.keys
                place = document.key_place(keys) if at_key else document.value_place(keys)
                if place:
                    return Fault(document.path, *place, problem.text)
            keys = keys[:-1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _SettingsInPython(RecipeFiles):
    """The data of a recipe that has no file, and where the call with its settings is."""

    path: str
    line: int

    def _key_lines(self) -> Mapping[Keys, tuple[str, int]]:
        lines: defaultdict[Keys, tuple[str, int]] = defaultdict(lambda: (self.path, self.line))
        lines.update({keys: (fault.path, fault.line) for keys, fault in self.read_places.items()})
        return lines

    def fault(self, problem: Problem) -> Fault:
        """Locate a problem: in the config file that a setting was read from, otherwise at the call."""
        read = self.read_places.get(problem.keys[:2])
        path, line, column = (read.path, read.line, read.column) if read else (self.path, self.line, 1)
        return Fault(path, line, column, problem.text)


def read_files(file: Path, root: Path) -> RecipeFiles:
    """Read and merge a file and all that it extends.

    Raises RecipeError if one of them has no readable mapping, or if `extends` leads nowhere.
    """
    documents: list[Document] = []
    faults: list[Fault] = []
    files: list[Path] = []
    checksums: dict[str, str] = {}
    while True:
        path = path_from(file, root)
        files.append(file)
        document, found, checksum = _read_cached(str(file), path, _stamp(file)) if documents else _read(file, path)
        faults += found
        checksums[os.path.abspath(file)] = checksum
        if document is None:
            raise RecipeError(faults)
        documents.append(document)
        if "extends" not in document.data:
            break
        base = document.data["extends"]
        if base is REFUSED:
            raise RecipeError(faults)
        if not isinstance(base, str) or not base:
            text = f"extends is {described(base)}; it must be the path of another recipe"
            raise _extends_error(faults, document, text)
        file = Path(os.path.normpath(file.parent / base))
        if not os.path.isfile(file):  # also for a name that is too long, for which `Path.is_file` raises
            text = (
                f"extends {base}: there is no file {path_from(file, root)}; the path is relative to this file's folder"
            )
            raise _extends_error(faults, document, text)
        first = next((at for at, earlier in enumerate(files) if earlier.samefile(file)), None)
        if first is not None:
            names = [earlier.path for earlier in documents[first:]]
            text = f"extends {base} is circular: {' -> '.join([*names, names[0]])}; remove one of the extends"
            raise _extends_error(faults, document, text)
        if len(documents) > MAX_EXTENDS:
            text = f"more than {MAX_EXTENDS} recipes extend each other; merge some of them"
            raise _extends_error(faults, document, text)
    data: dict[str, Any] = {}
    for document, file in zip(reversed(documents), reversed(files), strict=True):
        own = with_absolute_config(_with_absolute_corpus(document.data, file.parent), file.parent)
        data = _merged(data, own)
    data.pop("extends", None)
    expanded: Expanded = expand(data, root)
    return RecipeFiles(
        documents=tuple(documents),
        data=expanded.data,
        faults=(*faults, *expanded.faults),
        checksums={**checksums, **expanded.checksums},
        problems=expanded.problems,
        configs=expanded.configs,
        read_places=expanded.places,
    )


def _extends_error(faults: list[Fault], document: Document, text: str) -> RecipeError:
    keys: Keys = ("extends",)
    line, column = document.value_place(keys) or (1, 1)
    return RecipeError([*faults, Fault(document.path, line, column, text)])


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(old, value) if both else value  # type: ignore[arg-type]  # `both` narrows the two
    return merged


def _with_absolute_corpus(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make `mix.corpus` absolute: it is relative to the file that names it, which another recipe may extend."""
    mix = data.get("mix")
    corpus = mix.get("corpus") if isinstance(mix, dict) else None
    if not isinstance(mix, dict) or not isinstance(corpus, str) or not corpus:
        return data
    return {**data, "mix": {**mix, "corpus": os.path.abspath(folder / corpus)}}


def _stamp(file: Path) -> tuple[int, int]:
    try:
        state = file.stat()
    except OSError:
        return 0, 0
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=64)
def _read_cached(file: str, path: str, stamp: tuple[int, int]) -> tuple[Document | None, list[Fault], str]:
    """Read a file that others extend; thousands of recipes may share one. `stamp` changes with the file."""
    return _read(Path(file), path)


def _read(file: Path, path: str) -> tuple[Document | None, list[Fault], str]:
    """Return the data of a file, its faults, and the SHA-256 of what was read."""

    def fault(text: str, line: int = 1, column: int = 1) -> tuple[None, list[Fault], str]:
        return None, [Fault(path, line, column, text)], ""

    try:
        with open(file, "rb", opener=open_without_waiting) as stream:
            state = os.fstat(stream.fileno())
            if not stat.S_ISREG(state.st_mode):
                return fault("this is not a regular file")
            if state.st_size > MAX_BYTES:
                return fault(f"the file has {state.st_size:,} bytes; a recipe has at most {MAX_BYTES:,}")
            raw = stream.read(state.st_size + 1)
            if len(raw) > state.st_size:  # it grows
                raw += stream.read(MAX_BYTES)
    except OSError as error:
        return fault(read_failure(error))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", errors="replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return fault(f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8", line, column)
    return (*parse_document(text, path), sha256(raw).hexdigest())
