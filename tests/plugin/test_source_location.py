"""A failure shows the line of the recipe that causes it."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Project

BLOCK = """\
task: tasks:{task}
args: {{{args}}}
full:
  batch_size: 64
  learning_rate: 3.0e-3
  loss_weights: {{{weights}}}
  max_steps: 20000
smoke:
  change: new-recipe
  batch_size: {batch_size}
mix:
  sources: {{osm: {{rows: 500}}, nad: {{rows: 500}}}}
  dominant_share: 1
  lead_ratio: 10
stages:
  - name: A
    full_steps: 10000
    steps: 100
  - name: B
    full_steps: 10000
    steps: 100
    loss_weights: {{{late}}}
    train: ["{train}"]
"""
VALID = {"task": "Teacher", "args": "", "weights": "", "batch_size": "64", "late": "", "train": "2.*"}


@pytest.mark.parametrize(
    ("change", "message", "line"),
    [
        ({"train": "3.*"}, "train: '3.[*]' matches no parameter", 23),
        ({"late": "cee: 2"}, "loss_weights names cee, but the loss terms are ce", 22),
        ({"weights": "cee: 2"}, "loss_weights names cee, but the loss terms are ce", 6),
        ({"task": "Contrasts", "batch_size": "32"}, "effective batch 32", 10),
    ],
)
def test_a_failure_shows_the_line_of_its_recipe_key(
    project: Project, change: dict[str, str], message: str, line: int
) -> None:
    """This includes faults of the task, which only a run can find."""
    project.recipe(base=BLOCK.format(**VALID | change))
    result = project.run("--smoke")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{message}*", f"  good.smoke.yaml:{line}"])


def test_a_gradient_that_depends_on_the_split_is_located_at_the_smoke_runs_batch_size(project: Project) -> None:
    text = BLOCK.format(**VALID | {"task": "Contrasts", "batch_size": "32\n  grad_accum_steps: 2"})
    project.recipe(base=text)
    result = project.run("--smoke")
    result.stdout.fnmatch_lines(["invalid (gradient-depends-on-split): *contrast is*", "  good.smoke.yaml:10"])


def test_a_sampled_mix_that_is_off_is_located_at_the_declared_mix(project: Project) -> None:
    tasks = project.path / "tasks.py"
    one_source = (
        "\n\nclass OneSource(Teacher):\n    def sources(self, batch):\n        return {'osm': len(batch['labels'])}\n"
    )
    tasks.write_text(tasks.read_text() + one_source)
    project.recipe(base=BLOCK.format(**VALID | {"task": "OneSource"}))
    result = project.run("--smoke")
    result.stdout.fnmatch_lines(["invalid (sampled-share-off): *'osm' is 100*", "  good.smoke.yaml:11"])
