"""A run that is resumed in a new loop: its state, its data position, its journal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_smoke.events import (
    BatchDigest,
    BatchEquivalence,
    Event,
    Gradients,
    Metrics,
    ProbeLoss,
    Resumed,
    Saved,
    Started,
    Step,
)
from pytest_smoke.train.checkpoints.journal import Journal, damage, read
from pytest_smoke.train.checkpoints.layout import CheckpointPlan, ResumeCheck
from pytest_smoke.train.device import seed_all
from pytest_smoke.train.digest import digest
from pytest_smoke.train.loop import Loop
from tests.train.conftest import Pair, RecordingChannel, make_plan

FIGURES = st.floats(allow_nan=False)


def go(plan: Any, task: Any) -> RecordingChannel:
    seed_all(plan.seed)
    channel = RecordingChannel()
    Loop(plan, task, torch.device("cpu"), channel).run()
    return channel


def both(folder: Path, make: Any, **changes: Any) -> tuple[RecordingChannel, RecordingChannel]:
    """Run a plan, and then the second run of its `resume` check, from step 11 on."""
    check = ResumeCheck(folder=str(folder), step=11, steps=6)
    plan = make_plan(checkpoints=CheckpointPlan(check=check), **changes)
    first = go(plan, make())
    return first, go(replace(plan, checkpoints=CheckpointPlan(check=replace(check, is_resume_run=True))), make())


class Stateful:
    """An iterable with a state that counts all batches drawn from it."""

    drawn_in_all = 0

    def __init__(self, seed: int) -> None:
        self.seed, self.position = seed, 0

    def __iter__(self) -> Iterator[Any]:
        while True:
            self.position += 1
            Stateful.drawn_in_all += 1
            generator = torch.Generator().manual_seed(1000 * self.seed + self.position)
            yield torch.randn(8, 3, generator=generator, dtype=torch.float64)

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class StatefulPair(Pair):
    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Any:
        return Stateful(seed + rank)


class Hidden(Pair):
    """Counts its forward passes in a non-persistent buffer that changes the loss."""

    def model(self) -> nn.Module:
        model = super().model()
        model.register_buffer("calls", torch.zeros(()), persistent=False)
        return model

    def losses(self, model: nn.Module, batch: Any) -> Any:
        if model.training:
            model.calls += 1
        terms = super().losses(model, batch)
        return {**terms, "first": terms["first"] + model.calls}


@pytest.mark.parametrize(
    "changes", [{}, {"micro_batches": 2, "world_size": 2}, {"warmup_steps": 15}, {"grad_clip_norm": 0.01}]
)
@pytest.mark.parametrize("task", [Pair, StatefulPair])
def test_a_resumed_run_makes_the_same_steps_bit_for_bit(tmp_path: Path, task: Any, changes: dict[str, Any]) -> None:
    """With momentum, ranks, accumulation, warm-up and clipping. No earlier step is reported."""
    first, second = both(tmp_path, task, **changes)
    assert second.of(Step) == first.of(Step)[11:17]
    assert second.of(BatchDigest) == first.of(BatchDigest)
    assert len(second.of(BatchDigest)) == 6
    assert second.of(Resumed) == [Resumed(11)]
    assert second.of(Saved) == []


def test_a_stateful_loader_is_not_read_from_the_start(tmp_path: Path) -> None:
    """It draws one batch to learn the loss terms, eight for the probe batch, and six for steps."""
    check = ResumeCheck(folder=str(tmp_path), step=11, steps=6)
    go(make_plan(checkpoints=CheckpointPlan(check=check)), StatefulPair())
    Stateful.drawn_in_all = 0
    go(make_plan(checkpoints=CheckpointPlan(check=replace(check, is_resume_run=True))), StatefulPair())
    assert Stateful.drawn_in_all == 1 + 8 + 6


def test_a_part_of_the_state_that_a_checkpoint_lacks_is_named(tmp_path: Path) -> None:
    first, second = both(tmp_path, Hidden)
    assert second.of(Resumed) == [Resumed(11, ("buffer calls",))]
    assert second.of(Step)[0] != first.of(Step)[11]


def test_saving_a_checkpoint_does_not_change_training(tmp_path: Path) -> None:
    first, _ = both(tmp_path, Pair)
    assert first.of(Step) == go(make_plan(), Pair()).of(Step)


EVENTS = st.one_of(
    st.builds(Step, st.integers(0, 50), FIGURES, st.dictionaries(st.text(max_size=5), FIGURES), FIGURES, FIGURES),
    st.builds(ProbeLoss, st.integers(0, 50), FIGURES),
    st.builds(Metrics, st.integers(0, 50), st.dictionaries(st.text(max_size=5), FIGURES)),
    st.builds(
        BatchEquivalence,
        step=st.integers(0, 50),
        samples=st.just(8),
        smoke_batch_size=st.just(4),
        full_batch_size=st.just(8),
        batch_norm_layers=st.just(0),
        difference=FIGURES,
        smoke_terms=st.dictionaries(st.text(max_size=5), FIGURES),
    ),
    st.builds(Started, st.text(), st.text(), st.text(), st.integers(), st.integers()),
    st.builds(Resumed, st.integers(0, 50), st.lists(st.text(max_size=5)).map(tuple)),
    st.builds(Gradients, st.integers(0, 50), st.just({"a": 1.0}), st.just({}), st.just({}), st.booleans()),
)


@given(chunks=st.lists(st.lists(EVENTS, max_size=4), max_size=5), torn=st.text(max_size=20), step=st.integers(0, 50))
def test_rewinding_a_journal_returns_the_committed_events_before_a_step(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[list[Event]], torn: str, step: int
) -> None:
    """In order and bit for bit. An incomplete last line is dropped."""
    path = tmp_path_factory.mktemp("journal") / "events.jsonl"
    channel = RecordingChannel()
    journal = Journal(channel.send, path)
    for chunk in chunks:
        journal.send(chunk)
        journal.commit()
    sent = [event for chunk in chunks for event in chunk]
    assert channel.events == sent
    assert read(path) == sent
    journal.send([ProbeLoss(0, 1.0)])
    with path.open("a", encoding="utf-8") as file:
        file.write('{"event": "Step", "torn": "' + torn.replace("\n", ""))
    unused = RecordingChannel()
    rewound = Journal(unused.send, path).rewind(step)
    expected = [
        event
        for event in sent
        if (isinstance(event, Step | ProbeLoss | Metrics | BatchEquivalence) and event.step < step)
        or (isinstance(event, Gradients) and event.step < step and not event.postmortem)
        or (isinstance(event, Resumed) and event.step <= step)
    ]
    assert rewound == expected
    assert read(path) == expected
    assert unused.events == []


@given(st.lists(st.floats(allow_nan=False, width=32), max_size=6), st.integers(0, 5))
def test_a_digest_changes_with_values_names_shapes_and_types_and_is_equal_for_equal_containers(
    values: list[float], index: int
) -> None:
    tensor = torch.tensor(values)
    base = digest({"x": tensor, "y": [1, "a"]})
    assert base == digest({"x": tensor.clone(), "y": [1, "a"]})
    others = [{"z": tensor, "y": [1, "a"]}, {"x": tensor, "y": [2, "a"]}, {"x": tensor.double(), "y": [1, "a"]}]
    others.append({"x": tensor.view(1, -1), "y": [1, "a"]})
    if index < len(values):
        changed = tensor.clone()
        changed[index] = changed[index] + 1 if abs(values[index]) < 1e6 else 0.0
        others.append({"x": changed, "y": [1, "a"]})
    assert base not in map(digest, others)
    assert digest(tensor.bfloat16()) == digest(tensor.bfloat16())


STEPS = [Step(number, 1.0, {"ce": 1.0}, 0.1, 0.1) for number in range(40)]


@pytest.mark.parametrize(
    ("damaged", "has"),
    [
        (lambda text: text[: text.index(b'"step": 19') + 20], "19"),
        (lambda text: text.replace(b'"step": 30', b'"step": "30"'), "30"),
        (lambda text: text.replace(b'"event": "Step", "step": 30', b'"event": "Jump", "step": 30'), "30"),
        (lambda text: text.replace(b'"terms"', b'"trms"', 1), "0"),
        (lambda text: b"\xff\xfe" + text, "0"),
        (lambda text: text + text, "80 (some of them twice)"),
        (lambda text: text.replace(b'"step": 30', b'"step": 10'), "40 (some of them twice)"),
        (lambda text: b"".join(text.splitlines(keepends=True)[3:]), "37"),
        (lambda text: b"[" * 100_000, "0"),
        (lambda text: b"", "0"),
    ],
)
def test_a_journal_that_lacks_a_step_or_has_one_twice_is_damaged(tmp_path: Path, damaged: Any, has: str) -> None:
    path = tmp_path / "events.jsonl"
    journal = Journal(RecordingChannel().send, path)
    journal.send(list(STEPS))
    journal.commit()
    assert damage(path, 40) == ""
    path.write_bytes(damaged(path.read_bytes()))
    assert damage(path, 40) == f"{path} is damaged: of the 40 steps before the checkpoint it has {has}"


def test_a_folder_in_place_of_a_journal_is_an_empty_journal(tmp_path: Path) -> None:
    assert read(tmp_path) == []
