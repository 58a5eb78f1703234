"""Which of a project's files, and which libraries, a training process has imported."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Container
from contextlib import suppress
from importlib.machinery import all_suffixes
from pathlib import Path

import torch

from pytest_smoke.environment import version_of
from pytest_smoke.events import SourceFiles
from pytest_smoke.files import file_sha256
from pytest_smoke.roots import is_installed

OWN = Path(__file__).parents[1]
"""Folder of this package, which is below the rootdir in its own repository."""
SUFFIXES = tuple(all_suffixes())
"""Endings of source files, compiled ones and extension modules."""
LIBRARIES = {
    **{name: name for name in ("transformers", "accelerate", "lightning", "peft", "trl", "datasets", "tokenizers")},
    **{name: name for name in ("numpy", "torchvision", "torchaudio", "timm", "deepspeed", "bitsandbytes", "xformers")},
    "pytorch_lightning": "pytorch-lightning",
    "flash_attn": "flash-attn",
}
"""Distributions by the name under which they are imported: libraries that take part in training."""


def source_files(root: str) -> SourceFiles:
    """Return the source files below `root` of all modules that are imported now, and the versions of libraries."""
    return SourceFiles(source_checksums(root), library_versions())


def source_checksums(root: str, *, known: Container[str] = ()) -> dict[str, str]:
    """Return the SHA-256 of the source files below `root` of all modules that are imported now, by absolute path.

    Without Python's own, installed packages and this one, which are not the user's code: an outcome has their versions.
    Files that are `known` are not read.
    """
    checksums: dict[str, str] = {}
    prefixes = {Path(sys.prefix), Path(sys.base_prefix)} - {Path(root)}  # a project may be an environment itself
    others = [OWN, *(prefix for prefix in prefixes if prefix.is_relative_to(root))]
    below = os.path.join(Path(root), "")
    for module in list(sys.modules.values()):
        file = vars(module).get("__file__") if isinstance(module, type(sys)) else None
        if not isinstance(file, str) or not file.endswith(SUFFIXES):
            continue
        name = os.path.abspath(file)
        if name in known or not name.startswith(below):  # text: a path for each of thousands of modules takes 20 ms
            continue
        path = Path(name)
        if any(map(path.is_relative_to, others)) or is_installed(path):
            continue
        try:
            checksums[str(path)] = file_sha256(path)
        except OSError:
            checksums[str(path)] = ""  # deleted since it was imported
    return checksums


def _cuda_of_driver() -> str:
    """Return the version of CUDA that the driver supports, as the driver counts it: `13000` for 13.0.

    Raises OSError where there is no driver of NVIDIA; torch no longer says which one it uses.
    """
    found = ctypes.c_int()
    if status := ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(found)):
        raise OSError(f"cuDriverGetVersion failed with status {status}")
    return str(found.value)


def library_versions() -> dict[str, str]:
    """Return the versions of torch, of what it runs on, and of the libraries that are imported now."""
    found = {"torch": str(torch.__version__)}
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    if torch.version.hip:
        found["hip"] = torch.version.hip
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch types it so
        with suppress(Exception):  # an unusual build must not cost the run
            found["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]  # the same
            found["cuda-driver"] = _cuda_of_driver()
    libraries = {name: version_of(name) for module, name in LIBRARIES.items() if module in sys.modules}
    return found | {name: version for name, version in libraries.items() if version is not None}
