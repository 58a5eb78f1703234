"""Checkpoints are recognized by the names that trainers give them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.watch.checkpoints import newest_checkpoint, step_of


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoint-500", 500),
        ("checkpoint_500.pt", 500),
        ("ckpt-500.pth", 500),
        ("ckpt_0500.tar", 500),
        ("step_500", 500),
        ("step-500", 500),
        ("step500-unsharded", 500),
        ("epoch=1-step=500.ckpt", 500),
        ("epoch=1-step=500-val_loss=0.12.ckpt", 500),
        ("model-epoch=02-global_step=500.0.ckpt", 500),
        ("global_step500", 500),
        ("iter_0000500", 500),
        ("model_500.safetensors", 500),
        ("gpt_model_500.pth.tar", 500),
        ("checkpoint_2_500.pt", 500),
        ("0000500_adapters.safetensors", 500),
    ],
)
def test_step_of_usual_names(name: str, step: int) -> None:
    assert step_of(name) == step


@pytest.mark.parametrize(
    "name",
    [
        *("checkpoint_best.pt", "checkpoint_epoch_3.pt", "model_epoch=3.ckpt", "last.ckpt", "resnet50.pt"),
        *("model-00001-of-00002.safetensors", "tmp-checkpoint-500", "checkpoint-500.tmp", "step_500.partial"),
        *("log_step_500.txt", "step_500.png", "digit5.pt", "unit_3", "model_0.5.pt", "events.out.tfevents.500"),
    ],
)
def test_other_names_have_no_step(name: str) -> None:
    assert step_of(name) is None


def test_a_number_alone_is_a_step_in_a_folder_of_checkpoints() -> None:
    assert step_of("500", "checkpoints") == step_of("500.pt", "ckpt") == 500
    assert step_of("500", "images") is None


@given(steps=st.sets(st.integers(0, 3000), min_size=1, max_size=6), limit=st.integers(0, 3000))
def test_newest_checkpoint_is_the_largest_step_up_to_the_limit(
    tmp_path_factory: pytest.TempPathFactory, steps: set[int], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    for step in steps:
        (folder / f"checkpoint-{step}.pt").write_text("weights")
    found = newest_checkpoint(folder, limit)
    assert (found.step if found else None) == max((step for step in steps if step <= limit), default=None)


def test_empty_and_unreadable_entries_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-90").mkdir()
    (tmp_path / "checkpoint-80.pt").touch()
    (tmp_path / "checkpoint-70.pt").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "out" / "checkpoints" / "60").mkdir(parents=True)
    (tmp_path / "out" / "checkpoints" / "60" / "weights").write_text("weights")
    found = newest_checkpoint(tmp_path, 100)
    assert found is not None
    assert found.path.relative_to(tmp_path) == Path("out/checkpoints/60")
    assert newest_checkpoint(tmp_path / "missing", 100) is None


def test_of_equal_steps_the_newest_counts(tmp_path: Path) -> None:
    for name, when in (("a_step_5.pt", 2000), ("b_step_5.pt", 1000)):
        (tmp_path / name).write_text("weights")
        os.utime(tmp_path / name, (when, when))
    found = newest_checkpoint(tmp_path, 5)
    assert found is not None
    assert found.path.name == "a_step_5.pt"
