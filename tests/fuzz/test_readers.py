"""Whatever is in a file, a reader of it raises SmokeError or nothing, and soon.

`python -m tests.fuzz.run` tries more inputs, guided by coverage.
"""

from __future__ import annotations

import random
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_smoke.errors import SmokeError
from tests.fuzz.engine import limited_time, mutated, seeds_of
from tests.fuzz.run import TARGETS as NAMES
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
EXAMPLES = 40
"""Mutations of each target: with all targets about two seconds."""


@cache
def seeds(target: str) -> list[bytes]:
    return seeds_of(target, CORPUS)


def read(target: str, data: bytes, folder: Path) -> None:
    with suppress(SmokeError), limited_time():
        TARGETS[target](data, folder)


@pytest.mark.parametrize("target", NAMES)
def test_a_file_that_is_kept_is_read_or_refused(target: str, tmp_path: Path) -> None:
    assert len(seeds(target)) > 1
    for data in seeds(target):
        read(target, data, tmp_path)


@pytest.mark.parametrize("target", NAMES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choose=st.randoms(use_true_random=False), raw=st.binary(max_size=60))
def test_an_almost_valid_file_is_read_or_refused(
    target: str, tmp_path: Path, choose: random.Random, raw: bytes
) -> None:
    data = mutated(choose.choice(seeds(target)), [*seeds(target), raw], choose)
    read(target, data, tmp_path)


def test_every_target_is_named_and_has_a_corpus() -> None:
    assert tuple(TARGETS) == NAMES
    assert {path.name for path in CORPUS.iterdir()} == set(NAMES)
