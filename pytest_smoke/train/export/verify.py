"""Verify a package: checksums, weights in a new model, ONNX files in onnxruntime, in this or in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model
from torch import Tensor, nn

from pytest_smoke.allowed import AllowedCode, allowed_by_files
from pytest_smoke.errors import ExportError, PackageError, TaskError
from pytest_smoke.files import is_plain_name, read_json
from pytest_smoke.plain import safe_repr
from pytest_smoke.recipe.task_ref import task_fault
from pytest_smoke.text import count, listed, number
from pytest_smoke.train.crash import crash_of
from pytest_smoke.train.export import package
from pytest_smoke.train.export.model_io import difference, flat_outputs, tensors, unwrapped
from pytest_smoke.train.export.onnx_model import Session
from pytest_smoke.train.task import load_task

NO_OUTPUT = "it printed nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The result for one part of a package."""

    part: str
    """`checksums`, or the file."""
    ok: bool
    """Whether it passed."""
    text: str
    """What was found."""
    difference: float | None = None
    """Largest difference from the packaged outputs, divided by the largest output; None if nothing was run."""

    def to_dict(self) -> dict[str, Any]:
        """Return builtins; an infinite difference, for which JSON has no number, becomes None."""
        tree = asdict(self)
        return {**tree, "difference": None} if self.difference == float("inf") else tree


def check_package(folder: Path, *, root: Path, allowed: AllowedCode | None = None) -> Iterator[Part]:
    """Check the package in `folder` part by part; its task is imported from `root`. Stops after wrong checksums.

    `allowed` is the code outside `root` that the package may name; None: what the ini file in `root` allows.

    Raises PackageError if there is no package of a known layout.
    """
    manifest = _manifest(folder)
    wrong = package.changed_files(folder, manifest["files"])
    if wrong:
        yield Part(part="checksums", ok=False, text="; ".join(wrong))
        return
    yield Part(part="checksums", ok=True, text=f"{count(len(manifest['files']), 'file')} unchanged")
    recipe, examples, tolerance = _contents(folder, manifest)
    inputs, threads = _group(examples, "input"), int(recipe["smoke"]["cpu_threads"])
    torch.set_num_threads(threads)

    def weights() -> list[Tensor]:
        sys.path.insert(0, str(root))
        model = _model_of(recipe, root, allowed_by_files(root) if allowed is None else allowed)
        load_model(model, str(folder / package.WEIGHTS))
        return tensors(flat_outputs(model.eval(), inputs)[0])

    def onnx(name: str) -> Callable[[], list[Tensor]]:
        return lambda: Session(folder / name, threads=threads).run(inputs)

    expected = _group(examples, "output")
    yield _check_part(package.WEIGHTS, weights, expected, tolerance, root)
    yield _check_part(package.ONNX, onnx(package.ONNX), expected, tolerance, root)
    if package.INT8 in manifest["files"]:
        # Compared with the outputs of int8 when it was packaged: the cost of quantization was judged then.
        yield _check_part(package.INT8, onnx(package.INT8), _group(examples, "int8"), tolerance, root)


def _model_of(recipe: Mapping[str, Any], root: Path, allowed: AllowedCode) -> nn.Module:
    """Return a new model of the package's task. Raises TaskError, before an import, for code that is not allowed."""
    fault = task_fault(recipe["task"], root, allowed=allowed)
    if fault:
        raise TaskError(fault)
    args = {**recipe["args"], **recipe["smoke"]["args"]}
    return unwrapped(load_task(recipe["task"], args, root=root, allowed=allowed).model())


