"""Stages in the loop: what trains, what is made anew, what is asked at their ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_smoke.errors import TaskError
from pytest_smoke.events import (
    Abort,
    BatchEquivalence,
    Command,
    Continue,
    EndAfterStage,
    Ended,
    Event,
    Gradients,
    Metrics,
    ProbeLoss,
    StageEnded,
    Step,
    Updates,
)
from pytest_smoke.train.loop import Loop
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.plan import RunPlan

Planner = Callable[..., RunPlan]


class Encoded:
    """An encoder under a head; stage B adds an adapter and a second loss term."""

    def __init__(self) -> None:
        self.entered: list[tuple[str, str | None]] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self.weights: list[dict[str, Tensor]] = []
        """Every parameter as it is when a stage or phase is entered."""

    def model(self) -> nn.Module:
        return nn.ModuleDict({"encoder": nn.Linear(3, 4), "head": nn.Linear(4, 2)})

    def on_stage_start(self, model: nn.Module, stage: str, phase: str | None) -> None:
        self.entered.append((stage, phase))
        self.weights.append({name: p.detach().clone() for name, p in model.named_parameters()})
        if stage == "B":
            model["adapter"] = nn.Linear(4, 2)

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        # All parameters, frozen ones too, and weight decay: a step without a gradient must not touch them.
        self.optimizers.append(torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.5))
        return self.optimizers[-1]

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(seed + rank)
        while True:
            yield torch.randn(batch_size, 3, generator=generator)

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        hidden = model["encoder"](batch).tanh()
        out = model["head"](hidden) + (model["adapter"](hidden) if "adapter" in model else 0)
        terms = {"fit": (out - 1).square().mean()}
        return terms | ({"size": out.square().mean()} if self.entered[-1][0] == "B" else {})

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        return {"val": float(len(self.entered))}


class Line:
    """A channel that gives the words of a list at the ends of stages."""

    def __init__(self, *words: Command) -> None:
        self.records: list[Event] = []
        self.words = list(words)

    def send(self, records: list[Event]) -> None:
        self.records += records

    def poll(self, *, wait: bool = False) -> Command | None:
        return self.words.pop(0) if wait and self.words else None

    def of(self, kind: type[Any]) -> list[Any]:
        return [record for record in self.records if isinstance(record, kind)]


def stages(**b: Any) -> dict[str, Any]:
    """Thirty steps of A, text before latents, and twenty of B, as changes of a plan."""
    a_stage: dict[str, Any] = {
        "name": "A",
        "first_step": 0,
        "steps": 30,
        "max_steps": 30,
        "learning_rate": 0.1,
        "warmup_steps": 5,
        "loss_weights": {},
        "train": ("encoder.*",),
        "phases": (("text", 0), ("latent", 12)),
    }
    b_stage = a_stage | {"name": "B", "first_step": 30, "steps": 20, "max_steps": 20, "learning_rate": 0.02}
    b_stage |= {"train": ("adapter.*",), "phases": ()} | b
    return {"stages": (Stage(**a_stage), Stage(**b_stage))}


def run(plan: RunPlan, task: Any, *words: Command) -> Line:
    torch.manual_seed(plan.seed)
    line = Line(*words)
    Loop(plan, task, torch.device("cpu"), line).run()
    return line


def test_each_stage_has_its_own_schedule_and_its_own_names(plan: Planner) -> None:
    """Warm-up from 0 to its own peak; every step says where it lies; the task hears of each beginning, once."""
    task = Encoded()
    line = run(plan(evaluate_every_steps=10, **stages()), task, Continue())
    steps = line.of(Step)
    rates = [0.1 * min(1, n / 5) for n in range(30)] + [0.02 * min(1, n / 5) for n in range(20)]
    assert [s.lr for s in steps] == pytest.approx(rates)
    assert [(s.stage, s.phase) for s in steps] == [("A", "text")] * 12 + [("A", "latent")] * 18 + [("B", None)] * 20
    assert task.entered == [("A", "text"), ("A", "latent"), ("B", None)]
    assert [m.step for m in line.of(Metrics)] == [10, 20, 29, 40, 49]
    assert [e.stage for e in line.of(StageEnded)] == ["A", "B"]
    assert [p.step for p in line.of(ProbeLoss)] == list(range(50))
    assert line.of(Ended)[0].steps == 50
    assert sum(e.train_seconds for e in line.of(StageEnded)) == pytest.approx(line.of(Ended)[0].train_seconds)


def test_two_geometries_are_compared_where_a_stage_or_a_phase_begins(plan: Planner) -> None:
    """Before its first step, once; and the steps are bit for bit those of a run in which nothing was compared."""
    changes = {"precision": "bf16", **stages()}
    plain = run(plan(**changes), Encoded(), Continue())
    looked = run(plan(full_batch_size=16, **changes), Encoded(), Continue())
    found = looked.of(BatchEquivalence)
    assert [(one.step, one.stage, one.phase, one.problem) for one in found] == [
        (0, "A", "text", ""),
        (12, "A", "latent", ""),
        (30, "B", None, ""),
    ]
    assert max(one.difference for one in found) < 1e-5
    assert [sorted(one.smoke_terms) for one in found] == [["fit"], ["fit"], ["fit", "size"]]
    assert looked.of(Step) == plain.of(Step)
    assert looked.of(Updates) == plain.of(Updates)
    assert not plain.of(BatchEquivalence)


def test_what_a_stage_freezes_is_bit_for_bit_what_it_was(plan: Planner) -> None:
    """Under an optimizer that holds it and decays weights; what it trains has changed."""
    task = Encoded()
    line = run(plan(**stages()), task, Continue())
    first, _, after_a = task.weights
    assert all(torch.equal(first[name], after_a[name]) for name in ("head.weight", "head.bias"))
    assert not any(torch.equal(first[name], after_a[name]) for name in ("encoder.weight", "encoder.bias"))
    a, b = line.of(Updates)
    assert (a.stuck, a.moved, a.checked) == ((), (), 2)
    assert (b.stuck, b.moved, b.checked) == ((), (), 2)


def test_a_stage_without_globs_trains_what_the_model_says(plan: Planner) -> None:
    """What an earlier stage froze is not forgotten, and not mistaken for the model's own word."""

    class HalfFrozen(Encoded):
        def model(self) -> nn.Module:
            model = super().model()
            model["head"].bias.requires_grad_(False)
            return model

    line = run(plan(**stages(train=None)), HalfFrozen(), Continue())
    assert line.of(Updates)[1].checked == 5  # encoder 2, head.weight, adapter 2


