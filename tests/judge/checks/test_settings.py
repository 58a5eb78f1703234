"""The `settings` check."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_smoke.judge.checks.registry import DEFAULT
from pytest_smoke.judge.checks.settings import settings
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe
from tests.judge.checks.cases import FULL, case


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"grad_clip_norm": 5.0}, "grad_clip_norm is 5.0 in the smoke run and 1.0 in the full run"),
        ({"grad_clip_norm": None}, "grad_clip_norm is off in the smoke run and 1.0 in the full run"),
        ({"precision": "bf16"}, "precision is 'bf16' in the smoke run and 'fp32' in the full run"),
        ({"loss_weights": {"crf": 0.5}}, "loss_weights.crf is 0.5 in the smoke run and not set in the full run"),
        ({"args": {"width": 8}}, "args.width is 8 in the smoke run and 64 in the full run"),
        (
            {"args": {"width": 8}, "precision": "fp16"},
            "precision is 'fp16' in the smoke run and 'fp32' in the full run; "
            "args.width is 8 in the smoke run and 64 in the full run",
        ),
    ],
)
def test_a_setting_that_differs_is_named_with_both_values(changes: dict[str, Any], text: str) -> None:
    smoke = {"max_steps": 2500, **changes}
    recipe = Recipe.model_validate({"task": "a:B", "args": {"width": 64}, "full": FULL, "smoke": smoke})
    (finding,) = settings(Case(path="a", recipe=recipe, mode="constant"))
    assert (finding.status, finding.reason, finding.text) == ("fail", "different-setting", text)


def test_repeating_the_values_of_the_full_run_passes() -> None:
    same = {key: value for key, value in FULL.items() if key != "max_steps"}
    findings = DEFAULT.before_run(case(**same))
    assert [(finding.id, finding.status) for finding in findings] == [
        ("batch-geometry", "pass"),
        ("schedule", "pass"),
        ("settings", "pass"),
    ]
    assert findings[-1].text == "all other settings are those of the full run"
