"""Smoke runs of LightningModules: real ones on digits, and ones that are wrong in one way each."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from pytest_smoke.errors import TaskError
from pytest_smoke.train.adapters import lightning
from tests.train.adapters.outcomes import finding_of, outcomes_of

pytestmark = pytest.mark.skipif(not find_spec("lightning"), reason="needs the extra lightning")

MODULES = "tests.train.adapters.lightning_modules"
EXPECTED = {
    "classifier": ("promote", "", ["no rise in 60 points"]),
    "datamodule": ("promote", "", ["no rise in 60 points"]),
    "one_cycle": ("promote", "", ["no rise in 60 points"]),
    "diverging": ("unstable", None, []),
    "shrinking": ("invalid", "fewer-samples", ["a step draws 32 samples instead of 64 (32 x 2 x 1)"]),
    "repeats": (
        "invalid",
        "differs-from-trainer",
        ["full.batch_size is 64 in the recipe and 32 in the trainer that the factory returns"],
    ),
    "decaying": ("invalid", "other-learning-rate", ["at step 1, the recipe schedules 0.00015"]),
    "own_scheduler": ("invalid", "other-learning-rate", ["at step 1, the recipe schedules 0.00015"]),
    "breaks": ("unstable", "non-finite", ["penalty_loss is NaN at step 20"]),
    "eval_mode": ("invalid", "eval-mode", ["the model trains in evaluation mode at step 0"]),
    "stops": ("error", "invalid-task", ["the trainer stopped by itself after 20 steps of 60"]),
    "skips": ("error", "invalid-task", ["training_step returned NoneType without a loss"]),
    "manual": ("error", "invalid-task", ["Manual optimizes manually (automatic_optimization = False)"]),
    "two_optimizers": ("error", "invalid-task", ["configure_optimizers returned 2 optimizers"]),
    "returns_trainer": ("error", "invalid-task", ["returned Trainer: it must return a LightningModule"]),
    "no_data": ("error", "invalid-task", ["there are no training data"]),
    "several_loaders": ("promote", "", []),
    "two_training_loaders": ("error", "invalid-task", ["the training data are a dict of data loaders"]),
    "unfreezes": ("error", "invalid-task", ["the callback BackboneFinetuning adds parameters to the optimizer"]),
    "endless": ("error", "invalid-task", ["state no length (-1): set max_steps"]),
    "sharded": ("error", "invalid-task", ["strategy fsdp", "full.world_size"]),
    "other_batch": ("error", "invalid-task", ["the data loader has batches of 32"]),
    "raises": ("error", "exception", ["FileNotFoundError: digits.csv at tests/train/adapters/lightning_modules.py:"]),
}
"""Verdict, reason (None: any), fragments of the sentence."""
FACTORY_OF = {"repeats": "classifier", "other_batch": "classifier"}
MORE = {
    "classifier": (
        "checks: {grad_ratio: {penalty_loss/train.ce_loss: [0, 100]}, accept: [val_accuracy > 0.5]}\n"
        "full: {from_scratch: true, max_steps: 2600}"
    ),
    "repeats": "full: {batch_size: 64}",
    "several_loaders": "checks: {accept: ['`val_accuracy/dataloader_idx_1` > 0.5']}",
}
SMOKE = {"classifier": ", evaluate_every_steps: 30", "other_batch": ", batch_size: 16, grad_accum_steps: 4"}


def recipe_of(name: str) -> str:
    factory = FACTORY_OF.get(name, name)
    smoke = f"smoke: {{max_steps: 60{SMOKE.get(name, '')}}}"
    return f"lightning: {MODULES}:{factory}\n{smoke}\n{MORE.get(name, '')}\n"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The outcome of each recipe, all executed in one process."""
    return outcomes_of({name: recipe_of(name) for name in EXPECTED}, tmp_path_factory.mktemp("lightning"))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_module_gets_its_verdict_for_its_own_reason(outcomes: dict[str, Any], name: str) -> None:
    verdict, reason, fragments = EXPECTED[name]
    outcome = outcomes[name]
    assert outcome["verdict"] == verdict, outcome["text"]
    assert reason in (None, outcome["reason"]), outcome["text"]
    assert [fragment for fragment in fragments if fragment not in outcome["text"]] == [], outcome["text"]


