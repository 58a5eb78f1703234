"""Smoke runs of TRL's trainers for supervised fine-tuning and preference optimization, where TRL is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from tests.train.adapters.outcomes import finding_of, outcomes_of

pytestmark = pytest.mark.skipif(not find_spec("trl"), reason="TRL is not installed")

RECIPE = "hf: tests.train.adapters.trl_trainers:{}\nsmoke: {{max_steps: 60}}\n"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The outcome of each trainer, all executed in one process."""
    names = ("sft", "dpo")
    return outcomes_of({name: RECIPE.format(name) for name in names}, tmp_path_factory.mktemp("trl"))


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_a_trainer_of_trl_is_promoted(outcomes: dict[str, Any], name: str) -> None:
    outcome = outcomes[name]
    assert outcome["verdict"] == "promote", outcome["text"]
    assert finding_of(outcome, "batch-drawn")["text"] == "each of 60 steps drew 8 samples"


def test_a_pair_of_answers_is_one_sample(outcomes: dict[str, Any]) -> None:
    """DPO's batch has two rows per sample."""
    assert finding_of(outcomes["dpo"], "batch-drawn")["observed"] == 8
