"""What the training loop reports, when, and which commands it follows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch

from pytest_smoke import schedules
from pytest_smoke.errors import TaskError
from pytest_smoke.events import (
    Ended,
    Gradients,
    InitialMetrics,
    Metrics,
    ProbeLoss,
    SourceCounts,
    Started,
    Step,
    Updates,
)
from pytest_smoke.train.loop import Loop
from pytest_smoke.train.plan import RunPlan
from tests.train.conftest import RecordingChannel

Planner = Callable[..., RunPlan]


def run(plan: RunPlan, task: Any, channel: RecordingChannel | None = None) -> RecordingChannel:
    channel = channel or RecordingChannel()
    Loop(plan, task, torch.device("cpu"), channel).run()
    return channel


def test_a_run_reports_steps_probe_losses_metrics_and_updates_between_started_and_ended(
    plan: Planner, pair: Any
) -> None:
    pair.evaluate = lambda model: {"val": torch.tensor(0.5)}
    channel = run(plan(run_steps=80, max_steps=80, warmup_steps=10, learning_rate=0.01, evaluate_every_steps=30), pair)
    assert isinstance(channel.events[0], Started)
    assert isinstance(channel.events[-1], Ended)
    warmup = schedules.constant(10)
    assert [(s.step, s.lr) for s in channel.of(Step)] == [(n, 0.01 * warmup(n)) for n in range(80)]
    assert [p.step for p in channel.of(ProbeLoss)] == [*range(0, 80, 2), 79]
    assert [(m.step, m.values) for m in channel.of(Metrics)] == [(n, {"val": 0.5}) for n in (30, 60, 80)]
    assert channel.of(Updates)[0].unchanged == ()
    assert channel.of(Updates)[0].checked == 4


def test_the_loss_is_the_weighted_sum_of_the_terms(plan: Planner, pair: Any) -> None:
    """A weight in the recipe overrides the task's."""
    for step in run(plan(loss_weights={"second": 3.0}), pair).of(Step):
        assert step.loss == pytest.approx(step.terms["first"] + 3.0 * step.terms["second"], rel=1e-5)


class OnDevice(dict[str, Any]):
    """A batch that knows whether it was moved to the device of the run."""

    moved = False

    def to(self, device: torch.device) -> OnDevice:
        copy = OnDevice({name: tensor.to(device) for name, tensor in self.items()})
        copy.moved = True
        return copy


def test_counts_always_gets_the_batch_as_the_task_yielded_it(plan: Planner, pair: Any) -> None:
    """In a probe as in a step: it may index a tensor of its own, which is on the CPU."""
    batches, losses, seen = pair.batches, pair.losses, []

    def counts(batch: OnDevice) -> float:
        seen.append(batch.moved)
        return 1.0

    def on_device(model: Any, batch: OnDevice) -> Any:
        assert batch.moved
        return losses(model, batch["x"])

    pair.batches = lambda *args, **kwargs: (OnDevice(x=x) for x in batches(*args, **kwargs))
    pair.losses, pair.counts = on_device, counts
    channel = run(plan(micro_batches=2), pair)
    assert len(channel.of(ProbeLoss)) == 20
    assert len(seen) > 60
    assert not any(seen)


def test_probes_and_evaluations_do_not_change_training(plan: Planner, pair: Any) -> None:
    """Even if the task draws random numbers in its evaluation."""
    plain = [s.loss for s in run(plan(), pair).of(Step)]
    pair.evaluate = lambda model: {"noise": torch.rand(())}
    evaluated = [s.loss for s in run(plan(evaluate_every_steps=3), pair).of(Step)]
    assert evaluated == plain


def test_evaluate_is_called_before_the_first_step_and_its_values_are_kept_apart(plan: Planner, pair: Any) -> None:
    """So that an exception in it, or a name that a criterion misspells, shows before any step."""
    pair.evaluate = lambda model: {"mode": float(model.training)}
    events = run(plan(), pair).events
    assert [e.values for e in events if isinstance(e, InitialMetrics)] == [{"mode": 0.0}]
    (initial,) = (e for e in events if isinstance(e, InitialMetrics))
    assert (initial.terms, initial.evaluates) == (("first", "second"), True)
    before = events[: events.index(initial)]
    assert not [e for e in before if isinstance(e, Step)]
    assert [m.step for m in events if isinstance(m, Metrics)] == [20]


def test_an_exception_in_evaluate_ends_the_run_before_the_first_step(plan: Planner, pair: Any) -> None:
    pair.evaluate = lambda model: {"val": 1 / 0}
    channel = RecordingChannel()
    with pytest.raises(ZeroDivisionError):
        run(plan(), pair, channel)
    assert channel.of(Step) == []


