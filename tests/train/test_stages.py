"""Stages in the training loop: what trains, what is new in each, and the command at their end."""

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
    Gradients,
    Metrics,
    ProbeLoss,
    StageEnded,
    Step,
    Updates,
)
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.loop import Loop
from pytest_smoke.train.plan import RunPlan
from tests.train.conftest import RecordingChannel

Planner = Callable[..., RunPlan]


class Encoded:
    """An encoder and a head; stage B adds an adapter and a second loss term."""

    def __init__(self) -> None:
        self.started: list[tuple[str, str | None]] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self.weights: list[dict[str, Tensor]] = []
        """Every parameter at the start of each stage and phase."""

    def model(self) -> nn.Module:
        return nn.ModuleDict({"encoder": nn.Linear(3, 4), "head": nn.Linear(4, 2)})

    def on_stage_start(self, model: nn.Module, stage: str, phase: str | None) -> None:
        self.started.append((stage, phase))
        self.weights.append({name: p.detach().clone() for name, p in model.named_parameters()})
        if stage == "B":
            model["adapter"] = nn.Linear(4, 2)

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        # Also holds frozen parameters, and decays weights: a step must not change a parameter without a gradient.
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
        return terms | ({"size": out.square().mean()} if self.started[-1][0] == "B" else {})

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        return {"val": float(len(self.started))}


def stages(**b: Any) -> dict[str, Any]:
    """Return changes of a plan: 30 steps of stage A in the phases `text` and `latent`, 20 of stage B."""
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


def run(plan: RunPlan, task: Any, *commands: Command) -> RecordingChannel:
    torch.manual_seed(plan.seed)
    channel = RecordingChannel(*commands)
    Loop(plan, task, torch.device("cpu"), channel).run()
    return channel


def test_each_stage_has_its_own_schedule_and_names_and_is_announced_to_the_task_once(plan: Planner) -> None:
    task = Encoded()
    channel = run(plan(evaluate_every_steps=10, **stages()), task, Continue())
    steps = channel.of(Step)
    rates = [0.1 * min(1, n / 5) for n in range(30)] + [0.02 * min(1, n / 5) for n in range(20)]
    assert [s.lr for s in steps] == pytest.approx(rates)
    assert [(s.stage, s.phase) for s in steps] == [("A", "text")] * 12 + [("A", "latent")] * 18 + [("B", "")] * 20
    assert task.started == [("A", "text"), ("A", "latent"), ("B", None)]
    assert [m.step for m in channel.of(Metrics)] == [10, 20, 29, 40, 49]
    assert [e.stage for e in channel.of(StageEnded)] == ["A", "B"]
    assert [p.step for p in channel.of(ProbeLoss)] == list(range(50))
    assert channel.of(Ended)[0].steps == 50
    assert sum(e.train_seconds for e in channel.of(StageEnded)) == pytest.approx(channel.of(Ended)[0].train_seconds)


def test_batch_sizes_are_compared_once_at_the_start_of_each_stage_and_phase(plan: Planner) -> None:
    """The steps are bit for bit those of a run without a comparison."""
    changes = {"precision": "bf16", **stages()}
    plain = run(plan(**changes), Encoded(), Continue())
    compared = run(plan(full_batch_size=16, **changes), Encoded(), Continue())
    events = compared.of(BatchEquivalence)
    assert [(one.step, one.stage, one.phase, one.problem) for one in events] == [
        (0, "A", "text", ""),
        (12, "A", "latent", ""),
        (30, "B", "", ""),
    ]
    assert max(one.difference for one in events) < 1e-5
    assert [sorted(one.smoke_terms) for one in events] == [["fit"], ["fit"], ["fit", "size"]]
    assert compared.of(Step) == plain.of(Step)
    assert compared.of(Updates) == plain.of(Updates)
    assert not plain.of(BatchEquivalence)


