"""What has changed since a smoke run: its recipe, configs, source files, data and versions."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_smoke.data_files import MAX_FILES, data_digest
from pytest_smoke.environment import DISTRIBUTION, version_of
from pytest_smoke.files import file_sha256
from pytest_smoke.plain import plain_name
from pytest_smoke.receipts.build import config_digests
from pytest_smoke.receipts.canonical import as_known_to, changes, fingerprint, stored
from pytest_smoke.receipts.receipt import Receipt
from pytest_smoke.recipe.case import Case

COMPARED_RELEASES = ("torch", "transformers", "accelerate", "lightning", "pytorch-lightning", "peft", "trl")
"""Libraries whose release (`2.13`, without the last number) must be that of the smoke run: they train."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What differs between a receipt and today."""

    changed: tuple[str, ...]
    """Changes after which the verdict may not hold: `learning_rate 5e-4 -> 1e-3`, `model.py changed`."""
    noted: tuple[str, ...]
    """Changes that are only worth a note, and what could not be compared."""


def compare(receipt: Receipt, case: Case, *, root: Path, with_data: bool, stated: Collection[str]) -> Comparison:
    """Compare a receipt with the recipe and the files below `root` today.

    `with_data`: whether data files are compared. Versions in `stated` are not compared with what is installed here.
    """
    inputs = receipt.inputs
    recipe = as_known_to(inputs["recipe"], case, root=root)
    changed = changes(inputs["recipe"], stored(recipe))
    if not changed and inputs["recipe_sha256"] != fingerprint(recipe):
        changed = ["a value of the recipe changed"]
    changed += _configs(inputs["configs"], config_digests(case))
    changed += _files(inputs["files"], root)
    noted: list[str] = []
    if with_data:
        changed += _data(inputs["data"], root)
    elif inputs["data"]:
        noted.append("data files were not compared")
    releases, patches = _versions(receipt.versions, stated)
    return Comparison(changed=(*changed, *releases), noted=(*noted, *patches))


def _configs(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for path in dict.fromkeys((*before, *after)):
        if path not in after:
            yield f"{plain_name(path)} is no longer read"
        elif path not in before:
            yield f"{plain_name(path)} is read in addition"
        elif before[path] != after[path]:
            yield f"{plain_name(path)} changed"


def _files(before: Mapping[str, str], root: Path) -> Iterator[str]:
    for path, checksum in before.items():
        file = Path(os.path.join(root, path))
        try:
            now = file_sha256(file)
        except (FileNotFoundError, NotADirectoryError):
            yield f"{plain_name(path)} is missing"
        except (OSError, ValueError):  # ValueError: a path that no file can have
            yield f"{plain_name(path)} cannot be read"
        else:
            if now != checksum:
                yield f"{plain_name(path)} changed"


def _data(before: Mapping[str, Mapping[str, Any]], root: Path) -> Iterator[str]:
    for path, digest in before.items():
        file = Path(os.path.join(root, path))
        try:
            if not os.path.lexists(file):
                yield f"{plain_name(path)} is missing"
                continue
            now = data_digest(file, max_files=max(1, min(digest["files"], MAX_FILES)))
        except (OSError, ValueError):
            now = None
        if now is None or now.to_dict() != digest:
            yield f"{plain_name(path)} changed"


def _versions(before: Mapping[str, str], stated: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the releases that differ, and what else differs or could not be compared."""
    changed, noted = [], []
    for name in COMPARED_RELEASES:
        then = before.get(name)
        if then is None or name in stated:
            continue
        now = version_of(name)
        if now is None:
            noted.append(f"{name} {plain_name(then)} was used, and is not installed here")
        elif release(now) != release(then):
            changed.append(f"{name} {public(plain_name(then))} -> {public(now)}")
        elif now != then:
            noted.append(f"{name} {plain_name(then)} -> {now}")
    then, now = before.get(DISTRIBUTION), version_of(DISTRIBUTION)
    if then is not None and now != then and DISTRIBUTION not in stated:
        noted.append(f"{DISTRIBUTION} {plain_name(then)} gave the verdict, and {now} is installed here")
    return changed, noted


def public(version: str) -> str:
    """Return a version without its local part: `2.13.0` of `2.13.0+cu130`."""
    return version.partition("+")[0]


def release(version: str) -> str:
    """Return the first two numbers of a version: `2.13` of `2.13.0+cu130`."""
    return ".".join(public(version).split(".")[:2])