def test_ranks_are_folded_onto_one_device(plan: Planner, pair: Any) -> None:
    """A world size of 3 trains on the batches that three ranks would draw."""
    drawn: list[tuple[int, int]] = []
    real = pair.batches

    def batches(batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Any:
        for batch in real(batch_size, seed=seed, rank=rank, world_size=world_size):
            drawn.extend([(rank, world_size)] if world_size > 1 else [])  # other batches are not for training
            yield batch

    pair.batches = batches
    pair.probe_batch = lambda: next(real(4, seed=9))
    channel = run(plan(world_size=3, micro_batches=2, run_steps=2, max_steps=2), pair)
    assert drawn == [(0, 3), (1, 3), (2, 3)] * 4
    first = [b for it in (real(8, seed=0, rank=r, world_size=3) for r in range(3)) for b in islice(it, 2)]
    model = pair.model()
    means = torch.stack([pair.losses(model, batch)["first"].detach() for batch in first]).mean()
    assert channel.of(Step)[0].terms["first"] == pytest.approx(float(means), rel=1e-5)


def test_an_aborted_run_probes_its_last_good_weights(plan: Planner, pair: Any) -> None:
    """The newest ones before the step in the command; the result does not depend on how many steps were made."""
    probes = []
    for abort_after in (112, 127):
        channel = run(
            plan(run_steps=400, max_steps=400), pair, RecordingChannel(abort_after=abort_after, last_good_step=105)
        )
        assert channel.of(Ended)[0].steps < 400
        assert not channel.of(Updates)
        (postmortem,) = [g for g in channel.of(Gradients) if g.postmortem]
        probes.append(postmortem)
    assert probes[0].step == 100
    assert probes[0].raw.keys() == {"first", "second"}
    assert probes[0] == probes[1]


def test_gradient_probes_take_about_2_percent_of_a_run_and_are_at_least_5(plan: Planner, pair: Any) -> None:
    assert len(run(plan(run_steps=100, max_steps=100), pair).of(Gradients)) == 5
    assert len(run(plan(run_steps=600, max_steps=600), pair).of(Gradients)) == 20


def test_an_abort_without_a_last_good_step_makes_no_gradient_probe(plan: Planner, pair: Any) -> None:
    """A wrong data mix, for example, says nothing about gradients."""
    channel = run(plan(run_steps=400, max_steps=400), pair, RecordingChannel(abort_after=64, last_good_step=None))
    assert channel.of(Ended)[0].steps < 400
    assert not [g for g in channel.of(Gradients) if g.postmortem]


def test_source_counts_are_reported_after_their_steps_and_counted_no_further(plan: Planner, pair: Any) -> None:
    calls = 0

    def sources(batch: Any) -> list[str]:
        nonlocal calls
        calls += 1
        return ["nad"] * 3 + ["osm"] * 5

    pair.sources = sources
    channel = run(plan(run_steps=100, max_steps=100, micro_batches=2, mix_tolerance=0.1), pair)
    # z(1e-4 / 4)^2 x 1/4 / 0.1^2 = 411.2 samples, in steps of 16
    assert channel.of(SourceCounts) == [
        SourceCounts(step=25, samples=416, counts={"nad": 156, "osm": 260}, design_effect=1.0)
    ]
    before = channel.events[: channel.events.index(channel.of(SourceCounts)[0])]
    assert [event.step for event in before if isinstance(event, Step)] == list(range(26))
    assert calls == 52


@pytest.mark.parametrize("value", [{"f1": "high"}, None, [0.4]])
def test_metrics_that_are_no_numbers_are_an_error(plan: Planner, pair: Any, value: Any) -> None:
    pair.evaluate = lambda model: value
    with pytest.raises(TaskError, match=r"evaluate\(model\) returned .*: it must map metric names to numbers"):
        run(plan(run_steps=2, max_steps=2), pair)


@pytest.mark.parametrize("name", ["loss", "grad_norm", "first"])
def test_a_metric_with_the_name_of_another_series_is_an_error(plan: Planner, pair: Any, name: str) -> None:
    """A criterion would silently judge the wrong series."""
    pair.evaluate = lambda model: {name: 9.0}
    with pytest.raises(TaskError, match=f"returned {name}: the smoke run records its own series under these names"):
        run(plan(run_steps=2, max_steps=2), pair)


def test_batches_that_end_are_an_error_and_the_steps_before_it_are_reported(plan: Planner, pair: Any) -> None:
    real = pair.batches
    pair.probe_batch = lambda: next(real(4, seed=9))
    pair.batches = lambda *args, **kwargs: islice(real(*args, **kwargs), 7)
    channel = RecordingChannel()
    with pytest.raises(TaskError, match=r"batches\(\) ended: it must return an infinite iterator"):
        run(plan(), pair, channel)
    assert [s.step for s in channel.of(Step)] == list(range(7))
