"""One of the processes that train a smoke run together fails. The run ends for all of them, and the rank is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.session import FaultSession
from tests.faults.table import Fault, assert_outcome, rows
from tests.train import launched_task

SUBJECT = "Several processes of one run"

RECIPE = """\
task: launched_task:{task}
args: {args}
full:
  {{batch_size: 8, grad_accum_steps: 2, world_size: 2, learning_rate: 1.0e-2, max_steps: 1000, precision: {precision}}}
smoke: {{max_steps: 40}}
launch: {{nproc_per_node: 2}}
"""
SLOW = "time.sleep(600)"
INFINITE = "self.losses = lambda model, batch, out=self.losses: {k: v * 1e400 for k, v in out(model, batch).items()}"
DDP, FSDP2 = "ddp", "fsdp"
CHECKPOINTED = "reentrant-checkpoint"
UNSHARDED = "nothing-is-sharded"
UNWRITABLE = "row-of-a-sharded-model-cannot-be-written"
PARTLY_SHARDED = "partly-sharded-in-fp16"
TASKS = {
    UNSHARDED: (DDP, ""),
    "rank-raises": (DDP, "raise ValueError('no such label')"),
    "rank-killed": (DDP, "os.kill(os.getpid(), 9)"),
    "rank-exits": (DDP, "os._exit(0)"),
    "rank-with-another-rate": (DDP, "self.made.param_groups[0]['lr'] *= 1.5"),
    "sharded-rank-with-an-infinite-loss": (FSDP2, INFINITE),
    "sharded-parameter-used-outside": (FSDP2, "model[0].weight @ batch['x'].T"),
    "sharded-ranks-with-different-passes": (FSDP2, "model(batch['x'])"),
}
"""What `parallelize` does, and what rank 1 executes in its 20th batch."""
HEALTHY = "zz-healthy"

FAULTS = (
    Fault(
        name=UNSHARDED,
        happens="`parallelize` of the task shards no parameter",
        verdict="promote",
        sentence="parallelize(model, mesh) sharded none of the model's 4 parameters, so the smoke run trained with "
        "DistributedDataParallel. It says nothing about memory and communication with FSDP2",
    ),
    Fault(
        name=CHECKPOINTED,
        happens="The task calls `torch.utils.checkpoint.checkpoint(use_reentrant=True)`",
        verdict="error (exception)",
        sentence="rank ... of 2: DistributedDataParallel got the gradient of 2... twice in one backward pass, as with "
        "a reentrant checkpoint. It does not allow that where it looks for unused parameters, as in a smoke run "
        "(before the first step)",
    ),
    Fault(
        name="rank-raises",
        happens="One rank raises an exception while the other one waits for it",
        verdict="error (exception)",
        sentence="rank 1 of 2: ValueError: no such label at launched_task.py:... (after step ...)",
    ),
    Fault(
        name="rank-killed",
        happens="One rank is killed",
        verdict="error (crash)",
        sentence="rank 1 of 2 was killed by SIGKILL, as the kernel does when memory runs out (after step ...)",
    ),
    Fault(
        name="rank-exits",
        happens="One rank calls `os._exit(0)`",
        verdict="error (crash)",
        sentence="rank 1 of 2 ended with exit status 0 before the run was over (after step ...)",
    ),
    Fault(
        name="rank-hangs",
        happens="One rank sleeps for ten minutes",
        verdict="error (hang)",
        sentence="the training process made no progress for ... s and was killed: rank 0 waited for rank 1 of 2, which "
        "hangs at launched_task.py:... (after step ...)",
    ),
    Fault(
        name="rank-with-another-rate",
        happens="A scheduler of the task's own changes the learning rate of one rank",
        verdict="invalid (other-learning-rate)",
        sentence="the optimizer of rank 1 used the learning rate 0.015 at step ..., the recipe schedules 0.01",
    ),
    Fault(
        name="sharded-rank-with-an-infinite-loss",
        happens="The loss of one rank is infinite, of a model that FSDP2 has sharded",
        verdict="unstable (non-finite)",
        sentence="mse is inf at step ...",
    ),
    Fault(
        name="sharded-parameter-used-outside",
        happens="A parameter that FSDP2 has sharded is used outside of its module",
        verdict="error (exception)",
        sentence="rank 1 of 2: RuntimeError: ...got mixed torch.Tensor and DTensor...",
    ),
    Fault(
        name=UNWRITABLE,
        happens="Rank 0 cannot write a row that `predictions` returns, and the other ranks go on",
        verdict="promote",
        sentence="predictions(model) returned {'raw': '0', 'gold': '0', 'pred': {...}} as row 0: it must be a mapping "
        "with 'raw', 'gold' and 'pred' that consists of strings, finite numbers, lists and mappings",
    ),
    Fault(
        name=PARTLY_SHARDED,
        happens="FSDP2 shards some parameters and not others, and the recipe trains in fp16",
        verdict="error (exception)",
        sentence="rank ... of 2: RuntimeError: aten._amp_foreach_non_finite_check_and_unscale_.default: got mixed...",
    ),
    Fault(
        name="sharded-ranks-with-different-passes",
        happens="One rank makes one more forward pass through a model that FSDP2 has sharded; gloo connects the ranks",
        verdict="error (crash)",
        sentence="the 2 ranks exchanged different data (rank ... of 2 was killed by SIGABRT): do all of them make the "
        "same forward and backward passes, through the same modules? (after step ...)",
    ),
)


def recipe(how: str, fault: str, precision: str = "fp32") -> str:
    args = {"fault": fault, "how": "nothing" if how == DDP else how}
    return RECIPE.format(task="Sharded", args=args, precision=precision)


@pytest.fixture(scope="module")
def outcomes(fault_session: Callable[[str], FaultSession]) -> dict[str, dict[str, Any]]:
    """Return the outcomes of a session with all faults, and of one with a rank that hangs."""
    with fault_session("ranks") as session:
        shutil.copy(launched_task.__file__, session.path)
        for name, (how, fault) in TASKS.items():
            session.recipe(name, recipe(how, fault), base="")
        session.recipe(CHECKPOINTED, RECIPE.format(task="Checkpointed", args={}, precision="fp32"), base="")
        session.recipe(UNWRITABLE, RECIPE.format(task="Predicting", args={}, precision="fp32"), base="")
        session.recipe(PARTLY_SHARDED, recipe("part", "", "fp16"), base="")
        session.recipe(HEALTHY)
        (session.path / "hang").mkdir()
        (session.path / "hang" / "rank-hangs.smoke.yaml").write_text(recipe(DDP, SLOW))
        session.pytest("--smoke", "--smoke-report", "out", "--ignore", "hang")
        session.pytest("--smoke", "--smoke-report", "out2", "--smoke-timeout", "2", "hang")
        hanging = session.outcomes("out2")
        return session.outcomes() | {name.removeprefix("hang/"): outcome for name, outcome in hanging.items()}


@rows(FAULTS)
def test_what_happens_to_one_of_two_ranks(fault: Fault, outcomes: dict[str, dict[str, Any]]) -> None:
    assert_outcome(fault, outcomes[fault.name])


def test_output_of_a_run_with_a_rank_that_hangs_has_the_stacks_of_all(outcomes: dict[str, dict[str, Any]]) -> None:
    assert "rank 1:\nFatal Python error: Aborted" in outcomes["rank-hangs"]["output"]


def test_hint_for_different_passes_is_to_make_the_same_ones(outcomes: dict[str, dict[str, Any]]) -> None:
    findings = outcomes["sharded-ranks-with-different-passes"]["findings"]
    (hint,) = [finding["hint"] for finding in findings if finding["id"] == "run"]
    assert hint.startswith("make every rank call the same modules")


def test_hint_for_partly_sharded_gradients_in_fp16_is_to_shard_the_rest(outcomes: dict[str, dict[str, Any]]) -> None:
    (hint,) = [finding["hint"] for finding in outcomes[PARTLY_SHARDED]["findings"] if finding["id"] == "run"]
    assert hint.startswith("torch.amp.GradScaler, which fp16 needs")


def test_operation_that_made_the_loss_of_one_rank_infinite_is_found(outcomes: dict[str, dict[str, Any]]) -> None:
    """Only one rank finds it, and not in a micro-batch whose mean over nothing is NaN."""
    findings = outcomes["sharded-rank-with-an-infinite-loss"]["findings"]
    (hint,) = [finding["hint"] for finding in findings if finding["id"] == "finite"]
    assert "the first value that is not finite is that of mul" in hint
    assert "of rank 1 alone" in hint


def test_other_run_of_the_session_is_promoted(outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes[HEALTHY]["verdict"] == "promote"
