"""Which items are in a shard, and which texts name one."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.collect.shard import MAX_SHARDS, Shard


@given(ids=st.lists(st.text(), unique=True), total=st.integers(1, 40))
def test_every_item_is_in_exactly_one_shard(ids: list[str], total: int) -> None:
    shards = [Shard(number, total) for number in range(1, total + 1)]
    for item_id in ids:
        assert sum(shard.has(item_id) for shard in shards) == 1


def test_shards_are_about_equal() -> None:
    sizes = Counter(
        number for at in range(4000) for number in range(1, 9) if Shard(number, 8).has(f"r/{at}.smoke.yaml::constant")
    )
    assert all(400 < size < 600 for size in sizes.values())  # 500, with a standard deviation of 21


def test_the_shard_of_an_item_never_changes_between_versions() -> None:
    """Two machines may have different versions of Python, and a resumed run must be in the same shard again."""
    assert [Shard.of("1/3").has(f"{name}.smoke.yaml::constant") for name in "abcdef"] == [
        *(False, False, False, True, False, False),
    ]


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "1.0/3", "²/3", "1/99999999999", "S"])
def test_a_text_that_names_no_shard_is_a_usage_error(text: str) -> None:
    with pytest.raises(pytest.UsageError, match="must be I/N"):
        Shard.of(text)


def test_slurm_counts_tasks_from_0() -> None:
    assert Shard.of("slurm", {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}) == Shard(4, 4) == Shard.of("4/4")


def test_a_variable_of_slurm_that_is_missing_is_named() -> None:
    with pytest.raises(pytest.UsageError, match="slurm: SLURM_NTASKS is not set; start pytest with srun"):
        Shard.of("slurm", {"SLURM_PROCID": "1"})


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_PROCID": "0"},
        {"SLURM_NTASKS": "2"},
        {"SLURM_PROCID": "2", "SLURM_NTASKS": "2"},
        {"SLURM_PROCID": "-1", "SLURM_NTASKS": "2"},
        {"SLURM_PROCID": "x\x1b[31m", "SLURM_NTASKS": "2"},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": str(MAX_SHARDS + 1)},
    ],
)
def test_an_environment_that_is_not_of_a_slurm_task_is_a_usage_error(environment: dict[str, str]) -> None:
    with pytest.raises(pytest.UsageError, match=r"--smoke-shard slurm: SLURM_(PROCID|NTASKS) "):
        Shard.of("slurm", environment)