def test_the_full_run_is_read_from_module_data_and_arguments(outcomes: dict[str, Any]) -> None:
    facts = outcomes["classifier"]["facts"]
    assert facts["settings"] == {
        "batch_size": 32,
        "grad_accum_steps": 2,
        "world_size": 1,
        "learning_rate": 3e-3,
        "lr_schedule": "constant",
        "warmup_steps": 20,  # that of the module's scheduler
        "max_steps": 60,
        "precision": "fp32",
        "grad_clip_norm": 1.0,
        "loss_weights": {},
        "from_scratch": True,
    }
    assert facts["full_steps"] == 100 * 26


def test_the_peak_is_that_of_the_schedule_and_not_of_the_optimizer(outcomes: dict[str, Any]) -> None:
    settings = outcomes["one_cycle"]["facts"]["settings"]
    assert (settings["learning_rate"], settings["warmup_steps"]) == (3e-3, 19)


def test_devices_are_ranks_whose_batches_are_accumulated(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["datamodule"]
    assert outcome["facts"]["settings"]["world_size"] == 4
    assert outcome["facts"]["full_steps"] == 100 * 13
    assert finding_of(outcome, "batch-drawn")["text"] == "each of 60 steps drew 128 samples"


def test_the_checks_of_a_task_are_made(outcomes: dict[str, Any]) -> None:
    found = {finding["id"]: finding["status"] for finding in outcomes["classifier"]["findings"]}
    made = ("lr-applied", "batch-drawn", "accumulation", "model-mode", "learning", "updates", "finite", "grad-ratio")
    assert {check: found[check] for check in made} == dict.fromkeys(made, "pass")


def test_logged_losses_are_terms_with_the_weights_that_they_have_in_the_loss(outcomes: dict[str, Any]) -> None:
    facts = outcomes["classifier"]["facts"]
    norms = facts["gradient_norms"]
    assert norms["weighted"]["penalty_loss"] == pytest.approx(0.01 * norms["raw"]["penalty_loss"], rel=1e-4)
    values = facts["last_values"]
    assert values["loss"] == pytest.approx(values["train.ce_loss"] + 0.01 * values["penalty_loss"], rel=1e-4)


def test_metrics_are_those_that_validation_logs(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["classifier"]
    assert [step for step, _ in outcome["metrics"]["val_accuracy"]] == [30, 60]
    assert outcome["facts"]["initial_metrics"].keys() == {"val_accuracy"}


def test_each_of_several_validation_loaders_has_its_metric(outcomes: dict[str, Any]) -> None:
    metrics = outcomes["several_loaders"]["metrics"]
    assert metrics.keys() == {"val_accuracy/dataloader_idx_0", "val_accuracy/dataloader_idx_1"}


def test_the_frequency_of_a_scheduler_and_the_limit_of_batches_count(outcomes: dict[str, Any]) -> None:
    facts = outcomes["several_loaders"]["facts"]
    assert (facts["settings"]["warmup_steps"], facts["full_steps"]) == (10, 100 * 4)


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({}, 1000 * 26),
        ({"max_epochs": 10}, 260),
        ({"max_epochs": 10, "max_steps": 5000}, 260),
        ({"max_epochs": 10, "max_steps": 50}, 50),
        ({"max_epochs": -1, "max_steps": 50}, 50),
        ({"max_epochs": 10, "limit_train_batches": 0.5}, 130),
        ({"max_epochs": 10, "limit_train_batches": 5}, 30),
        ({"max_epochs": 10, "overfit_batches": 2}, 10),
        ({"max_epochs": 10, "limit_train_batches": 1.0}, 260),
    ],
)
def test_the_full_run_ends_with_its_steps_or_its_epochs(arguments: dict[str, Any], steps: int) -> None:
    given = {"accumulate_grad_batches": 2, **arguments}
    assert lightning._max_steps(given, lightning._steps_per_epoch(given, range(52), 1)) == steps


def test_a_stream_has_the_length_that_is_set() -> None:
    stream = iter(())
    assert lightning._max_steps({"max_steps": 7}, lightning._steps_per_epoch({"max_steps": 7}, stream, 1)) == 7
    with pytest.raises(TaskError, match="have no length: set max_steps"):
        lightning._max_steps({"max_epochs": 2}, lightning._steps_per_epoch({"max_epochs": 2}, stream, 1))
