"""The checks `ranks` and `data-repeats`: which samples of a run's first steps are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import sqrt

from pytest_smoke.events import DrawnSamples, NotSharded, UnusedParameters
from pytest_smoke.judge.checks.check import Check, Reason, RunView
from pytest_smoke.outcome import Finding
from pytest_smoke.text import count, listed, percent, steps

MicroBatch = tuple[str, ...]
"""The digests of its samples, sorted: micro-batches with the same samples in another order are equal."""

MIN_STEPS = 4
"""Steps from which a repetition is a pattern."""
MIN_SAMPLES = 8
"""Samples of a rank from which two ranks with equal ones are no coincidence: two random halves of 16 samples are equal
in one of 13,000 cases."""
WRAPPED = 0.1
"""Share of repeated samples from which a rank's own stream has begun again. What two ranks share after that says
nothing: in another epoch each of them may draw what the other one has drawn."""
SHARED = 0.1
"""Smallest share of its samples that a rank must have in common with another one to be called the same."""
DEVIATIONS = 6.0
"""Standard deviations beyond what samplers with replacement, or a corpus with duplicates, would have in common."""
UNSEEN_REPEATS = 3
"""Repeats that a stream without any may have on average: the upper 95 % limit of a Poisson mean."""
DISTINCT = 4
"""Different samples in a micro-batch from which an equal one is a repetition, and not one of a few possible samples."""
REPEATED = 0.25
"""Share of micro-batches that were drawn before, from which batches repeat. Two workers with one seed repeat a half."""
REPEATED_SMALL = 0.45
"""The same for micro-batches of fewer than `DISTINCT` samples, which may be equal by chance."""
NEAR = 16
"""Micro-batches within which such a repetition counts: no loader has many more workers."""


def ranks(run: RunView, events: Sequence[DrawnSamples]) -> Iterator[Finding]:
    """Compare the samples of the ranks, whose micro-batches follow each other in turn."""
    world_size = run.case.settings.world_size
    if world_size < 2:
        return
    window = steps(events[0].step, events[-1].step)
    same = _equal_streams(events, world_size) or _common_samples(_of_first_epoch(events, world_size), world_size)
    if same is None:
        text = f"in {window} the {world_size:,} data-parallel ranks drew different samples"
        yield Finding(id=RANKS.id, status="pass", text=text)
        return
    yield Finding(
        id=RANKS.id,
        status="fail",
        reason="same-samples",
        text=(
            f"data-parallel ranks {same.left} and {same.right} draw the same samples: in {window} they share "
            f"{same.shared:,} of {count(same.samples, 'sample')}. The effective batch has fewer different samples "
            "than declared"
        ),
        step=events[-1].step,
        observed=same.shared / same.samples,
        bound=0,
        hint=(
            "use `rank` and `world_size` in batches(): every world_size-th sample from number rank on, or a generator "
            "seeded with seed and rank"
        ),
    )


def of_launch(run: RunView) -> Iterator[Finding]:
    """Warn of what may be different in the full run's DistributedDataParallel or FSDP2."""
    yield from unused_parameters(run)
    yield from not_sharded(run)


def not_sharded(run: RunView) -> Iterator[Finding]:
    """Warn of a model that is not sharded, although the task says how to."""
    for event in run.events(NotSharded)[:1]:
        yield Finding(
            id=f"{RANKS.id}[parallelize]",
            status="warn",
            reason="not-sharded",
            text=(
                f"parallelize(model, mesh) sharded none of the model's {count(event.parameters, 'parameter')}, so the "
                "smoke run trained with DistributedDataParallel. It says nothing about memory and communication with "
                "FSDP2"
            ),
            observed=0,
            hint=(
                "if the full run shards the model, let parallelize call fully_shard on its modules; else remove "
                "parallelize from the task"
            ),
        )


