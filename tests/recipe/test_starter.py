"""The starter recipe: whole, explained, and trainable as written."""

from __future__ import annotations

import importlib
import os
import re
import stat
from itertools import islice, pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from pytest_smoke.recipe.load import load_cases, load_recipe
from pytest_smoke.recipe.starter import write_starter
from pytest_smoke.schedules import evidence_steps, named


def test_it_writes_a_recipe_and_its_task(tmp_path: Path) -> None:
    """Two files, nothing beside them, readable as any new file is."""
    written = write_starter(tmp_path, "my_first")
    assert written == [tmp_path / "my_first.smoke.yaml", tmp_path / "my_first_task.py"]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    (tmp_path / "other").touch()
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {
        stat.S_IMODE((tmp_path / "other").stat().st_mode)
    }


def test_the_recipe_loads_with_the_folder_as_root(tmp_path: Path) -> None:
    """Its task resolves, its mode is the constant one, and its evidence is what the comment says."""
    write_starter(tmp_path, "my_first")
    (case,) = load_cases(tmp_path / "my_first.smoke.yaml", root=tmp_path)
    assert (case.name, case.recipe.task) == ("constant", "my_first_task:MyFirst")
    settings = case.settings
    schedule = named(settings.lr_schedule, settings.warmup_steps, settings.max_steps)
    text = (tmp_path / "my_first.smoke.yaml").read_text()
    assert f"{evidence_steps(schedule, case.run_steps)} of them at 80 %" in text
    assert f"= {settings.effective_batch:,} samples" in text


def test_every_key_is_explained(tmp_path: Path) -> None:
    """On its line or on the one above, in the recipe; no placeholder is left."""
    recipe, task = write_starter(tmp_path, "r")
    lines = recipe.read_text().splitlines()
    for above, line in pairwise(lines):
        if re.match(r"\s*\w+:", line) and not line.startswith(" "):
            assert above.startswith("#"), line
        elif re.match(r"  \w+: \S", line) and "hidden_size" not in line and "evaluate" not in line:
            assert "#" in line, line
    assert not re.search("@[A-Z]", recipe.read_text() + task.read_text())


def test_the_cell_in_the_comment_runs_once_uncommented(tmp_path: Path) -> None:
    """Examples in comments rot unless something reads them."""
    recipe, _ = write_starter(tmp_path, "r")
    text = recipe.read_text()
    recipe.write_text(text.replace("# ablate:", "ablate:").replace("#   wide:", "  wide:"))
    assert [case.name for case in load_cases(recipe, root=tmp_path)] == ["constant", "constant[wide]"]


@pytest.mark.parametrize("taken", ["r.smoke.yaml", "r_task.py"])
def test_it_overwrites_nothing(tmp_path: Path, taken: str) -> None:
    """Nor does it leave half of the pair; a dangling link is a file too."""
    for make in (lambda path: path.write_text("mine"), lambda path: os.symlink("gone", path)):
        make(tmp_path / taken)
        with pytest.raises(FileExistsError, match=rf"{re.escape(taken)} .*overwrites nothing"):
            write_starter(tmp_path, "r")
        assert os.listdir(tmp_path) == [taken]
        (tmp_path / taken).unlink()


@pytest.mark.parametrize("name", ["", "a-b", "A", "1a", "a/b", "../a", "a.b", "a b", "ä", "_a", "a" * 65, "a\n"])
def test_a_name_that_is_no_module_is_refused(tmp_path: Path, name: str) -> None:
    """With what is allowed."""
    with pytest.raises(ValueError, match="a-z, 0-9 and _"):
        write_starter(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """It is not made."""
    with pytest.raises(NotADirectoryError, match="gone"):
        write_starter(tmp_path / "gone", "r")


def test_its_task_trains_to_a_low_flat_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a bare loop: falls, stays, and its noise is small beside its level."""
    torch = pytest.importorskip("torch")
    write_starter(tmp_path, "starter_trial")
    monkeypatch.syspath_prepend(tmp_path)
    recipe = load_recipe(tmp_path / "starter_trial.smoke.yaml", root=tmp_path)
    made: Any = importlib.import_module("starter_trial_task").StarterTrial(**recipe.args)
    torch.manual_seed(recipe.smoke.seed)
    model = made.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.full.learning_rate)
    losses = []
    for batch in islice(made.batches(recipe.full.effective_batch, seed=recipe.smoke.seed), 250):
        terms = made.losses(model, batch)
        loss = sum(terms.values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert mean(losses[:5]) > 1.2
    assert mean(losses[-100:]) < 0.8
    assert stdev(losses[-100:]) < 0.05 * mean(losses[-100:])
    assert made.evaluate(model)["val_accuracy"] > 0.6


def test_its_task_is_the_same_for_the_same_seed_and_differs_by_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed and rank decide the data, nothing else does."""
    torch = pytest.importorskip("torch")
    write_starter(tmp_path, "starter_seeds")
    monkeypatch.syspath_prepend(tmp_path)
    task_class: Any = importlib.import_module("starter_seeds_task").StarterSeeds

    def first(**how: int) -> Any:
        torch.manual_seed(0)
        torch.rand(how.pop("noise", 0))
        return next(task_class().batches(8, **how))[0]

    assert torch.equal(first(seed=1), first(seed=1, noise=5))
    assert not torch.equal(first(seed=1), first(seed=2))
    ranks = [first(seed=seed, rank=rank, world_size=2) for seed in (0, 1) for rank in (0, 1)]
    assert not any(torch.equal(a, b) for i, a in enumerate(ranks) for b in ranks[:i])


def test_in_a_subfolder_of_a_project_the_task_is_named_from_its_root(tmp_path: Path) -> None:
    """pytest imports tasks from its rootdir, and the recipe runs as written."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    folder = tmp_path / "smokes" / "small"
    folder.mkdir(parents=True)
    write_starter(folder, "mine")
    assert load_recipe(folder / "mine.smoke.yaml", root=tmp_path).task == "smokes.small.mine_task:Mine"