def test_frozen_parameters_are_bit_for_bit_unchanged_and_others_change(plan: Planner) -> None:
    """With an optimizer that holds frozen parameters, too, and decays weights."""
    task = Encoded()
    channel = run(plan(**stages()), task, Continue())
    first, _, after_a = task.weights
    assert all(torch.equal(first[name], after_a[name]) for name in ("head.weight", "head.bias"))
    assert not any(torch.equal(first[name], after_a[name]) for name in ("encoder.weight", "encoder.bias"))
    a, b = channel.of(Updates)
    assert (a.unchanged, a.changed_frozen, a.checked) == ((), (), 2)
    assert (b.unchanged, b.changed_frozen, b.checked) == ((), (), 2)


def test_a_stage_without_patterns_trains_what_the_model_itself_declares_trainable(plan: Planner) -> None:
    """Not what an earlier stage has left trainable."""

    class HalfFrozen(Encoded):
        def model(self) -> nn.Module:
            model = super().model()
            model["head"].bias.requires_grad_(False)
            return model

    channel = run(plan(**stages(train=None)), HalfFrozen(), Continue())
    assert channel.of(Updates)[1].checked == 5  # encoder 2, head.weight, adapter 2


def test_each_stage_has_a_new_optimizer_state(plan: Planner) -> None:
    task = Encoded()
    run(plan(**stages()), task, Continue())
    a, b = task.optimizers
    assert {int(state["step"]) for state in a.state.values()} == {30}
    assert {int(state["step"]) for state in b.state.values()} == {20}
    assert len(b.state) == 2


def test_gradient_probes_have_the_terms_of_their_stage(plan: Planner) -> None:
    """A stage with a single term is never probed."""
    channel = run(plan(**stages(loss_weights={"size": 0.25})), Encoded(), Continue())
    probes = channel.of(Gradients)
    assert [p.step for p in probes] == list(range(30, 50, 4))
    assert {frozenset(p.raw) for p in probes} == {frozenset({"fit", "size"})}
    for step in channel.of(Step):
        assert step.loss == pytest.approx(step.terms["fit"] + 0.25 * step.terms.get("size", 0.0), rel=1e-5)


@pytest.mark.parametrize("command", [EndAfterStage(), Abort(last_good_step=20)])
def test_a_command_other_than_continue_ends_the_run_at_the_end_of_a_stage(plan: Planner, command: Command) -> None:
    task = Encoded()
    channel = run(plan(**stages()), task, command)
    assert len(channel.of(Step)) == channel.of(Ended)[0].steps == 30
    assert task.started == [("A", "text"), ("A", "latent")]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("encodr.*", "train: 'encodr.*' matches no parameter; did you mean encoder.*?"),
        ("zzz", "train: 'zzz' matches no parameter; the parameters are encoder.weight, encoder.bias, head.weight"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error_with_a_suggestion(
    plan: Planner, pattern: str, message: str
) -> None:
    with pytest.raises(TaskError) as raised:
        run(plan(**stages(train=("adapter.*", pattern))), Encoded(), Continue())
    assert message in str(raised.value)


def test_a_later_phase_that_adds_parameters_is_an_error(plan: Planner) -> None:
    """No optimizer would hold them."""

    class Late(Encoded):
        def on_stage_start(self, model: nn.Module, stage: str, phase: str | None) -> None:
            super().on_stage_start(model, stage, phase)
            if phase == "latent":
                model["late"] = nn.Linear(2, 2)

    with pytest.raises(TaskError, match=r"on_stage_start\(model, 'A', 'latent'\) added late.weight and late.bias"):
        run(plan(**stages()), Late(), Continue())


@pytest.mark.parametrize("where", ["stage", "full"])
def test_a_weight_without_a_loss_term_is_an_error(plan: Planner, where: str) -> None:
    """In the stage that names it; in the last stage if it is one of the full run's weights."""
    changes = stages(loss_weights={"sise": 1.0})
    if where == "full":
        changes = stages(loss_weights={"sise": 1.0}) | {"loss_weights": {"sise": 1.0}}
    with pytest.raises(TaskError, match="loss_weights names sise, but the loss terms are fit and size"):
        run(plan(**changes), Encoded(), Continue())
