"""The recipe key `checks.resume`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.errors import RecipeError
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.recipe.model import Recipe

TEXT = """\
task: tasks:Task
full: {batch_size: 8, learning_rate: 0.1, max_steps: 1000}
smoke: {max_steps: 400}
checks:
  resume: WHAT
"""


def load(folder: Path, what: str, text: str = TEXT) -> Case:
    (folder / "tasks.py").write_text("Task = None\n")
    (folder / "a.smoke.yaml").write_text(text.replace("WHAT", what))
    (case,) = load_cases(folder / "a.smoke.yaml", root=folder)
    return case


@pytest.mark.parametrize(
    ("what", "window"),
    [
        ("false", None),
        ("true", (211, 32)),
        ("{at_step: 100}", (100, 32)),
        ("{at_step: 390}", (390, 10)),
        ("{steps: 5}", (211, 5)),
        ("{at_step: 100, steps: 300}", (100, 300)),
    ],
)
def test_the_window_is_32_steps_from_a_prime_near_the_middle_by_default(
    tmp_path: Path, what: str, window: tuple[int, int] | None
) -> None:
    assert load(tmp_path, what).resume_window == window


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            "{at_step: 100, steps: 301}",
            "checks.resume ends at step 401, but the smoke run ends at step 400; resume earlier",
        ),
        ("{at_step: 400}", "resume ends at step 401"),
        ("{at_step: 0}", "checks.resume.at_step is 0; it must be 1 or more"),
        ("{at_stop: 3}", "unknown key at_stop in checks.resume; did you mean at_step?"),
        ("soon", "checks.resume is the text 'soon'; it must be true, false or a mapping"),
    ],
)
def test_a_window_outside_the_run_is_one_fault(tmp_path: Path, what: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, what)
    (fault,) = caught.value.faults
    assert words in fault.text


@given(steps=st.integers(1, 5000))
def test_the_default_step_is_a_prime_in_the_second_half_of_the_run(steps: int) -> None:
    """No check if there is none."""
    full = {"batch_size": 1, "learning_rate": 0.1, "max_steps": 10}
    data = {"task": "a:B", "full": full, "smoke": {"max_steps": steps}, "checks": {"resume": True}}
    window = Case(path="a", recipe=Recipe.model_validate(data), mode="constant").resume_window
    if window is None:
        assert steps < 3
        return
    at, further = window
    assert steps // 2 <= at < at + further <= steps
    assert [n for n in range(1, at + 1) if at % n == 0] == [1, at]


STAGED = """\
task: tasks:Task
full: {batch_size: 8, learning_rate: 0.1}
smoke: {}
stages:
  - {name: A, full_steps: 500, steps: 100}
  - {name: B, full_steps: 500, steps: 60}
checks:
  resume: WHAT
"""


@pytest.mark.parametrize(
    ("what", "window"),
    [("true", (131, 29)), ("{at_step: 50}", (50, 32)), ("{at_step: 90}", (90, 10)), ("{at_step: 100}", (100, 32))],
)
def test_the_window_is_inside_one_stage_the_last_by_default(tmp_path: Path, what: str, window: tuple[int, int]) -> None:
    assert load(tmp_path, what, STAGED).resume_window == window


def test_a_window_across_the_end_of_a_stage_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, "{at_step: 90, steps: 11}", STAGED)
    (fault,) = caught.value.faults
    assert fault.line == 8
    assert fault.text == (
        "checks.resume ends at step 101, but its stage A ends at step 100; resume earlier, or in another stage"
    )
