"""The cached language model of latent_prefix, its determinism, and real smoke runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
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
TRAINED = f"training the language model once, {FEW_STEPS} steps"

Smoke = Callable[[str], tuple[dict[str, Any], str]]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the model in the folder, which is trained first if it is missing."""
    model = load_pretrained(CONFIG, folder).model
    assert not any(parameter.requires_grad for parameter in model.parameters())
    return dict(model.state_dict())


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Compare bit by bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_the_model_is_trained_once_and_then_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The random state is restored, and another folder gets the same weights."""
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = weights(tmp_path)
    assert TRAINED in capsys.readouterr().out
    assert same(weights(tmp_path), first)
    assert TRAINED not in capsys.readouterr().out
    assert torch.equal(torch.random.get_rng_state(), state)
    assert same(weights(tmp_path / "other"), first)
    names = sorted(path.name.rpartition(".")[2] for path in tmp_path.iterdir() if path.is_file())
    assert names == ["lock", "safetensors", "sha256"]
    (checksum,) = tmp_path.glob("*.sha256")
    subprocess.run(["sha256sum", "--check", "--strict", checksum.name], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "checksum", "no-checksum"])
def test_a_damaged_file_is_reported_and_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
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
    output = capsys.readouterr().out
    assert TRAINED in output
    assert ("training again" in output) == (damage != "no-checksum")
    assert same(weights(tmp_path), first)
    assert TRAINED not in capsys.readouterr().out


def test_of_two_processes_one_trains_and_the_other_waits(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from recipes.latent_prefix.pretrained import *; "
        f"load_pretrained(Config(steps={FEW_STEPS}), pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    output = "".join(process.communicate(timeout=120)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert output.count(TRAINED) == 1


def test_other_settings_or_facts_have_another_fingerprint(facts: Facts, passages: Passages) -> None:
    fewer = passages_of(Facts(train=facts.train[1:], held_out=facts.held_out))
    names = [fingerprint(CONFIG, passages), fingerprint(Config(steps=6), passages), fingerprint(CONFIG, fewer)]
    assert len(set(names)) == 3
    assert fingerprint(Config(steps=FEW_STEPS), passages_of(facts)) == names[0]


def test_a_share_above_1_is_an_error(latent_args: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"gold_share is 1\.5, but must be between 0 and 1"):
        LatentPrefix(**{**latent_args, "gold_share": 1.5})


TASK = """
from recipes.latent_prefix import LatentPrefix, task

task.EVALUATION_QUESTIONS = 40  # to generate answers to the shipped recipe's number takes a third of the time

class Short(LatentPrefix):
    def probe_batch(self):  # the default one of 64 questions is scored 80 times, which takes as long as all the rest
        return next(self.batches(8, seed=1))
"""
SHORT = f"""
extends: recipes/latent_prefix.smoke.yaml
task: short_task:Short
args: {{pretraining_steps: {FEW_STEPS}}}
full: {{batch_size: 8, warmup_steps: 5}}
smoke: {{steps_per_epoch: 10, evaluate_every_steps: 80}}
stages:
  - name: A
    full_steps: 2000
    steps: 80
    train: ["encoder.*"]
    phases: [{{name: text, epochs: 2}}, {{name: latent}}]
  - name: B
    full_steps: 6660
    steps: 80
    train: ["*lora_*", "encoder.*"]
    phases: [{{name: text, epochs: 1}}, {{name: latent}}]
checks: {{accept: [latent_em >= 0, latent_pos2_acc >= 0, max(grad_norm) < 500], full_accept: [latent_f1 > 0.1]}}
"""


@pytest.fixture
def smoke(pytester: pytest.Pytester, run_pytest: Callable[..., pytest.RunResult]) -> Smoke:
    """Run a recipe in a new project that has the shipped recipes; return its outcome and the terminal output."""
    (pytester.path / "recipes").symlink_to(ROOT / "recipes")
    (pytester.path / "short_task.py").write_text(TASK)
    pytester.makeini("[pytest]\n")

    def smoke(recipe: str) -> tuple[dict[str, Any], str]:
        (pytester.path / "short.smoke.yaml").write_text(recipe)
        run = run_pytest("--smoke", "--smoke-report", "report", "short.smoke.yaml")
        (outcome,) = json.loads((pytester.path / "report" / "verdicts.json").read_text())["outcomes"]
        assert (run.ret == 0) == (outcome["verdict"] == "promote"), run.stdout.str()
        return outcome, run.stdout.str()

    return smoke


@pytest.mark.usefixtures("latent_cache")
def test_a_short_smoke_run_trains_both_stages_and_is_deterministic(smoke: Smoke) -> None:
    first, output = smoke(SHORT)
    assert first["verdict"] == "promote", first["text"]
    findings = {finding["id"]: finding for finding in first["findings"]}
    assert findings["updates[A]"]["status"] == findings["updates[B]"]["status"] == "pass"
    metrics = set(first["metrics"])
    for condition in ("text", "budget", "blind", "latent"):
        assert {f"{condition}_{name}" for name in ("nll", "em", "f1", "first_acc", "first_top5", "pos2_acc")} <= metrics
    table = output.partition("acceptance of short.smoke.yaml::constant")[2]
    for row in (
        "(pass|warn) +all other checks ",
        "pass +latent_em >= 0 +0 +[0-9.e-]+\n",
        "full run only +latent_f1 > 0.1\n",
    ):
        assert re.search(row, table), output
    again, _ = smoke(SHORT)
    assert again["curve"] == first["curve"]
    assert again["metrics"] == first["metrics"]


@pytest.mark.usefixtures("latent_cache")
def test_a_divergence_in_stage_a_keeps_stage_b_from_starting(smoke: Smoke) -> None:
    """1,000 times the learning rate, which diverges in the warmup."""
    outcome, output = smoke(SHORT.replace("full: {batch", "full: {learning_rate: 3.0, batch"))
    assert outcome["verdict"] == "unstable", outcome["text"]
    assert outcome["step"] < 60
    assert outcome["facts"]["steps"] < 80
    findings = {finding["id"]: finding["status"] for finding in outcome["findings"]}
    assert findings["loss-trend[A]"] == "fail"
    assert findings["loss-trend[B]"] == "not-checked"
    assert re.search(r"reduce the learning_rate \(3\) of stage A", output)


@pytest.mark.usefixtures("latent_cache")
def test_a_stage_glob_without_a_parameter_is_an_error(smoke: Smoke) -> None:
    """LoRA's parameters exist from stage B on, not in stage A."""
    outcome, _ = smoke(SHORT.replace('train: ["encoder.*"]', 'train: ["*lora_*"]'))
    assert outcome["verdict"] == "error"
    assert "matches no parameter" in outcome["text"]


def test_git_ignores_the_cache_folder() -> None:
    assert FOLDER_VARIABLE.isupper()
    ignored = subprocess.run(
        ["git", "check-ignore", "recipes/latent_prefix/.cache/x.safetensors"],
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    assert ignored.returncode == 0
