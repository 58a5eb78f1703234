"""latent_prefix's kept language model, its determinism, and real smokes of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.latent_prefix import LatentPrefix
from recipes.latent_prefix.facts import Facts
from recipes.latent_prefix.passages import Passages
from recipes.latent_prefix.pretrained import FOLDER_VARIABLE, Config, fingerprint, load_pretrained, passages_of
from tests.recipes.conftest import FEW_STEPS

ROOT = Path(__file__).parents[2]
CONFIG = Config(steps=FEW_STEPS)
BUILT = f"training its language model, {FEW_STEPS} steps, once"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of the model in the folder, made if need be."""
    model = load_pretrained(CONFIG, folder).model
    assert not any(parameter.requires_grad for parameter in model.parameters())
    return dict(model.state_dict())


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Bit by bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_the_model_is_trained_once_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its checksum beside it; training it uses none of the caller's random numbers and gives the same weights."""
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = weights(tmp_path)
    assert BUILT in capsys.readouterr().out
    assert same(weights(tmp_path), first)
    assert BUILT not in capsys.readouterr().out
    assert torch.equal(torch.random.get_rng_state(), state)
    assert same(weights(tmp_path / "other"), first)
    names = sorted(path.name.rpartition(".")[2] for path in tmp_path.iterdir() if path.is_file())
    assert names == ["lock", "safetensors", "sha256"]
    (checksum,) = tmp_path.glob("*.sha256")
    subprocess.run(["sha256sum", "--check", "--strict", checksum.name], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "checksum", "no-checksum"])
def test_a_damaged_artifact_is_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    """And said to be damaged, where there is something to compare."""
    first = weights(tmp_path)
    (path,), (checksum,) = tmp_path.glob("*.safetensors"), tmp_path.glob("*.sha256")
    data = path.read_bytes()
    if damage == "bit":
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        checksum.write_text("")
    elif damage == "checksum":
        checksum.write_text("0" * 64 + f"  {path.name}\n")
    else:
        checksum.unlink()
    capsys.readouterr()
    assert same(weights(tmp_path), first)
    said = capsys.readouterr().out
    assert BUILT in said
    assert ("it is made again" in said) == (damage != "no-checksum")
    assert same(weights(tmp_path), first)
    assert BUILT not in capsys.readouterr().out


