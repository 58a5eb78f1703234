"""Run `probe` and check its output and exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pytest_smoke.__main__ import main
from tests import shared_fork_server
from tests.conftest import OPTIONS
from tests.session_server import SessionServer

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


Run = subprocess.CompletedProcess[str]
Probe = Callable[..., Run]


def in_a_process(*args: str | Path) -> Run:
    command = [sys.executable, "-m", "pytest_smoke", "probe", *map(str, args), "--device", "cpu"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Probe:
    """Run the command in this process, which has imported torch; return what a process of its own would return."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def probe(*args: str | Path, cwd: Path = ROOT) -> Run:
        monkeypatch.chdir(cwd)
        command = ["probe", *map(str, args)]
        capsys.readouterr()  # what the test itself printed
        try:
            code = main(command if "--device" in command else [*command, "--device", "cpu"])
        except SystemExit as usage_error:
            code = int(usage_error.code or 0)
        return subprocess.CompletedProcess(command, code, *capsys.readouterr())

    return probe


def test_the_dominant_term_is_found_on_the_checkpoint_of_a_stopped_run(
    probe: Probe,
    session_server: SessionServer,
    fork_server: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in fork_server.items():
        monkeypatch.setenv(name, value)
    plugins, report = tmp_path / "plugins", tmp_path / "report"
    plugins.mkdir()
    shutil.copy(shared_fork_server.__file__, plugins)
    monkeypatch.setenv("PYTHONPATH", str(plugins), prepend=os.pathsep)
    # The session server has imported the plugin before pytest could rewrite its assertions, of which it has few.
    warm = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    options = ["--smoke", "-p", "no:cacheprovider", *warm, *OPTIONS, "-o", "smoke_files=*.control.yaml"]
    recipe = str(CONTROLS / "dominates.control.yaml")
    session_server.run([*options, "--smoke-report", str(report), recipe], cwd=ROOT)
    (folder,) = (report / "checkpoints").glob("*/trained")
    run = in_a_process(CONTROLS / "dominates.control.yaml", "--checkpoint", folder)
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


def test_a_balanced_task_exits_with_0_and_correct_norms_in_strict_json(probe: Probe) -> None:
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
def test_eight_terms_get_a_cosine_matrix_and_nan_is_named(
    probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, code: int
) -> None:
    monkeypatch.delitem(sys.modules, "eight", raising=False)
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
def test_a_failed_probe_is_one_error_and_exit_code_2(probe: Probe, args: list[str], words: str) -> None:
    run = probe(*args, cwd=CONTROLS)
    assert run.returncode == 2
    assert words in run.stderr
    assert "Traceback" not in run.stderr


def test_a_checkpoint_of_another_model_names_the_parameters_that_do_not_fit(probe: Probe, tmp_path: Path) -> None:
    state: Any = nn.Linear(3, 3).state_dict()
    torch.save({"state_dict": state}, tmp_path / "a.pt")
    run = probe(CONTROLS / "dominates.control.yaml", "--checkpoint", tmp_path / "a.pt")
    assert run.returncode == 2
    assert "4 missing: 0.weight, 0.bias, 2.weight and 1 more; 2 unexpected: weight and bias" in run.stderr
