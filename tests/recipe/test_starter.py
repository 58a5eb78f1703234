"""The starter recipe and its task."""

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


def test_it_writes_a_recipe_and_its_task_with_default_permissions(tmp_path: Path) -> None:
    written = write_starter(tmp_path, "my_first")
    assert written == [tmp_path / "my_first.smoke.yaml", tmp_path / "my_first_task.py"]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    (tmp_path / "other").touch()
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {
        stat.S_IMODE((tmp_path / "other").stat().st_mode)
    }


def test_the_recipe_is_valid_and_its_comments_are_true(tmp_path: Path) -> None:
    write_starter(tmp_path, "my_first")
    (case,) = load_cases(tmp_path / "my_first.smoke.yaml", root=tmp_path)
    assert (case.name, case.recipe.task) == ("constant", "my_first_task:MyFirst")
    settings = case.settings
    schedule = named(settings.lr_schedule, settings.warmup_steps, settings.max_steps)
    text = (tmp_path / "my_first.smoke.yaml").read_text()
    assert f"{evidence_steps(schedule, case.run_steps)} of them at 80 %" in text
    assert f"= {settings.effective_batch:,} samples" in text


def test_every_key_has_a_comment_and_no_placeholder_is_left(tmp_path: Path) -> None:
    recipe, task = write_starter(tmp_path, "r")
    lines = recipe.read_text().splitlines()
    for above, line in pairwise(lines):
        if re.match(r"\s*\w+:", line) and not line.startswith(" "):
            assert above.startswith("#"), line
        elif re.match(r"  \w+: \S", line) and "hidden_size" not in line and "evaluate" not in line:
            assert "#" in line, line
    assert not re.search("@[A-Z]", recipe.read_text() + task.read_text())


def test_the_cell_in_the_comment_is_valid_once_uncommented(tmp_path: Path) -> None:
    recipe, _ = write_starter(tmp_path, "r")
    text = recipe.read_text()
    recipe.write_text(text.replace("# ablate:", "ablate:").replace("#   wide:", "  wide:"))
    assert [case.name for case in load_cases(recipe, root=tmp_path)] == ["constant", "constant[wide]"]


@pytest.mark.parametrize("taken", ["r.smoke.yaml", "r_task.py"])
def test_it_overwrites_nothing_and_writes_no_half_of_the_pair(tmp_path: Path, taken: str) -> None:
    """A dangling link counts as a file."""
    for make in (lambda path: path.write_text("mine"), lambda path: os.symlink("gone", path)):
        make(tmp_path / taken)
        with pytest.raises(FileExistsError, match=rf"{re.escape(taken)} already exists; init overwrites nothing"):
            write_starter(tmp_path, "r")
        assert os.listdir(tmp_path) == [taken]
        (tmp_path / taken).unlink()


def test_the_message_names_both_files_if_both_exist(tmp_path: Path) -> None:
    write_starter(tmp_path, "r")
    with pytest.raises(FileExistsError, match=r"r\.smoke\.yaml and .*r_task\.py already exist; "):
        write_starter(tmp_path, "r")


@pytest.mark.parametrize("name", ["", "a-b", "A", "1a", "a/b", "../a", "a.b", "a b", "ä", "_a", "a" * 65, "a\n"])
def test_a_name_that_cannot_be_a_module_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a-z, 0-9 and _"):
        write_starter(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="gone"):
        write_starter(tmp_path / "gone", "r")


def test_its_task_trains_to_a_low_and_stable_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_only_seed_and_rank_determine_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_in_a_subfolder_the_tasks_import_path_starts_at_the_rootdir(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    folder = tmp_path / "smokes" / "small"
    folder.mkdir(parents=True)
    write_starter(folder, "mine")
    assert load_recipe(folder / "mine.smoke.yaml", root=tmp_path).task == "smokes.small.mine_task:Mine"


def test_the_starter_of_a_command_is_valid_and_its_comments_are_true(tmp_path: Path) -> None:
    recipe, script = write_starter(tmp_path, "mine", "command")
    assert (recipe.name, script.name) == ("mine.smoke.yaml", "mine_train.py")
    (case,) = load_cases(recipe, root=tmp_path)
    assert case.recipe.trainer == "command"
    settings = case.settings
    schedule = named(settings.lr_schedule, settings.warmup_steps, settings.max_steps)
    assert f"{evidence_steps(schedule, case.run_steps)} of them at 80 %" in recipe.read_text()
    assert not re.search("@[A-Z]", recipe.read_text() + script.read_text())


@pytest.mark.parametrize(("trainer", "module"), [("hf", "mine_trainer.py"), ("lightning", "mine_module.py")])
def test_a_starter_of_another_trainer_is_valid_and_complete(tmp_path: Path, trainer: Any, module: str) -> None:
    recipe, written = write_starter(tmp_path, "mine", trainer)
    assert (recipe.name, written.name) == ("mine.smoke.yaml", module)
    assert load_recipe(recipe, root=tmp_path).trainer == trainer
    assert not re.search("@[A-Z]", recipe.read_text() + written.read_text())
    compile(written.read_text(), module, "exec")
