"""constraints.txt and .ci/oldest.txt agree with the ranges in pyproject.toml."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [Requirement(text) for text in [*PROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["lint"]]]
"""What the core, the tests and the linters require."""


def pins(path: Path) -> dict[str, str]:
    """Return the versions in a file of `name==version` lines, by normalized name."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


CONSTRAINTS = pins(ROOT / "constraints.txt")


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_the_pinned_version_is_allowed(requirement: Requirement) -> None:
    assert requirement.specifier.contains(CONSTRAINTS[canonicalize_name(requirement.name)])


def test_every_pinned_package_is_required_by_the_core_the_tests_or_the_linters() -> None:
    """.ci/run installs all of constraints.txt, so a package that nothing requires could hide a gap in an extra."""
    waiting, names, seen = list(DECLARED), set[str](), set[tuple[str, ...]]()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, *sorted(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        names.add(name)
        try:
            texts = requires(name) or []
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed; this test needs the extras test and lint")
        environments = [{"extra": extra} for extra in ["", *requirement.extras]]
        following = [Requirement(text) for text in texts]
        waiting += [r for r in following if r.marker is None or any(r.marker.evaluate(env) for env in environments)]
    assert CONSTRAINTS.keys() - names == set()


def test_the_oldest_tested_versions_are_the_oldest_allowed_ones() -> None:
    """Except torch: the wheels of its older versions are too large to test on."""
    bounds = {canonicalize_name(r.name): str(r.specifier).removeprefix(">=") for r in DECLARED}
    oldest = pins(ROOT / ".ci" / "oldest.txt")
    assert {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]} <= oldest.keys()
    assert oldest.pop("torch") == CONSTRAINTS["torch"]
    assert oldest == {name: bounds[name] for name in oldest}