def unused_parameters(run: RunView) -> Iterator[Finding]:
    """Warn of parameters for which the full run's DistributedDataParallel would wait in vain."""
    newest = {event.rank: event for event in run.events(UnusedParameters)}
    if not newest:
        return
    of_all: dict[tuple[tuple[str, ...], int], list[int]] = {}
    for rank, event in sorted(newest.items()):
        of_all.setdefault((event.names, event.count), []).append(rank)
    parts = []
    for (names, number), found in of_all.items():
        processes = f"{'process' if len(found) == 1 else 'processes'} {listed(map(str, found))}"
        more = f" and {number - len(names):,} more" if number > len(names) else ""
        parts.append(f"{processes} made a step without a gradient of {', '.join(names)}{more}")
    yield Finding(
        id=f"{RANKS.id}[unused]",
        status="warn",
        reason="unused-parameters",
        text=(
            f"{'; '.join(parts)}. DistributedDataParallel(model) raises in the next step; the smoke run does not, "
            "because it sets find_unused_parameters=True"
        ),
        observed=max(event.count for event in newest.values()),
        bound=0,
        hint=(
            "set find_unused_parameters=True in the full run, or let the losses use all parameters in every process, "
            "and freeze or remove those that nothing uses"
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Overlap:
    left: int
    right: int
    shared: int
    samples: int


def _equal_streams(events: Sequence[DrawnSamples], world_size: int) -> _Overlap | None:
    """Return two ranks that draw the same samples in the same order."""
    ranks_of: dict[tuple[str, ...], int] = {}
    for rank in range(world_size):
        stream = tuple(sample for event in events for sample in _of_rank(event, rank, world_size))
        other = ranks_of.setdefault(stream, rank)
        if other != rank and len(stream) >= MIN_SAMPLES and len(set(stream)) >= DISTINCT:
            return _Overlap(left=other, right=rank, shared=len(stream), samples=len(stream))
    return None


def _common_samples(events: Sequence[DrawnSamples], world_size: int) -> _Overlap | None:
    """Return two ranks that share more samples than independent ones would."""
    streams = [
        [sample for event in events for sample in _of_rank(event, rank, world_size)] for rank in range(world_size)
    ]
    first_rank: dict[str, int] = {}
    for rank, stream in enumerate(streams):
        shared_with = Counter(first_rank[sample] for sample in stream if sample in first_rank)
        for other, shared in shared_with.most_common(1):
            if _is_too_much(shared, streams[other], stream):
                return _Overlap(left=other, right=rank, shared=shared, samples=len(stream))
        for sample in stream:
            first_rank.setdefault(sample, rank)
    return None


def _of_rank(event: DrawnSamples, rank: int, world_size: int) -> list[str]:
    return [sample for batch in event.micro_batches[rank::world_size] for sample in batch]


def _of_first_epoch(events: Sequence[DrawnSamples], world_size: int) -> Sequence[DrawnSamples]:
    """Return the longest first part of the events in which no rank repeats more than a few of its samples."""
    seen: list[list[str]] = [[] for _ in range(world_size)]
    end = 0
    for number, event in enumerate(events, start=1):
        for rank, samples in enumerate(seen):
            samples += _of_rank(event, rank, world_size)
        if all(len(samples) - len(set(samples)) <= WRAPPED * len(samples) for samples in seen):
            end = number
    return events[:end]


def _is_too_much(shared: int, left: Sequence[str], right: Sequence[str]) -> bool:
    """Tell whether two streams share more than independent ones that repeat as much of their own samples would."""
    samples = min(len(left), len(right))
    if samples < MIN_SAMPLES:
        return False
    half = samples // 2
    if set(left) == set(right) and 4 * len({*left[:half]} & {*right[:half]}) > half:
        return True  # if the first halves differ, each rank drew in a second epoch what the other had drawn before
    repeats = max(len(stream) - len(set(stream)) for stream in (left, right))
    # Of n draws with replacement from N samples, n^2 / 2N are repeats, and two such streams share n^2 / N.
    expected = 2.0 * (repeats + UNSEEN_REPEATS)
    return shared >= SHARED * samples and shared > expected + DEVIATIONS * sqrt(expected)


def data_repeats(run: RunView, events: Sequence[DrawnSamples]) -> Iterator[Finding]:
    """Look for micro-batches that are drawn again, rank by rank."""
    if len(events) < MIN_STEPS:
        return
    world_size = run.case.settings.world_size
    window = steps(events[0].step, events[-1].step)
    for rank in range(world_size):
        by_step = [[tuple(sorted(batch)) for batch in event.micro_batches[rank::world_size]] for event in events]
        made = _repetition(by_step, window, full_batch=run.case.recipe.smoke.steps_per_epoch == 1)
        if made is not None:
            yield made
            return
    yield Finding(id=DATA_REPEATS.id, status="pass", text=f"the batches of {window} do not repeat")


def _repetition(by_step: Sequence[Sequence[MicroBatch]], window: str, *, full_batch: bool) -> Finding | None:
    """Return what repeats in the micro-batches of one rank, by step; None if nothing does."""
    drawn = [one for batches in by_step for one in batches]
    different = set(drawn)
    per_step = len(by_step[0])
    goes_on = _new_after_a_repeat(drawn)
    small = min(len(set(one)) for one in different) < DISTINCT
    halved = all(2 * len(set(batches)) <= len(batches) for batches in by_step)
    if halved and not small and (goes_on or len(different) == 1):
        most = max(len(set(batches)) for batches in by_step)
        which = f"the {per_step:,} micro-batches of a step are all the same samples"
        if most > 1:
            which = f"only {most:,} of the {per_step:,} micro-batches of a step are different"
        return Finding(
            id=DATA_REPEATS.id,
            status="fail",
            reason="repeated-in-step",
            text=f"{which}, in each of {window}. The effective batch has fewer different samples than declared",
            step=0,
            observed=most,
            bound=per_step,
            hint=SAME_SEED,
        )
    if all(set(batches) == set(by_step[0]) for batches in by_step[1:]):
        if full_batch:
            text = f"every step of {window} has the same samples, as smoke.steps_per_epoch: 1 says"
            return Finding(id=DATA_REPEATS.id, status="pass", text=text)
        return Finding(
            id=DATA_REPEATS.id,
            status="warn",
            reason="same-batch",
            text=f"every step of {window} has the same {count(len({*chain(*by_step[0])}), 'sample')}",
            hint=f"{SAME_SEED}. If all data fit into one step on purpose, set smoke.steps_per_epoch: 1",
        )
    last: dict[MicroBatch, int] = {}
    repeats = 0
    for number, one in enumerate(drawn):
        repeats += one in last and (not small or number - last[one] <= NEAR)
        last[one] = number
    share = repeats / len(drawn)
    enough = share >= (REPEATED_SMALL if small else REPEATED) and len(different) >= (NEAR if small else MIN_STEPS)
    if goes_on and enough:
        return Finding(
            id=DATA_REPEATS.id,
            status="warn",
            reason="repeated-batches",
            text=(
                f"{repeats:,} of {count(len(drawn), 'micro-batch', 'micro-batches')} in {window} were drawn before, "
                f"while new ones still come: {percent(share)} of the data is repeated"
            ),
            hint=SAME_SEED,
        )
    return None


def _new_after_a_repeat(drawn: Sequence[MicroBatch]) -> bool:
    """Tell whether new micro-batches follow after the first repeated one; at the end of an epoch none are left."""
    seen: set[MicroBatch] = set()
    repeated = False
    for one in drawn:
        if repeated and one not in seen:
            return True
        repeated = repeated or one in seen
        seen.add(one)
    return False


SAME_SEED = (
    "look for a generator that is seeded again for each batch, and for data loader workers that share a seed or that "
    "each read the whole data set"
)
RANKS = Check(
    id="ranks",
    question="Do the data-parallel ranks draw different samples, use every parameter, and shard the model if the task "
    "has `parallelize`?",
    when="first steps",
    verdict="invalid",
    key="full.world_size",
    stops_run=True,
    reasons=(
        Reason(id="same-samples", status="fail", when="two ranks draw the same samples, in any order"),
        Reason(
            id="unused-parameters",
            status="warn",
            when="a process of `launch` has no gradient of a parameter, for which DistributedDataParallel needs "
            "`find_unused_parameters=True`",
        ),
        Reason(id="not-sharded", status="warn", when="`parallelize` of the task sharded no parameter"),
    ),
    on_event=(DrawnSamples, ranks),
    at_end=of_launch,
)
DATA_REPEATS = Check(
    id="data-repeats",
    question="Do the first steps draw new samples?",
    when="first steps",
    verdict="invalid",
    key="task",
    stops_run=True,
    reasons=(
        Reason(id="repeated-in-step", status="fail", when="the micro-batches of a step are the same samples"),
        Reason(id="same-batch", status="warn", when="every step has the same samples"),
        Reason(id="repeated-batches", status="warn", when="batches are drawn again while new ones still come"),
    ),
    on_event=(DrawnSamples, data_repeats),
)
