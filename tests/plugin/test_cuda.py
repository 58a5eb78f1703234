"""Smoke runs on a CUDA device: what trains, what is measured there, and its own ways to fail."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Project

pytestmark = pytest.mark.gpu

TASKS = """
import torch
from torch import nn
from torch.nn import functional as F

from tasks import Teacher


class Breaks(Teacher):
    def __init__(self, how, at_batch=60):
        super().__init__()
        self.how, self.left = how, at_batch

    def losses(self, model, batch):
        self.left -= 1
        points, labels = batch["points"], batch["labels"]
        if self.left <= 0 and self.how == "memory":
            torch.empty(4 * torch.cuda.mem_get_info()[1], dtype=torch.uint8, device=points.device)
        if self.left <= 0 and self.how == "other device":
            labels = labels.cpu()
        return {"ce": F.cross_entropy(model(points), labels)}


class BadLabel(Teacher):
    def batches(self, batch_size, *, seed, rank=0, world_size=1):
        batches = super().batches(batch_size, seed=seed, rank=rank, world_size=world_size)
        for at, batch in enumerate(batches):
            if at >= 60:
                batch["labels"] = batch["labels"].clone()
                batch["labels"][3] = 12
            yield batch


class Constant(Teacher):
    def losses(self, model, batch):
        return {**super().losses(model, batch), "offset": torch.tensor(0.0)}


class Counted(Teacher):
    def __init__(self):
        super().__init__()
        self.weights = torch.tensor([1.0, 2.0, 1.0, 0.5])

    def losses(self, model, batch):
        weights = self.weights.to(batch["points"].device)
        return {"ce": F.cross_entropy(model(batch["points"]), batch["labels"], weights)}

    def counts(self, batch):
        return self.weights[batch["labels"]].sum().item()


class Wide(Teacher):
    def model(self):
        return nn.Sequential(nn.Linear(16, 2048), nn.GELU(), nn.Linear(2048, 2048), nn.GELU(), nn.Linear(2048, 4))
"""


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_a_recipe_trains_on_the_device(project: Project, device: str) -> None:
    project.recipe()
    project.run("--smoke", "--smoke-device", device, "--smoke-report", "out").assert_outcomes(passed=1)
    (outcome,) = project.verdicts()
    assert outcome["facts"]["device"] == "cuda:0"
    assert outcome["facts"]["device_name"] != "cuda"
    assert outcome["facts"]["peak_memory_gib"] > 0
    assert {"cuda", "cuda-driver", "cudnn"} <= outcome["facts"]["versions"].keys()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_recipe_trains_in_reduced_precision(project: Project, precision: str) -> None:
    (project.path / "cuda_tasks.py").write_text(TASKS)
    project.recipe()
    project.extending("wide", f"task: cuda_tasks:Wide\nfull: {{precision: {precision}, learning_rate: 1.0e-3}}\n")
    project.run("--smoke", "--smoke-device", "cuda", "wide.smoke.yaml").assert_outcomes(passed=1)


@pytest.mark.parametrize("task", ["Constant", "Counted"])
def test_a_task_may_use_tensors_of_its_own_on_the_cpu(project: Project, task: str) -> None:
    """A loss term that is a constant, and a `counts` that indexes its weights with the labels."""
    (project.path / "cuda_tasks.py").write_text(TASKS)
    project.recipe()
    project.extending("own", f"task: cuda_tasks:{task}\nfull: {{grad_accum_steps: 2}}\n")
    project.run("--smoke", "--smoke-device", "cuda", "own.smoke.yaml").assert_outcomes(passed=1)


def test_gradients_that_are_switched_off_are_seen_on_the_device(project: Project) -> None:
    project.recipe()
    project.extending("stops", "task: tasks:StopsTraining\nargs: {at_step: 200}\n")
    result = project.run("--smoke", "--smoke-device", "cuda", "stops.smoke.yaml")
    result.stdout.fnmatch_lines(["hold (zero-gradient): *"])


def test_faults_on_the_device_end_with_their_own_reason(project: Project) -> None:
    """A label out of range is an assertion on the device, after which the process cannot use it any more."""
    (project.path / "cuda_tasks.py").write_text(TASKS)
    project.recipe()
    project.extending("label", "task: cuda_tasks:BadLabel\n")
    for how in ("memory", "other device"):
        project.extending(how.replace(" ", "_"), f"task: cuda_tasks:Breaks\nargs: {{how: {how}}}\n")
    project.run("--smoke", "--smoke-device", "cuda", "--smoke-report", "out")
    verdicts = {outcome["recipe"].partition(".")[0]: outcome for outcome in project.verdicts()}
    assert verdicts["good"]["verdict"] == "promote"
    assert (
        verdicts["label"]["verdict"] == verdicts["memory"]["verdict"] == verdicts["other_device"]["verdict"] == "error"
    )
    assert "batch['labels'][3] is 12, but cross_entropy over 4 classes takes 0 to 3" in verdicts["label"]["text"]
    assert "before the first step" not in verdicts["label"]["text"]
    assert verdicts["memory"]["reason"] == "out-of-memory"
    assert "same device" in verdicts["other_device"]["text"]