def check_in_fresh_process(
    folder: str, root: str, wanted: Sequence[str], on_line: Callable[[], None], *, allowed: AllowedCode
) -> list[dict[str, Any]]:
    """Run `python -m pytest_smoke package` on `folder`, in a process that has not seen the training.

    Returns the result of each part as builtins, of `wanted` among others; `on_line` is called for every line of output.
    Raises ExportError if a part fails or was not checked.
    """
    parts: list[dict[str, Any]] = []
    line = NO_OUTPUT
    for line in _lines(folder, root, ("*",) if allowed.named_in_python else allowed.tasks):
        on_line()
        try:
            part = json.loads(line)
            parts.append({key: part[key] for key in ("part", "ok", "text", "difference")})
        except (ValueError, KeyError, TypeError):
            continue  # printed by the task's module
    wrong = [f"{part['part']}: {part['text']}" for part in parts if not part["ok"]]
    if wrong:
        raise ExportError("outputs-differ", "; ".join(wrong), {"parts": parts})
    missing = sorted(set(wanted) - {part["part"] for part in parts})
    if missing:  # exit status 1 does not show it: Python uses it for an exception, the command for a failed part
        raise ExportError("crash", f"the fresh process did not check {listed(missing)}; its last line: {line}")
    return parts


def _lines(folder: str, root: str, globs: Sequence[str]) -> Iterator[str]:
    """Yield the command's output line by line. Raises ExportError if it was killed, or found no package."""
    command = [sys.executable, "-m", "pytest_smoke", "package", folder, "--root", root, "--format", "json"]
    command += [f"--allow-task={glob}" for glob in globs]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    last = NO_OUTPUT
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in filter(str.strip, process.stdout):
            last = line.strip()
            yield last
    if process.returncode not in (0, 1):
        raise ExportError("crash", f"the fresh process ended with exit status {process.returncode}: {last}")


def _check_part(
    name: str, run: Callable[[], list[Tensor]], expected: list[Tensor], tolerance: float, root: Path
) -> Part:
    try:
        worst = difference(expected, run())
    except (Exception, SystemExit) as error:  # a task that exits must not end the command as if all were well
        crash = crash_of(error, str(root))
        at = f" at {crash.place}" if crash.place else ""
        return Part(part=name, ok=False, text=f"cannot be loaded and run: {crash.text.partition(chr(10))[0]}{at}")
    measured = f"(difference {number(worst, 2)}, at most {tolerance:g})"
    ok = worst <= tolerance
    verb = "match" if ok else "differ from"
    return Part(part=name, ok=ok, text=f"outputs {verb} the packaged ones {measured}", difference=worst)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / package.MANIFEST
    try:
        manifest = read_json(path)
    except OSError as error:
        raise PackageError(f"{path}: {error.strerror}; a package is a folder with a {package.MANIFEST}") from None
    except ValueError as error:
        raise PackageError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != package.SCHEMA:
        raise PackageError(f"{path} is not a manifest of schema {package.SCHEMA}")
    files, tolerance = manifest.get("files"), manifest.get("tolerance")
    complete = isinstance(files, dict) and all(
        isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
        for entry in files.values()
    )
    if not complete or not isinstance(files, dict):
        raise PackageError(f"{path}: 'files' must give 'bytes' and 'sha256' of each file")
    outside = [name for name in files if not is_plain_name(name)]
    if outside:
        raise PackageError(
            f"{path}: 'files' has {safe_repr(outside[0])}, which does not name a file in the same folder"
        )
    if not isinstance(tolerance, int | float) or isinstance(tolerance, bool) or not 0 <= tolerance <= 1:
        raise PackageError(f"{path}: 'tolerance' is {tolerance!r}; it must be a number from 0 to 1")
    return manifest


def _contents(folder: Path, manifest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor], float]:
    """Return recipe, examples and tolerance."""
    try:
        recipe = read_json(folder / package.RECIPE)["recipe"]
        needed = {"task": recipe["task"], "args": {**recipe["args"]}, "smoke": {**recipe["smoke"]}}
        return needed, load_file(str(folder / package.EXAMPLES)), float(manifest["tolerance"])
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise PackageError(f"{folder} was not written by smoke.pipeline: {type(error).__name__}: {error}") from None


def _group(examples: dict[str, Tensor], name: str) -> list[Tensor]:
    size = sum(key.startswith(f"{name}.") for key in examples)
    return [examples[f"{name}.{i}"] for i in range(size)]
