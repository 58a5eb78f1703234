"""Run `probe` and check its output and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
CONTROLS = ROOT / "tests" / "controls"

EIGHT = """
import torch
from torch import nn
class Eight:
    def model(self): return nn.Linear(4, 8, bias=False)
    def batches(self, batch_size, *, seed, rank=0, world_size=1):
        g = torch.Generator().manual_seed(seed)
        while True: yield torch.randn(batch_size, 4, generator=g)
    def losses(self, model, batch):
        print("a task that prints")
        w = model.weight
        out = {f"t{n}": w[n].sum() for n in range(6)}
        out["against_t3"] = -2 * w[3].sum()
        out["nan"] = w[7].sum() * NAN
        return out
"""


def probe(*args: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest_smoke", "probe", *map(str, args), "--device", "cpu"]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def test_the_dominant_term_is_found_on_the_checkpoint_of_a_stopped_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "--smoke", "-q", "-p", "no:cacheprovider", "--smoke-device", "cpu"]
    command += [
        "-o",
        "smoke_files=*.control.yaml",
        "--smoke-report",
        str(tmp_path),
        str(CONTROLS / "dominates.control.yaml"),
    ]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=300)
    (folder,) = (tmp_path / "checkpoints").glob("*/trained")
    run = probe(CONTROLS / "dominates.control.yaml", "--checkpoint", folder)
    assert run.returncode == 1, run.stderr
    assert "dominates.control.yaml: 2 loss terms on" in run.stdout
    assert "(trained, before step 800)" in run.stdout
    assert "8 effective batches of 128 samples, on cpu" in run.stdout
    assert "that of ce: size dominates" in " ".join(run.stdout.split())
    assert "outside the bounds [0.01, 8]" in " ".join(run.stdout.split())
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes((folder / "model.safetensors").read_bytes())
    again = probe(CONTROLS / "dominates.control.yaml", "--checkpoint", bare)
    assert again.stdout.split("\n\n")[1:] == run.stdout.split("\n\n")[1:]


def test_a_balanced_task_exits_with_0_and_correct_norms_in_strict_json() -> None:
    run = probe(CONTROLS / "balanced.control.yaml", "--batches", "3", "--format", "json")
    assert run.returncode == 0, run.stderr
    tree = json.loads(run.stdout)
    assert (tree["checkpoint"], tree["batches"], tree["effective_batch_samples"]) == (None, 3, 128)
    assert [term["name"] for term in tree["terms"]] == ["ce", "size"]
    assert tree["within"] is True
    from pytest_smoke.train.instrumentation import POSTMORTEM_SEED_OFFSET
    from tests.controls.tasks import TwoTerms

    task = TwoTerms(scale=0.1)
    torch.manual_seed(0)
    model = task.model()
    drawn = task.batches(64, seed=POSTMORTEM_SEED_OFFSET)
    one, two = next(drawn), next(drawn)
    whole = {key: torch.cat([one[key], two[key]]) for key in one}
    gradient = torch.autograd.grad(task.losses(model, whole)["ce"], list(model.parameters()))
    norm = torch.cat([g.flatten() for g in gradient]).norm().item()
    low, high = tree["terms"][0]["raw"]["low"], tree["terms"][0]["raw"]["high"]
    assert low * (1 - 1e-5) <= norm <= high * (1 + 1e-5)
    assert probe(CONTROLS / "balanced.control.yaml", "--batches", "1").stdout.count("(no --checkpoint given)") == 1


@pytest.mark.parametrize(("value", "code"), [("1.0", 0), ("float('nan')", 1)])
def test_eight_terms_get_a_cosine_matrix_and_nan_is_named(tmp_path: Path, value: str, code: int) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "eight.py").write_text(EIGHT.replace("NAN", value))
    recipe = "task: eight:Eight\nfull: {batch_size: 4, learning_rate: 0.1, max_steps: 100}\nsmoke: {max_steps: 50}\n"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "eight.smoke.yaml").write_text(recipe)
    run = probe("eight.smoke.yaml", cwd=tmp_path / "sub")
    assert run.returncode == code, run.stdout + run.stderr
    assert "most conflicting: against_t3/t3 (median cosine -1.00)" in run.stdout
    assert "terms against_t3 has the largest gradient" in " ".join(run.stdout.split())
    assert "a task that prints" not in run.stdout
    matrix = run.stdout.split("cosines")[1].splitlines()
    assert matrix[0].split() == list("12345678")
    row = matrix[7].split()
    assert (row[:2], row[5], row[8]) == (["7", "against_t3"], "-1.00", "1")
    assert ("the gradient of nan is not finite on 8 of 8 batches" in run.stdout) == (code == 1)
    assert max(map(len, run.stdout.splitlines())) < 140


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["base.control.yaml"], "has one loss term, 'ce': a gradient probe compares two or more terms"),
        (["none.smoke.yaml"], "none.smoke.yaml"),
        (["dominates.control.yaml", "--cell", "x"], "--cell x: "),
        (["dominates.control.yaml", "--checkpoint", "nowhere.pt"], "nowhere.pt: No such file"),
        (["dominates.control.yaml", "--device", "gpu"], "'gpu': must be auto, cpu, mps, cuda or cuda:N"),
        (["dominates.control.yaml", "--batches", "0"], "'0' is not a whole number of 1 or more"),
    ],
)
def test_a_failed_probe_is_one_error_and_exit_code_2(args: list[str], words: str) -> None:
    command = [sys.executable, "-m", "pytest_smoke", "probe", *args]
    run = subprocess.run(command, cwd=CONTROLS, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 2
    assert words in run.stderr
    assert "Traceback" not in run.stderr


def test_a_checkpoint_of_another_model_names_the_parameters_that_do_not_fit(tmp_path: Path) -> None:
    state: Any = nn.Linear(3, 3).state_dict()
    torch.save({"state_dict": state}, tmp_path / "a.pt")
    run = probe(CONTROLS / "dominates.control.yaml", "--checkpoint", tmp_path / "a.pt")
    assert run.returncode == 2
    assert "4 missing: 0.weight, 0.bias, 2.weight and 1 more; 2 unexpected: weight and bias" in run.stderr
