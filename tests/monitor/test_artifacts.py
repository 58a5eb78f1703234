"""The package of a smoke run: where it is written, and that nothing old or partial stays there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_smoke.monitor.artifacts import pipeline_plan
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import load_cases

ROOT = Path(__file__).parents[2]


@pytest.fixture
def case() -> Case:
    """A recipe with a pipeline."""
    return load_cases(ROOT / "tests" / "controls" / "pipeline_passes.control.yaml", root=ROOT)[0]


def test_an_older_package_is_removed_before_the_run_and_a_partial_one_after_it(case: Case, tmp_path: Path) -> None:
    """Whatever ends the run: a package that exists is complete, and from this run."""
    folder = tmp_path / "packages" / "name"
    partial = folder.with_name(".name.partial")
    for old in (folder, partial):
        old.mkdir(parents=True)
        (old / "model.onnx").write_text("old")
    plans = pipeline_plan(case, folder)
    plan = plans.__enter__()
    assert plan is not None
    assert (plan.folder, plan.partial) == (str(folder), partial)
    assert list(folder.parent.iterdir()) == []
    partial.mkdir()
    (partial / "model.onnx").write_text("half")
    plans.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert list(folder.parent.iterdir()) == []


def test_a_package_stays_only_in_a_folder_that_was_named(case: Case, tmp_path: Path) -> None:
    """Without a folder it is temporary."""
    for named in (tmp_path / "packages" / "name", None):
        with pipeline_plan(case, named) as plan:
            assert plan is not None
            plan.partial.mkdir()
            plan.partial.rename(plan.folder)
        assert Path(plan.folder).exists() == (named is not None)


def test_a_recipe_without_a_pipeline_has_no_plan_and_touches_no_folder(tmp_path: Path) -> None:
    case = load_cases(ROOT / "tests" / "controls" / "promotes.control.yaml", root=ROOT)[0]
    with pipeline_plan(case, tmp_path / "packages" / "name") as plan:
        assert plan is None
    assert list(tmp_path.iterdir()) == []
