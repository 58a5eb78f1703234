"""A package as a stranger meets it: checksums, weights into a new model, ONNX files into onnxruntime, all run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model
from torch import Tensor

from pytest_smoke.errors import PackageError
from pytest_smoke.train.crash import crash_of
from pytest_smoke.train.export import package
from pytest_smoke.train.export.onnx_file import Session
from pytest_smoke.train.export.outputs import difference, flat_outputs, tensors, unwrapped
from pytest_smoke.train.task import load_task


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a package, checked."""

    part: str
    """`checksums`, or the file."""
    ok: bool
    text: str
    difference: float | None = None
    """From the outputs that were packaged, as a share of the largest; None where nothing was run."""

    def to_dict(self) -> dict[str, Any]:
        """Builtins; an infinite difference has no number in JSON, and is left to the sentence."""
        wire = asdict(self)
        return {**wire, "difference": None} if self.difference == float("inf") else wire


def check_package(folder: Path, *, root: Path) -> Iterator[Part]:
    """Check the package in `folder`; its task is imported from `root`. Stops after checksums that are not right.

    Raises PackageError where there is no package of a known layout.
    """
    manifest = _manifest(folder)
    wrong = package.unlike(folder, manifest["files"])
    if wrong:
        yield Part(part="checksums", ok=False, text="; ".join(wrong))
        return
    yield Part(part="checksums", ok=True, text=f"{len(manifest['files'])} files are what they were")
    recipe, examples, tolerance = _contents(folder, manifest)
    inputs, threads = _group(examples, "input"), int(recipe["smoke"]["cpu_threads"])
    torch.set_num_threads(threads)

    def weights() -> list[Tensor]:
        sys.path.insert(0, str(root))
        args = {**recipe["args"], **recipe["smoke"]["args"]}
        model = unwrapped(load_task(recipe["task"], args).model())
        load_model(model, str(folder / package.WEIGHTS))
        return tensors(flat_outputs(model.eval(), inputs)[0])

    def onnx(name: str) -> Callable[[], list[Tensor]]:
        return lambda: Session(folder / name, threads=threads).run(inputs)

    expected = _group(examples, "output")
    yield _part(package.WEIGHTS, weights, expected, tolerance, root)
    yield _part(package.ONNX, onnx(package.ONNX), expected, tolerance, root)
    if package.INT8 in manifest["files"]:
        # Against what int8 gave when it was packaged: what it costs beside the model was judged there.
        yield _part(package.INT8, onnx(package.INT8), _group(examples, "int8"), tolerance, root)


def _part(name: str, run: Callable[[], list[Tensor]], expected: list[Tensor], tolerance: float, root: Path) -> Part:
    try:
        apart = difference(expected, run())
    except Exception as error:
        crash = crash_of(error, str(root))
        at = f" at {crash.place}" if crash.place else ""
        return Part(part=name, ok=False, text=f"does not load or run: {crash.text.partition(chr(10))[0]}{at}")
    text = f"gives the packaged outputs again: difference {apart:.2g} of at most {tolerance:g}"
    if apart > tolerance:
        text = f"gives other outputs than were packaged: difference {apart:.2g}, at most {tolerance:g}"
    return Part(part=name, ok=apart <= tolerance, text=text, difference=apart)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / package.MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PackageError(f"{path}: {error.strerror}; a package is a folder with a {package.MANIFEST}") from None
    except ValueError as error:
        raise PackageError(f"{path} is no JSON: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != package.SCHEMA:
        raise PackageError(f"{path} is no manifest of schema {package.SCHEMA}")
    files, tolerance = manifest.get("files"), manifest.get("tolerance")
    whole = isinstance(files, dict) and all(
        isinstance(said, dict) and isinstance(said.get("bytes"), int) and isinstance(said.get("sha256"), str)
        for said in files.values()
    )
    if not whole:
        raise PackageError(f"{path}: 'files' must give 'bytes' and 'sha256' of each file")
    if not isinstance(tolerance, int | float) or isinstance(tolerance, bool) or not 0 <= tolerance <= 1:
        raise PackageError(f"{path}: 'tolerance' is {tolerance!r}; it must be a number from 0 to 1")
    return manifest


def _contents(folder: Path, manifest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor], float]:
    """Recipe, examples and tolerance."""
    try:
        recipe = json.loads((folder / package.RECIPE).read_text(encoding="utf-8"))["recipe"]
        known = {"task": recipe["task"], "args": {**recipe["args"]}, "smoke": {**recipe["smoke"]}}
        return known, load_file(str(folder / package.EXAMPLES)), float(manifest["tolerance"])
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise PackageError(f"{folder} is no package that a pipeline wrote: {type(error).__name__}: {error}") from None


def _group(examples: dict[str, Tensor], name: str) -> list[Tensor]:
    count = sum(key.startswith(f"{name}.") for key in examples)
    return [examples[f"{name}.{i}"] for i in range(count)]
