"""Smoke runs of trainers of Hugging Face and TRL: real ones on text, and ones that are wrong in one way each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke import schedules
from tests.train.adapters.outcomes import OFFLINE, ONE_CORE, ROOT, finding_of, outcomes_of

pytestmark = pytest.mark.skipif(not find_spec("transformers"), reason="needs the extra hf")

TRAINERS = "tests.train.adapters.hf_trainers"
TRL_TRAINERS = "tests.train.adapters.trl_trainers"
STEPS = {
    "sft": 40,
    "dpo": 40,
    "does_not_step": 24,
    "freezes": 100,
    "experts": 10,
    "stream": 10,
    "other_geometry": 10,
    "script": 10,
    "tokens_by_rank": 10,
}
"""Steps of the runs that are not stopped early; of all others 60."""
MORE = {
    "two_terms": (
        "checks: {grad_ratio: {penalty_loss/ce_loss: [0, 10]}, accept: [eval_loss < 5, max(penalty_loss) < 100]}"
    ),
    "repeats": "full: {learning_rate: 1.0e-3, batch_size: 8, max_steps: 5000}",
    "preflight_world": "full: {world_size: 2}",
    "world": "full: {world_size: 2}",
    "preflight_split": "full: {world_size: 2}",
    "split_odd": "full: {world_size: 3}",
    "tokens_by_rank": "full: {world_size: 2}",
    "other_geometry": "",
}
SMOKE = {"other_geometry": "batch_size: 4, grad_accum_steps: 4"}
EXPECTED = {
    "two_terms": ("promote", "", ["no rise in 60 points"]),
    "diverging": ("unstable", None, ["loss "]),
    "half_batches": ("invalid", "fewer-samples", ["a step draws 8 samples instead of 16 (8 x 2 x 1)"]),
    "sliced_steps": ("invalid", "fewer-samples", ["a step draws 8 samples instead of 16 (8 x 2 x 1)"]),
    "decaying": ("invalid", "other-learning-rate", ["0.0007425 at step 1, the recipe schedules 0.00075"]),
    "own_scheduler": (
        "invalid",
        "other-learning-rate",
        ["used the learning rate 0.0029999953 at step 8, the recipe schedules 0.003"],
    ),
    "overridden_scheduler": ("invalid", "other-learning-rate", ["at step 0, the recipe schedules 0"]),
    "breaks": ("unstable", "non-finite", ["penalty_loss is NaN at step 8"]),
    "does_not_step": ("hold", "parameters-still", ["and changed nothing"]),
    "eval_mode": ("invalid", "eval-mode", ["the model trains in evaluation mode at step 0"]),
    "summed_ranks": ("invalid", "gradients-added-up", ["The full run's 2 ranks average theirs"]),
    "repeats": (
        "invalid",
        "differs-from-trainer",
        ["full.learning_rate is 0.001 in the recipe and 0.003 in the trainer that the factory returns"],
    ),
    "stops": ("error", "invalid-task", ["the trainer stopped by itself after 8 steps of 60"]),
    "no_data": ("error", "invalid-task", ["has no train_dataset"]),
    "returns_model": ("error", "invalid-task", ["returned GPT2LMHeadModel, not a transformers.Trainer"]),
    "deepspeed": ("error", "invalid-task", ["TrainingArguments has deepspeed set", "full.world_size"]),
    "fsdp": ("error", "invalid-task", ["TrainingArguments has fsdp set"]),
    "raises": ("error", "exception", ["FileNotFoundError: corpus.jsonl at tests/train/adapters/hf_trainers.py:"]),
    "own_loop": ("error", "invalid-task", ["the trainer makes its steps in a loop of its own"]),
    "frozen": ("error", "invalid-task", ["the model has no parameter that requires a gradient"]),
    "freezes": ("hold", "parameters-stopped", ["26 of 28 trainable parameters stopped changing by step 8"]),
    "script": (None, None, []),
    "script_with_required_option": (
        "error",
        "invalid-task",
        ["exited instead of returning", "sys.exit(2) was called at tests/train/adapters/hf_trainers.py:"],
    ),
    "trained": ("error", "invalid-task", ["returned a trainer that has already trained for 1 step"]),
    "experts": (None, None, []),
    "stream": (None, None, []),
    "preflight_world": ("inconclusive", None, []),
    "preflight_split": ("inconclusive", None, []),
    "split_odd": ("error", "invalid-task", ["divides per_device_train_batch_size 8 among 3 ranks"]),
    "tokens_by_rank": (None, None, []),
    "other_geometry": (None, None, []),
}
"""Verdict, reason (None: any), fragments of the sentence."""
HAS_TRL = find_spec("trl") is not None
if HAS_TRL:
    EXPECTED |= {name: ("promote", "", ["no rise in 40 points"]) for name in ("sft", "dpo")}
FACTORY_OF = {
    "summed_ranks": "summed",
    "repeats": "trainer",
    "preflight_world": "trainer",
    "preflight_split": "split_batches",
    "split_odd": "split_batches",
    "other_geometry": "two_terms",
}
MORE["summed_ranks"] = MORE["world"]


def recipe_of(name: str) -> str:
    steps = STEPS.get(name, 60)
    smoke = f"max_steps: {steps}" + (f", {SMOKE[name]}" if name in SMOKE else "")
    module = TRL_TRAINERS if name in ("sft", "dpo") else TRAINERS
    return f"hf: {module}:{FACTORY_OF.get(name, name)}\nsmoke: {{{smoke}}}\n{MORE.get(name, '')}\n"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The outcome of each recipe, all executed in one process."""
    return outcomes_of({name: recipe_of(name) for name in EXPECTED}, tmp_path_factory.mktemp("hf"))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_trainer_gets_its_verdict_for_its_own_reason(outcomes: dict[str, Any], name: str) -> None:
    verdict, reason, fragments = EXPECTED[name]
    outcome = outcomes[name]
    assert verdict in (None, outcome["verdict"]), outcome["text"]
    assert reason in (None, outcome["reason"]), outcome["text"]
    assert [fragment for fragment in fragments if fragment not in outcome["text"]] == [], outcome["text"]


