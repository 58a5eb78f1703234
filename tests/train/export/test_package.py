"""A package is written, verified, and rejected once one bit of it has changed."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_smoke.errors import PackageError, TaskError
from pytest_smoke.train.export import package
from pytest_smoke.train.export.model_io import dynamic_shapes_of, flat_outputs, tensors
from pytest_smoke.train.export.onnx_model import Session, export, write_int8, write_onnx
from pytest_smoke.train.export.verify import Part, check_package

TASK = """
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.letters, self.head = nn.Embedding(30, width), nn.Linear(width, 30, bias=False)
        self.head.weight = self.letters.weight

    def forward(self, ids):
        return self.head(self.letters(ids))

class Letters:
    def __init__(self, *, width): self.width = width
    def model(self): return Tied(self.width)
    def batches(self, batch_size, *, seed, rank=0, world_size=1): ...
    def losses(self, model, batch): ...
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a task and a valid package of its model."""
    root = tmp_path_factory.mktemp("project")
    (root / "packaged_task.py").write_text(TASK)
    names: dict[str, Any] = {}
    exec(TASK, names)
    torch.manual_seed(5)
    model, inputs, folder = names["Tied"](8).eval(), (torch.randint(30, (2, 4)),), root / "package"
    folder.mkdir()
    task: Any = object()
    write_onnx(export(model, inputs, dynamic_shapes_of(task, inputs)), folder / package.ONNX)
    write_int8(folder / package.ONNX, folder / package.INT8)
    package.write_weights(model, folder)
    int8 = Session(folder / package.INT8, threads=1).run(inputs)
    package.write_examples(folder, input=inputs, output=tensors(flat_outputs(model, inputs)[0]), int8=int8)
    smoke = {"args": {}, "cpu_threads": 1}
    recipe = {"task": "packaged_task:Letters", "args": {"width": 8}, "smoke": smoke}
    package.write_json(folder / package.RECIPE, {"mode": "constant", "cell": None, "recipe": recipe})
    package.write_manifest(folder, tolerance=1e-4)
    return root


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """Return a copy of the package that a test may change."""
    return shutil.copytree(root / "package", tmp_path / "package")


def checked(folder: Path, root: Path) -> dict[str, Part]:
    return {part.part: part for part in check_package(folder, root=root)}


def test_a_valid_package_loads_into_a_new_model_and_onnxruntime(folder: Path, root: Path) -> None:
    """Also tied weights, one of which is written."""
    parts = checked(folder, root)
    assert list(parts) == ["checksums", "model.safetensors", "model.onnx", "model.int8.onnx"]
    assert all(part.ok for part in parts.values()), parts
    assert parts["checksums"].text == "5 files unchanged"
    assert parts["model.onnx"].text.startswith("outputs match the packaged ones (difference ")
    assert parts["model.safetensors"].difference == 0.0
    assert parts["model.int8.onnx"].difference == 0.0


@pytest.mark.parametrize("name", [package.WEIGHTS, package.ONNX, package.INT8, package.EXAMPLES, package.RECIPE])
def test_a_file_with_one_changed_bit_is_named_and_not_loaded(folder: Path, root: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    parts = checked(folder, root)
    assert list(parts) == ["checksums"]
    assert parts["checksums"].text.startswith(f"{name} was changed: its SHA-256 is ")


def test_missing_resized_and_additional_files_are_named_together(folder: Path, root: Path) -> None:
    (folder / package.INT8).unlink()
    (folder / "notes.txt").write_text("hello")
    with (folder / package.WEIGHTS).open("ab") as file:
        file.write(b"!")
    text = checked(folder, root)["checksums"].text
    size = (folder / package.WEIGHTS).stat().st_size
    fragments = ["model.int8.onnx is missing", "notes.txt is not in the manifest"]
    fragments.append(f"model.safetensors has {size} bytes, the manifest says {size - 1}")
    assert not [fragment for fragment in fragments if fragment not in text], text


def test_weights_of_another_model_are_detected_even_if_their_checksum_is_right(folder: Path, root: Path) -> None:
    names: dict[str, Any] = {}
    exec(TASK, names)
    package.write_weights(names["Tied"](8), folder)
    package.write_manifest(folder, tolerance=1e-4)
    parts = checked(folder, root)
    assert [part.part for part in parts.values() if not part.ok] == ["model.safetensors"]
    assert "outputs differ from the packaged ones (difference " in parts["model.safetensors"].text


def test_weights_that_no_longer_fit_the_tasks_model_are_an_error(folder: Path, root: Path) -> None:
    """The ONNX files need no task."""
    recipe = json.loads((folder / package.RECIPE).read_text())
    recipe["recipe"]["args"]["width"] = 16
    package.write_json(folder / package.RECIPE, recipe)
    package.write_manifest(folder, tolerance=1e-4)
    parts = checked(folder, root)
    assert parts["model.safetensors"].text.startswith("cannot be loaded and run: RuntimeError: ")
    assert parts["model.onnx"].ok


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("os:system", "task os:system is part of Python's standard library"),
        ("torch:load", "task torch:load is outside pytest's rootdir"),
        ("packaged_task:leave", "SystemExit: 0"),
    ],
)
def test_a_recipe_in_a_package_runs_nothing_but_a_task(folder: Path, root: Path, task: str, text: str) -> None:
    """And if it exits, the package has not passed."""
    with (root / "packaged_task.py").open("a") as file:
        file.write("\nimport sys\ndef leave(**args): sys.exit(0)\n")
    sys.modules.pop("packaged_task", None)
    recipe = json.loads((folder / package.RECIPE).read_text())
    recipe["recipe"] |= {"task": task, "args": {"command": "touch called"} if task == "os:system" else {"f": "x"}}
    package.write_json(folder / package.RECIPE, recipe)
    package.write_manifest(folder, tolerance=1e-4)
    part = checked(folder, root)["model.safetensors"]
    assert not part.ok
    assert text in part.text
    assert not Path("called").exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "sub/file", "a\\b", ""])
def test_a_manifest_names_files_beside_it_only(folder: Path, root: Path, name: str) -> None:
    manifest = json.loads((folder / package.MANIFEST).read_text())
    manifest["files"][name] = {"bytes": 1, "sha256": "0"}
    (folder / package.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(PackageError, match="does not name a file in the same folder"):
        checked(folder, root)


@pytest.mark.parametrize("text", [None, "no json", "[]", '{"schema": 99}'])
def test_a_folder_without_a_valid_manifest_is_an_error(tmp_path: Path, root: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / package.MANIFEST).write_text(text)
    with pytest.raises(PackageError, match=r"manifest\.json"):
        checked(tmp_path, root)


def test_an_infinite_difference_is_none_in_json() -> None:
    assert Part(part="model.onnx", ok=False, text="", difference=math.inf).to_dict()["difference"] is None


class Labelled:
    """The part of a task with labels."""

    def __init__(self, labels: Any) -> None:
        self.labels = labels


def test_labels_are_a_list_of_strings_or_a_method_that_returns_one_or_absent() -> None:
    one: Any = Labelled(("B", "I"))
    two: Any = Labelled(lambda: ["B", "I"])
    assert package.labels_of(one) == package.labels_of(two) == ["B", "I"]
    nothing: Any = object()
    assert package.labels_of(nothing) is None
    wrong: Any = Labelled("BIO")
    with pytest.raises(TaskError, match="labels is 'BIO': it must be a list of strings"):
        package.labels_of(wrong)
