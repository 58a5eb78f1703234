"""A run that goes on in a fresh loop: the state, the data position, the journal."""

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
from pytest_smoke.train.checkpoints.journal import Journal, read
from pytest_smoke.train.checkpoints.layout import Check, Saving
from pytest_smoke.train.device import seed_all
from pytest_smoke.train.digest import digest
from pytest_smoke.train.loop import Loop
from tests.train.conftest import Pair, make_plan
from tests.train.test_loop import Line

FIGURES = st.floats(allow_nan=False)


def go(plan: Any, task: Any) -> Line:
    seed_all(plan.seed)
    line = Line()
    Loop(plan, task, torch.device("cpu"), line).run()
    return line


def both(folder: Path, make: Any, **changes: Any) -> tuple[Line, Line]:
    """A whole run, and the one that goes on from its step 11."""
    check = Check(folder=str(folder), step=11, steps=6)
    plan = make_plan(saving=Saving(check=check), **changes)
    first = go(plan, make())
    return first, go(replace(plan, saving=Saving(check=replace(check, again=True))), make())


class Stateful:
    """An iterator that knows where it is, and would be late to be wound forward."""

    drawn_in_all = 0

    def __init__(self, seed: int) -> None:
        self.seed, self.at = seed, 0

    def __iter__(self) -> Iterator[Any]:
        while True:
            self.at += 1
            Stateful.drawn_in_all += 1
            generator = torch.Generator().manual_seed(1000 * self.seed + self.at)
            yield torch.randn(8, 3, generator=generator, dtype=torch.float64)

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


class StatefulPair(Pair):
    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Any:
        return Stateful(seed + rank)


class Hidden(Pair):
    """Counts its forward passes in a buffer that no state_dict holds, and lets the count into the loss."""

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
def test_a_resumed_run_makes_the_same_steps(tmp_path: Path, task: Any, changes: dict[str, Any]) -> None:
    """Bit for bit, with momentum, ranks, accumulation, warm-up and clipping; no earlier step is told."""
    first, second = both(tmp_path, task, **changes)
    assert second.of(Step) == first.of(Step)[11:17]
    assert second.of(BatchDigest) == first.of(BatchDigest)
    assert len(second.of(BatchDigest)) == 6
    assert second.of(Resumed) == [Resumed(11)]
    assert second.of(Saved) == []


def test_an_iterator_that_knows_its_place_is_not_wound_forward(tmp_path: Path) -> None:
    """One batch to learn the terms, the probe batch's eight, and six steps."""
    check = Check(folder=str(tmp_path), step=11, steps=6)
    go(make_plan(saving=Saving(check=check)), StatefulPair())
    Stateful.drawn_in_all = 0
    go(make_plan(saving=Saving(check=replace(check, again=True))), StatefulPair())
    assert Stateful.drawn_in_all == 1 + 8 + 6


def test_what_a_checkpoint_does_not_hold_is_named(tmp_path: Path) -> None:
    """A buffer that is not persistent, and nothing else."""
    first, second = both(tmp_path, Hidden)
    assert second.of(Resumed) == [Resumed(11, ("buffer calls",))]
    assert second.of(Step)[0] != first.of(Step)[11]


def test_a_saved_run_is_the_run_that_is_not_saved(tmp_path: Path) -> None:
    """Saving changes nothing."""
    first, _ = both(tmp_path, Pair)
    assert first.of(Step) == go(make_plan(), Pair()).of(Step)


records = st.one_of(
    st.builds(Step, st.integers(0, 50), FIGURES, st.dictionaries(st.text(max_size=5), FIGURES), FIGURES, FIGURES),
    st.builds(ProbeLoss, st.integers(0, 50), FIGURES),
    st.builds(Metrics, st.integers(0, 50), st.dictionaries(st.text(max_size=5), FIGURES)),
    st.builds(
        BatchEquivalence,
        step=st.integers(0, 50),
        samples=st.just(8),
        smoke=st.just(4),
        full=st.just(8),
        batch_norm=st.just(0),
        difference=FIGURES,
        smoke_terms=st.dictionaries(st.text(max_size=5), FIGURES),
    ),
    st.builds(Started, st.text(), st.text(), st.text(), st.integers(), st.integers()),
    st.builds(Resumed, st.integers(0, 50), st.lists(st.text(max_size=5)).map(tuple)),
    st.builds(Gradients, st.integers(0, 50), st.just({"a": 1.0}), st.just({}), st.just({}), st.booleans()),
)


@given(chunks=st.lists(st.lists(records, max_size=4), max_size=5), torn=st.text(max_size=20), step=st.integers(0, 50))
def test_a_journal_tells_again_what_was_before_a_step(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[list[Event]], torn: str, step: int
) -> None:
    """What was committed, in order, bit for bit; a torn last line and what was not committed are gone."""
    path = tmp_path_factory.mktemp("journal") / "records.jsonl"
    line = Line()
    journal = Journal(line, path)
    for chunk in chunks:
        journal.send(chunk)
        journal.commit()
    sent = [record for chunk in chunks for record in chunk]
    assert line.records == sent
    assert read(path) == sent
    journal.send([ProbeLoss(0, 1.0)])
    with path.open("a", encoding="utf-8") as file:
        file.write('{"record": "Step", "torn": "' + torn.replace("\n", ""))
    again = Line()
    other = Journal(again, path)
    other.rewind(step)
    wanted = [
        record
        for record in sent
        if (isinstance(record, Step | ProbeLoss | Metrics | BatchEquivalence) and record.step < step)
        or (isinstance(record, Gradients) and record.step < step and not record.postmortem)
        or (isinstance(record, Resumed) and record.step <= step)
    ]
    assert again.records == wanted
    assert read(path) == wanted


@given(st.lists(st.floats(allow_nan=False, width=32), max_size=6), st.integers(0, 5))
def test_a_digest_is_of_values_names_shapes_and_types(values: list[float], at: int) -> None:
    """Equal for equal nests, another one for any change."""
    tensor = torch.tensor(values)
    base = digest({"x": tensor, "y": [1, "a"]})
    assert base == digest({"x": tensor.clone(), "y": [1, "a"]})
    others = [{"z": tensor, "y": [1, "a"]}, {"x": tensor, "y": [2, "a"]}, {"x": tensor.double(), "y": [1, "a"]}]
    others.append({"x": tensor.view(1, -1), "y": [1, "a"]})
    if at < len(values):
        changed = tensor.clone()
        changed[at] = changed[at] + 1 if abs(values[at]) < 1e6 else 0.0
        others.append({"x": changed, "y": [1, "a"]})
    assert base not in map(digest, others)
    assert digest(tensor.bfloat16()) == digest(tensor.bfloat16())