def test_of_two_processes_one_trains(tmp_path: Path) -> None:
    """The other waits and reads what was written."""
    program = (
        "import sys, pathlib; from recipes.latent_prefix.pretrained import *; "
        f"load_pretrained(Config(steps={FEW_STEPS}), pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = "".join(process.communicate(timeout=120)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said.count(BUILT) == 1


def test_an_artifact_is_named_by_all_it_depends_on(facts: Facts, passages: Passages) -> None:
    """Other settings and other facts have other names."""
    fewer = passages_of(Facts(train=facts.train[1:], held_out=facts.held_out))
    names = [fingerprint(CONFIG, passages), fingerprint(Config(steps=6), passages), fingerprint(CONFIG, fewer)]
    assert len(set(names)) == 3
    assert fingerprint(Config(steps=FEW_STEPS), passages_of(facts)) == names[0]


def test_settings_that_mean_nothing_are_refused(latent_args: dict[str, Any]) -> None:
    """With the value and what is allowed."""
    with pytest.raises(ValueError, match=r"gold_share is 1\.5; it must be a share from 0 to 1"):
        LatentPrefix(**{**latent_args, "gold_share": 1.5})


SHORT = f"""
extends: recipes/latent_prefix.smoke.yaml
args: {{pretraining_steps: {FEW_STEPS}}}
full: {{batch_size: 8, warmup_steps: 5}}
smoke: {{steps_per_epoch: 10, evaluate_every_steps: 100}}
stages:
  - name: A
    full_steps: 2000
    steps: 100
    train: ["encoder.*"]
    phases: [{{name: text, epochs: 2}}, {{name: latent}}]
  - name: B
    full_steps: 6660
    steps: 100
    train: ["*lora_*", "encoder.*"]
    phases: [{{name: text, epochs: 1}}, {{name: latent}}]
checks: {{accept: [latent_em >= 0, latent_pos2_acc >= 0, max(grad_norm) < 500], full_accept: [latent_f1 > 0.1]}}
"""


def smoke(pytester: pytest.Pytester, recipe: str) -> tuple[dict[str, Any], str]:
    """The outcome of a recipe in a new project that has ours, and what the terminal said."""
    link = pytester.path / "recipes"
    if not link.exists():
        link.symlink_to(ROOT / "recipes")
    (pytester.path / "short.smoke.yaml").write_text(recipe)
    pytester.makeini("[pytest]\n")
    run = pytester.runpytest_subprocess(
        "--smoke", "--smoke-device", "cpu", "--smoke-report", "report", "short.smoke.yaml", timeout=600
    )
    (outcome,) = json.loads((pytester.path / "report" / "verdicts.json").read_text())["outcomes"]
    assert (run.ret == 0) == (outcome["verdict"] == "promote"), run.stdout.str()
    return outcome, run.stdout.str()


@pytest.mark.usefixtures("latent_cache")
def test_a_short_smoke_goes_through_both_stages_and_repeats_itself(pytester: pytest.Pytester) -> None:
    """In child processes: adapters join in stage B, what is frozen stays, and two runs give the same losses."""
    first, said = smoke(pytester, SHORT)
    assert first["verdict"] == "promote", first["text"]
    findings = {finding["id"]: finding for finding in first["findings"]}
    assert findings["updates[A]"]["status"] == findings["updates[B]"]["status"] == "pass"
    metrics = set(first["metrics"])
    for condition in ("text", "budget", "blind", "latent"):
        assert {f"{condition}_{name}" for name in ("nll", "em", "f1", "first_acc", "first_top5", "pos2_acc")} <= metrics
    table = said.partition("acceptance of short.smoke.yaml::constant")[2]
    for row in ("infrastructure .* (pass|WARN)", "latent_em >= 0 +0 +[0-9.e-]+ +pass", "latent_f1 > 0.1 +full run"):
        assert re.search(row, table), said
    again, _ = smoke(pytester, SHORT)
    assert again["curve"] == first["curve"]
    assert again["metrics"] == first["metrics"]


@pytest.mark.usefixtures("latent_cache")
def test_a_planted_regression_stops_in_its_stage(pytester: pytest.Pytester) -> None:
    """A thousand times the learning rate ruins the encoder in its warm-up, and stage B never starts."""
    outcome, said = smoke(pytester, SHORT.replace("full: {batch_size: 8,", "full: {learning_rate: 3.0, batch_size: 8,"))
    assert outcome["verdict"] == "unstable", outcome["text"]
    assert outcome["step"] < 60
    assert outcome["facts"]["steps"] < 100
    findings = {finding["id"]: finding["status"] for finding in outcome["findings"]}
    assert findings["loss-trend[A]"] == "fail"
    assert findings["loss-trend[B]"] == "not-checked"
    assert re.search(r"reduce the learning_rate \(3\) of stage A", said)


@pytest.mark.usefixtures("latent_cache")
def test_a_misspelt_stage_glob_is_an_error(pytester: pytest.Pytester) -> None:
    """LoRA's parameters exist where stage B begins, not before."""
    outcome, _ = smoke(pytester, SHORT.replace('train: ["encoder.*"]', 'train: ["*lora_*"]'))
    assert outcome["verdict"] == "error"
    assert "matches no parameter" in outcome["text"]


def test_the_folder_of_artifacts_is_no_part_of_the_project() -> None:
    """git ignores where the recipe keeps them unless told otherwise."""
    assert FOLDER_VARIABLE.isupper()
    ignored = subprocess.run(
        ["git", "check-ignore", "recipes/latent_prefix/.cache/x.safetensors"],
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    assert ignored.returncode == 0
