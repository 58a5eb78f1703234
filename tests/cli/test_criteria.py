"""`audit` and `probe` refuse the criteria that pytest refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_smoke.__main__ import main

RECIPE = """\
task: a_task:Task
full: {batch_size: 8, learning_rate: 0.1, max_steps: 100}
smoke: {max_steps: 10}
mix: {sources: {web: {rows: 10}}}
checks: {accept: [val_f1 > 0.6, CRITERION]}
"""


@pytest.mark.parametrize("command", ["audit", "probe"])
@pytest.mark.parametrize(
    ("criterion", "fault"),
    [
        ("max(loss < 3", "criterion 'max(loss < 3': column 10: expected an operator"),
        ("mean(loss over steps 5-11) < 3", "it needs step 11, but the smoke run ends at step 10"),
        ("loss < 3 over stage B", "there is no stage B; known: none"),
    ],
)
def test_a_faulty_criterion_is_refused_at_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, criterion: str, fault: str
) -> None:
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "a_task.py").write_text("class Task: ...\n")
    recipe = tmp_path / "a.smoke.yaml"
    recipe.write_text(RECIPE.replace("CRITERION", criterion))
    assert main([command, str(recipe)]) == 2
    printed = capsys.readouterr()
    assert "a.smoke.yaml:5:33: criterion" in printed.err
    assert fault in printed.err
    assert printed.out == ""