def test_optimizer_state_is_made_anew(plan: Planner) -> None:
    """Moments of one stage do not push in the next."""
    task = Encoded()
    run(plan(**stages()), task, Continue())
    a, b = task.optimizers
    assert {int(state["step"]) for state in a.state.values()} == {30}
    assert {int(state["step"]) for state in b.state.values()} == {20}
    assert len(b.state) == 2


def test_gradient_probes_know_the_terms_of_their_stage(plan: Planner) -> None:
    """One term is never probed; the two of B are, and a step's loss is its own weighted sum."""
    line = run(plan(**stages(loss_weights={"size": 0.25})), Encoded(), Continue())
    probes = line.of(Gradients)
    assert [p.step for p in probes] == list(range(30, 50, 4))
    assert {frozenset(p.raw) for p in probes} == {frozenset({"fit", "size"})}
    for step in line.of(Step):
        assert step.loss == pytest.approx(step.terms["fit"] + 0.25 * step.terms.get("size", 0.0), rel=1e-5)


@pytest.mark.parametrize("command", [EndAfterStage(), Abort(last_good_step=20)])
def test_the_next_stage_waits_for_leave(plan: Planner, command: Command) -> None:
    """Halt and Stop end the run where it stands; B is not entered."""
    task = Encoded()
    line = run(plan(**stages()), task, command)
    assert len(line.of(Step)) == line.of(Ended)[0].steps == 30
    assert task.entered == [("A", "text"), ("A", "latent")]


@pytest.mark.parametrize(
    ("glob", "said"),
    [
        ("encodr.*", "train: 'encodr.*' matches no parameter; near it are encoder"),
        ("zzz", "train: 'zzz' matches no parameter; the parameters are encoder.weight, encoder.bias, head.weight"),
    ],
)
def test_a_glob_that_matches_nothing_names_what_is_near(plan: Planner, glob: str, said: str) -> None:
    """A stage that trains nothing of what was meant must not run."""
    with pytest.raises(TaskError) as raised:
        run(plan(**stages(train=("adapter.*", glob))), Encoded(), Continue())
    assert said in str(raised.value)


def test_a_phase_adds_no_parameters(plan: Planner) -> None:
    """No optimizer would hold them."""

    class Late(Encoded):
        def on_stage_start(self, model: nn.Module, stage: str, phase: str | None) -> None:
            super().on_stage_start(model, stage, phase)
            if phase == "latent":
                model["late"] = nn.Linear(2, 2)

    with pytest.raises(TaskError, match=r"enter\(model, 'A', 'latent'\) added late.weight, late.bias"):
        run(plan(**stages()), Late(), Continue())


@pytest.mark.parametrize("where", ["stage", "full"])
def test_a_weight_of_a_term_that_never_comes_is_refused(plan: Planner, where: str) -> None:
    """Where it can be known: in the stage that names it, or in the last one for the full run's."""
    changes = stages(loss_weights={"sise": 1.0})
    if where == "full":
        changes = stages(loss_weights={"sise": 1.0}) | {"loss_weights": {"sise": 1.0}}
    with pytest.raises(TaskError, match="loss_weights names sise, but the loss terms are fit, size"):
        run(plan(**changes), Encoded(), Continue())
