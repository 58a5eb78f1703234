"""The checks `ranks` and `data-repeats`, on streams of samples with and without the faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_smoke.events import DrawnSamples
from pytest_smoke.judge.checks.drawn_samples import data_repeats, ranks
from pytest_smoke.outcome import Finding
from tests.judge.checks.cases import case
from tests.judge.checks.findings import FakeRun, FakeStage

Stream = Iterator[str]


def run_of(world_size: int = 1, **smoke: Any) -> FakeRun:
    one = case(full={"world_size": world_size}, **smoke)
    return FakeRun(one, [FakeStage(one.stages[0])])


def drawn(streams: Sequence[Stream], *, steps: int = 8, batch_size: int = 4, micro_batches: int = 2) -> list[Any]:
    return [
        DrawnSamples(
            step=step,
            micro_batches=tuple(
                tuple(next(stream) for _ in range(batch_size)) for _ in range(micro_batches) for stream in streams
            ),
        )
        for step in range(steps)
    ]


def ranks_of(streams: Sequence[Stream], **options: Any) -> Finding:
    (finding,) = ranks(run_of(len(streams)), drawn(streams, **options))
    return finding


def repeats_of(stream: Stream, *, smoke: dict[str, Any] | None = None, **options: Any) -> Finding:
    (finding,) = data_repeats(run_of(**(smoke or {})), drawn([stream], **options))
    return finding


def new(prefix: str = "") -> Stream:
    return (f"{prefix}{number}" for number in count())


def epochs(samples: int, seed: int, *, rank: int = 0, world_size: int = 1) -> Stream:
    """Every sample once an epoch, in a new order; a rank gets its share of each epoch."""
    random = Random(seed)
    while True:
        order = [str(number) for number in range(samples)]
        random.shuffle(order)
        yield from order[rank::world_size]


def with_replacement(pool: int, seed: int) -> Stream:
    random = Random(seed)
    return (str(random.randrange(pool)) for _ in count())


def skip(stream: Stream, amount: int) -> Stream:
    for _ in range(amount):
        next(stream)
    return stream


def reversed_in_batches(stream: Stream, size: int) -> Stream:
    while True:
        yield from reversed([next(stream) for _ in range(size)])


def half_of(stream: Stream, other: Stream) -> Stream:
    while True:
        yield from (next(stream), next(other))


def for_ever(batch: Sequence[str]) -> Stream:
    while True:
        yield from batch


def repeated(stream: Stream, times: int, batch_size: int = 4) -> Stream:
    """Workers with one seed: each batch comes once from each of them."""
    while True:
        batch = [next(stream) for _ in range(batch_size)]
        for _ in range(times):
            yield from batch


SAME: dict[str, Callable[[], list[Stream]]] = {
    "the same stream": lambda: [new(), new()],
    "the same stream on two of three ranks": lambda: [new(), new("b"), new()],
    "one batch later": lambda: [new(), skip(new(), 4)],
    "in another order": lambda: [new(), reversed_in_batches(new(), 16)],
    "the same epochs of few samples": lambda: [epochs(16, 1), epochs(16, 1)],
    "the same batch for ever": lambda: [for_ever("abcd"), for_ever("abcd")],
    "every second sample": lambda: [new(), half_of(new(), new("b"))],
}
DIFFERENT: dict[str, Callable[[], list[Stream]]] = {
    "new samples": lambda: [new("a"), new("b")],
    "halves of an epoch": lambda: [epochs(200, 1, rank=rank, world_size=2) for rank in range(2)],
    "halves of short epochs": lambda: [epochs(24, 1, rank=rank, world_size=2) for rank in range(2)],
    "a small pool with replacement": lambda: [with_replacement(100, seed) for seed in range(2)],
    "four possible samples": lambda: [with_replacement(4, seed) for seed in range(2)],
}


@pytest.mark.parametrize("name", SAME)
def test_ranks_with_the_same_samples_fail_in_whatever_order(name: str) -> None:
    finding = ranks_of(SAME[name](), steps=12)
    assert (finding.status, finding.reason) == ("fail", "same-samples"), finding.text


@pytest.mark.parametrize("name", DIFFERENT)
def test_ranks_with_samples_of_their_own_pass(name: str) -> None:
    assert ranks_of(DIFFERENT[name](), steps=32).status == "pass"


@given(pool=st.integers(2, 2000), batch_size=st.integers(1, 16), seed=st.integers(0, 10**6), world=st.integers(2, 4))
def test_independent_ranks_pass_whatever_the_pool(pool: int, batch_size: int, seed: int, world: int) -> None:
    """A tiny pool brings the same samples to all ranks, again and again."""
    streams = [with_replacement(pool, seed * 10 + rank) for rank in range(world)]
    for length in (4, 12):
        finding = ranks_of(streams, steps=length, batch_size=batch_size)
        assert finding.status == "pass", finding.text


@given(size=st.integers(8, 2000), batch_size=st.integers(1, 16), seed=st.integers(0, 10**6))
@example(size=8, batch_size=1, seed=586)
def test_disjoint_shares_of_shuffled_epochs_pass(size: int, batch_size: int, seed: int) -> None:
    streams = [epochs(size, seed, rank=rank, world_size=2) for rank in range(2)]
    assert ranks_of(streams, steps=24, batch_size=batch_size).status == "pass"


def test_one_rank_is_not_compared() -> None:
    assert list(ranks(run_of(1), drawn([new()]))) == []


def test_one_batch_for_all_micro_batches_is_a_smaller_effective_batch() -> None:
    for stream in (for_ever("abcd"), repeated(new(), 2)):
        finding = repeats_of(stream)
        assert (finding.status, finding.reason) == ("fail", "repeated-in-step")


def test_the_same_batch_at_every_step_is_a_warning() -> None:
    finding = repeats_of(for_ever("abcd"), micro_batches=1)
    assert (finding.status, finding.reason) == ("warn", "same-batch")
    assert "steps_per_epoch: 1" in finding.hint
    assert repeats_of(for_ever("a"), micro_batches=1, batch_size=1).reason == "same-batch"


def test_full_batch_training_that_says_so_passes() -> None:
    assert repeats_of(for_ever("abcd"), micro_batches=1, smoke={"steps_per_epoch": 1}).status == "pass"
    assert repeats_of(for_ever("abcdefgh"), smoke={"steps_per_epoch": 1}).status == "pass"


@pytest.mark.parametrize(("workers", "micro_batches"), [(2, 1), (4, 1), (3, 2), (8, 4)])
def test_batches_that_come_once_from_each_worker_are_said(workers: int, micro_batches: int) -> None:
    finding = repeats_of(repeated(new(), workers), micro_batches=micro_batches, steps=32)
    assert finding.status in ("warn", "fail"), finding.text
    single = repeats_of(repeated(new(), workers, 1), micro_batches=micro_batches, batch_size=1, steps=64)
    assert single.reason == "repeated-batches", single.text


REPEATS_BY_CHANCE: dict[str, Callable[[], Stream]] = {
    "new samples": new,
    "epochs": lambda: epochs(40, 1),
    "unshuffled epochs": lambda: for_ever([str(number) for number in range(24)]),
    "a small pool": lambda: with_replacement(64, 1),
    "four possible samples": lambda: with_replacement(4, 1),
}


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8])
@pytest.mark.parametrize("name", REPEATS_BY_CHANCE)
def test_repetitions_of_epochs_and_of_chance_pass(name: str, batch_size: int) -> None:
    finding = repeats_of(REPEATS_BY_CHANCE[name](), batch_size=batch_size, steps=32)
    assert finding.status == "pass", finding.text


def test_three_steps_are_too_few_for_a_pattern() -> None:
    assert list(data_repeats(run_of(), drawn([for_ever("abcd")], steps=3))) == []
