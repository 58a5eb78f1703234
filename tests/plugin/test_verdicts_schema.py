"""A real report folder is what its JSON Schema and its reference page say."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from jsonschema import Draft202012Validator

from tests.plugin.conftest import RECIPE, Project

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "verdicts-json.md"
STAGES = """
  expected_jumps: [5]
stages:
  - {name: A, full_steps: 10000, steps: 200, accept: [val_accuracy > 2]}
  - {name: B, full_steps: 10000, steps: 200}
"""


def test_a_report_fits_the_json_schema_and_the_reference(project: Project) -> None:
    """Promoted, unstable, non-finite, stopped at a stage, crashed, and invalid."""
    project.recipe()
    project.extending("wild", "args: {momentum: 0.99}\nfull: {learning_rate: 5.0}\n")
    project.extending(
        "loud", "task: tasks:TwoTerms\nargs: {scale: 100.0}\nchecks: {grad_ratio: {size/ce: [0.01, 8]}}\n"
    )
    project.extending("crash", "task: tasks:Breaks\nargs: {at_batch: 5, how: raise}\n")
    project.extending("unfair", "smoke: {precision: bf16}\n")
    project.recipe(
        "overflows", base=RECIPE.replace("Teacher", "Overflows").replace("smoke:", "  precision: fp16\nsmoke:")
    )
    project.recipe("stages", base=RECIPE + STAGES)
    project.run("--smoke", "--smoke-report", "out")
    report = json.loads((project.path / "out" / "verdicts.json").read_text())
    assert {outcome["verdict"] for outcome in report["outcomes"]} >= {"promote", "unstable", "hold", "error", "invalid"}
    printed = project.pytester.run(sys.executable, "-m", "pytest_smoke", "schema", "--of", "verdicts").stdout.str()
    validator = Draft202012Validator(json.loads(printed))
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(report)] == []

    page = (project.path / "out" / "index.html").read_text()
    assert all(f'data-run="{at}"' in page for at in range(len(report["outcomes"])))
    drawn = [outcome for outcome in report["outcomes"] if "trace" in outcome["facts"]]
    assert page.count('<script type="application/json" id="plots-') == len(drawn)
    assert 'class="note"' not in page, "every trace is that of its run"
    assert "TwoTerms" in page, "the text of a recipe"

    rows = re.findall(r"^\| `([\w.-]+)(?:/[^`]*)?` \|", PAGE.read_text().partition("## Non-finite")[0], re.MULTILINE)
    written = {path.name for path in (project.path / "out").iterdir()}
    assert {"verdicts.json", "traces", "checkpoints"} <= written <= set(rows)