def test_the_full_run_is_read_from_the_arguments(outcomes: dict[str, Any]) -> None:
    facts = outcomes["two_terms"]["facts"]
    assert facts["settings"] | {"max_steps": 60} == {
        "batch_size": 8,
        "grad_accum_steps": 2,
        "world_size": 1,
        "learning_rate": 3e-3,
        "lr_schedule": "constant",
        "warmup_steps": 4,
        "max_steps": 60,
        "precision": "fp32",
        "grad_clip_norm": 1.0,
        "loss_weights": {},
        "from_scratch": False,
    }
    assert facts["full_steps"] == 20 * 250  # epochs of 4,000 samples in steps of 16


def test_ranks_shorten_an_epoch(outcomes: dict[str, Any]) -> None:
    facts = outcomes["preflight_world"]["facts"]
    assert (facts["full_steps"], facts["effective_batch_samples"]) == (20 * 125, 32)


def test_settings_for_two_ranks_are_those_of_two_processes(outcomes: dict[str, Any], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.adapters.hf_ranks", "trainer", "split_batches"],
        env={**os.environ, **OFFLINE, **ONE_CORE, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for factory, real in json.loads(done.stdout).items():
        facts = outcomes["preflight_world" if factory == "trainer" else "preflight_split"]["facts"]
        assert (facts["full_steps"], facts["effective_batch_samples"]) == (real["max_steps"], real["samples"]), factory
        warmup = facts["settings"]["warmup_steps"]
        smoked = schedules.named("constant", warmup, 60)
        until_peak = range(warmup + 1)  # a scheduler that each of two processes steps is there after half of it
        assert real["rates"][: warmup + 1] == pytest.approx([smoked(step) for step in until_peak])


def test_ranks_that_divide_by_their_own_tokens_are_named(outcomes: dict[str, Any]) -> None:
    found = finding_of(outcomes["tokens_by_rank"], "items-drawn")
    assert found["status"] == "not-checked"
    assert "average_tokens_across_devices is off, so each rank of the full run divides its loss" in found["text"]


def test_the_checks_of_a_task_are_made(outcomes: dict[str, Any]) -> None:
    found = {finding["id"]: finding for finding in outcomes["two_terms"]["findings"]}
    made = ("lr-applied", "batch-drawn", "accumulation", "model-mode", "learning", "updates", "finite", "data-repeats")
    assert {check: found[check]["status"] for check in (*made, "supervised-tokens", "grad-ratio")} == dict.fromkeys(
        (*made, "supervised-tokens", "grad-ratio"), "pass"
    )
    assert found["batch-drawn"]["text"] == "each of 60 steps drew 16 samples"


def test_losses_that_compute_loss_returns_are_terms(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["two_terms"]
    norms = outcome["facts"]["gradient_norms"]
    assert norms["weighted"]["penalty_loss"] == pytest.approx(0.1 * norms["raw"]["penalty_loss"])
    assert norms["weighted"]["ce_loss"] == pytest.approx(norms["raw"]["ce_loss"])
    values = outcome["facts"]["last_values"]
    assert values["loss"] == pytest.approx(values["ce_loss"] + 0.1 * values["penalty_loss"], rel=1e-4)


def test_the_part_of_the_loss_without_a_name_is_the_rest(outcomes: dict[str, Any]) -> None:
    facts = outcomes["experts"]["facts"]
    # The Trainer divides the model's loss by the tokens of a step, and an auxiliary loss by nothing: two micro-batches
    # add theirs up.
    assert facts["gradient_norms"]["weighted"]["aux_loss"] == pytest.approx(
        2 * 0.01 * facts["gradient_norms"]["raw"]["aux_loss"], rel=1e-3
    )
    values = facts["last_values"]
    assert values["rest"] == pytest.approx(values["loss"] - 2 * 0.01 * values["aux_loss"], rel=1e-4)
    assert "grad-ratio" not in {finding["id"] for finding in outcomes["experts"]["findings"]}


def test_a_nan_is_traced_to_its_line(outcomes: dict[str, Any]) -> None:
    hint = finding_of(outcomes["breaks"], "finite")["hint"]
    assert "tests/train/adapters/hf_trainers.py:" in hint


def test_metrics_are_those_of_the_trainers_own_evaluation(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["two_terms"]
    assert outcome["metrics"].keys() == {"eval_loss"}
    assert outcome["facts"]["initial_metrics"]["eval_loss"] > outcome["metrics"]["eval_loss"][-1][1]


def test_a_stream_trains_without_samples_for_a_probe_batch(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["stream"]
    assert outcome["facts"]["steps"] == 10
    assert "probe_loss" not in outcome["facts"]["last_values"]
    assert finding_of(outcome, "batch-drawn")["status"] == "pass"


def test_another_geometry_with_the_same_effective_batch_is_applied(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["other_geometry"]
    assert finding_of(outcome, "batch-drawn")["text"] == "each of 10 steps drew 16 samples"
    assert finding_of(outcome, "accumulation")["status"] == "pass"


def test_ranks_that_cannot_be_told_apart_are_not_checked(outcomes: dict[str, Any]) -> None:
    finding = finding_of(outcomes["summed_ranks"], "ranks")
    assert finding["status"] == "not-checked"
    assert "one data loader draws the samples of all ranks" in finding["text"]


def test_a_script_is_built_with_the_defaults_of_its_options_and_writes_no_files(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["script"]
    assert outcome["facts"]["steps"] == 10
    assert (outcome["facts"]["settings"]["precision"], outcome["facts"]["settings"]["learning_rate"]) == ("bf16", 3e-3)
    assert outcome["files_left"] == []


@pytest.mark.skipif(not HAS_TRL, reason="TRL is not installed")
def test_a_pair_of_answers_is_one_sample(outcomes: dict[str, Any]) -> None:
    """DPO's batch has two rows per sample."""
    assert finding_of(outcomes["sft"], "batch-drawn")["text"] == "each of 40 steps drew 8 samples"
    assert finding_of(outcomes["dpo"], "batch-drawn")["text"] == "each of 40 steps drew 8 samples"
