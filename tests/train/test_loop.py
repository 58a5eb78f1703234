"""The loop around the steps: what it reports, when, and what it obeys."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch

from pytest_smoke import schedules
from pytest_smoke.errors import TaskError
from pytest_smoke.events import Abort, Ended, Event, Gradients, Metrics, ProbeLoss, SourceCounts, Started, Step, Updates
from pytest_smoke.train.loop import Loop
from pytest_smoke.train.plan import RunPlan

Planner = Callable[..., RunPlan]


class Line:
    """A channel that remembers, and says Stop once a chosen step has come in."""

    def __init__(self, stop_after: int | None = None, last_good_step: int | None = 0) -> None:
        self.records: list[Event] = []
        self.stop_after, self.last_good_step = stop_after, last_good_step

    def send(self, records: list[Event]) -> None:
        self.records += records

    def poll(self, *, wait: bool = False) -> Abort | None:
        if self.stop_after is not None and any(s.step >= self.stop_after for s in self.of(Step)):
            return Abort(self.last_good_step)
        return None

    def of(self, kind: type[Any]) -> list[Any]:
        return [record for record in self.records if isinstance(record, kind)]


def run(plan: RunPlan, task: Any, line: Line | None = None) -> Line:
    line = line or Line()
    Loop(plan, task, torch.device("cpu"), line).run()
    return line


def test_a_whole_run_reports_each_thing_in_its_time(plan: Planner, pair: Any) -> None:
    """Started, 80 steps at their rates, 41 probes, metrics at their cadence and the end, updates, Ended."""
    pair.evaluate = lambda model: {"val": torch.tensor(0.5)}
    line = run(plan(run_steps=80, max_steps=80, warmup_steps=10, learning_rate=0.01, evaluate_every_steps=30), pair)
    assert isinstance(line.records[0], Started)
    assert isinstance(line.records[-1], Ended)
    warm = schedules.constant(10)
    assert [(s.step, s.lr) for s in line.of(Step)] == [(n, 0.01 * warm(n)) for n in range(80)]
    assert [p.step for p in line.of(ProbeLoss)] == [*range(0, 80, 2), 79]
    assert [(m.step, m.values) for m in line.of(Metrics)] == [(n, {"val": 0.5}) for n in (30, 60, 80)]
    assert line.of(Updates)[0].stuck == ()
    assert line.of(Updates)[0].checked == 4


def test_the_loss_is_the_weighted_sum_of_the_terms(plan: Planner, pair: Any) -> None:
    """The recipe's weight overrides the task's."""
    for step in run(plan(loss_weights={"second": 3.0}), pair).of(Step):
        assert step.loss == pytest.approx(step.terms["first"] + 3.0 * step.terms["second"], rel=1e-5)


def test_probes_and_evaluations_leave_no_trace_on_training(plan: Planner, pair: Any) -> None:
    """A task that draws random numbers in its evaluation, and one that has none, train alike."""
    plain = [s.loss for s in run(plan(), pair).of(Step)]
    pair.evaluate = lambda model: {"noise": torch.rand(())}
    looked = [s.loss for s in run(plan(evaluate_every_steps=3), pair).of(Step)]
    assert looked == plain


def test_ranks_are_folded_onto_one_device(plan: Planner, pair: Any) -> None:
    """World size 3 trains on what three ranks would draw: the same as their batches accumulated by hand."""
    drawn: list[tuple[int, int]] = []
    real = pair.batches

    def batches(batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Any:
        for batch in real(batch_size, seed=seed, rank=rank, world_size=world_size):
            drawn.append((rank, world_size))
            yield batch

    pair.batches = batches
    pair.probe_batch = lambda: next(real(4, seed=9))
    line = run(plan(world_size=3, micro_batches=2, run_steps=2, max_steps=2), pair)
    assert drawn == [(0, 3), (1, 3), (2, 3)] * 4
    first = [b for it in (real(8, seed=0, rank=r, world_size=3) for r in range(3)) for b in islice(it, 2)]
    model = pair.model()
    means = torch.stack([pair.losses(model, batch)["first"].detach() for batch in first]).mean()
    assert line.of(Step)[0].terms["first"] == pytest.approx(float(means), rel=1e-5)


def test_a_run_that_is_called_off_looks_at_its_last_good_checkpoint(plan: Planner, pair: Any) -> None:
    """The probe is of the newest checkpoint before the step that is named, and the same however far the run got."""
    found = []
    for stop_after in (112, 127):
        line = run(plan(run_steps=400, max_steps=400), pair, Line(stop_after, last_good_step=105))
        assert line.of(Ended)[0].steps < 400
        assert not line.of(Updates)
        (postmortem,) = [g for g in line.of(Gradients) if g.postmortem]
        found.append(postmortem)
    assert found[0].step == 100
    assert found[0].raw.keys() == {"first", "second"}
    assert found[0] == found[1]


def test_gradient_probes_are_spread_over_the_run(plan: Planner, pair: Any) -> None:
    """About 2 % of a long run, five times at least."""
    assert len(run(plan(run_steps=100, max_steps=100), pair).of(Gradients)) == 5
    assert len(run(plan(run_steps=600, max_steps=600), pair).of(Gradients)) == 20


def test_a_run_with_a_wrong_mix_stops_without_a_look_at_its_gradients(plan: Planner, pair: Any) -> None:
    """Nothing is wrong with them."""
    line = run(plan(run_steps=400, max_steps=400), pair, Line(64, last_good_step=None))
    assert line.of(Ended)[0].steps < 400
    assert not [g for g in line.of(Gradients) if g.postmortem]


def test_what_was_drawn_is_told_behind_the_steps_it_speaks_of(plan: Planner, pair: Any) -> None:
    """And the task is not asked any more."""
    asked = 0

    def sources(batch: Any) -> list[str]:
        nonlocal asked
        asked += 1
        return ["nad"] * 3 + ["osm"] * 5

    pair.sources = sources
    line = run(plan(run_steps=100, max_steps=100, micro_batches=2, mix_tolerance=0.1), pair)
    # z(1e-4 / 4)^2 x 1/4 / 0.1^2 = 411.2 samples, in steps of 16
    assert line.of(SourceCounts) == [
        SourceCounts(step=25, samples=416, counts={"nad": 156, "osm": 260}, design_effect=1.0)
    ]
    before = line.records[: line.records.index(line.of(SourceCounts)[0])]
    assert [record.step for record in before if isinstance(record, Step)] == list(range(26))
    assert asked == 52


@pytest.mark.parametrize("value", [{"f1": "high"}, None, [0.4]])
def test_metrics_that_are_no_numbers_are_shown(plan: Planner, pair: Any, value: Any) -> None:
    """With what must be returned."""
    pair.evaluate = lambda model: value
    with pytest.raises(TaskError, match=r"evaluate\(model\) returned .*: it must map names to numbers"):
        run(plan(run_steps=2, max_steps=2), pair)


@pytest.mark.parametrize("name", ["loss", "grad_norm", "first"])
def test_a_metric_may_not_go_by_the_name_of_another_series(plan: Planner, pair: Any, name: str) -> None:
    """A criterion would silently judge the wrong one."""
    pair.evaluate = lambda model: {name: 9.0}
    with pytest.raises(TaskError, match=f"returned {name}: criteria know another series by that name"):
        run(plan(run_steps=2, max_steps=2), pair)


def test_batches_that_end_are_a_fault_of_the_task(plan: Planner, pair: Any) -> None:
    """And the steps before it are reported."""
    real = pair.batches
    pair.probe_batch = lambda: next(real(4, seed=9))
    pair.batches = lambda *args, **kwargs: islice(real(*args, **kwargs), 7)
    line = Line()
    with pytest.raises(TaskError, match=r"batches\(\) ended: it must return an iterator without end"):
        run(plan(), pair, line)
    assert [s.step for s in line.of(Step)] == list(range(7))
