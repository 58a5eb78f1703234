"""The text of the starter recipe and its task; `@NAME@` and `@CLASS@` are replaced."""

RECIPE = """\
# A verdict smoke: a short run that says whether the full run is worth launching.
#   pytest --smoke @NAME@.smoke.yaml                     train it and judge it
#   pytest --smoke-preflight @NAME@.smoke.yaml           only compare it with the full run; nothing trains
# Numbers: write 1.0e-3, not 1e-3 (YAML reads that as text). Unknown keys are errors, so typing mistakes show.

# The Python class that makes model, data and losses: `package.module:Name`, imported from pytest's root folder.
# In a subfolder of it that comes in front: `recipes.@NAME@_task:@CLASS@`.
task: @PACKAGE@@NAME@_task:@CLASS@

# What the class is called with. These are settings of the full run too.
args:
  hidden_size: 64

# The full run, which costs hours. Its settings are the truth; the smoke inherits all but length and schedule.
full:
  batch_size: 256          # samples per device and micro-batch
  grad_accum_steps: 4      # micro-batches per optimizer step
  world_size: 1            # devices; effective batch = 256 x 4 x 1 = 1,024 samples
  learning_rate: 3.0e-3    # the peak
  lr_schedule: cosine      # what follows the warm-up in the full run
  warmup_steps: 60         # optimizer steps, linear from 0
  max_steps: 20000         # optimizer steps of the full run
  precision: fp32          # or bf16, fp16
  grad_clip_norm: 1.0      # largest gradient norm; leave it out for no clipping
  from_scratch: true       # random weights at the start: a loss that never falls is then no evidence

# The smoke that stands in for it.
smoke:
  change: new-recipe       # what is new; it picks the mode. When in doubt: constant, the peak rate to the end
  # mode: constant         # name a mode to overrule `change`: constant, long-tail or wiring
  max_steps: 600           # optimizer steps; 552 of them at 80 % of the peak rate or more: that is the evidence
  seed: 0                  # weights and data order
  evaluate_every_steps: 200

# What must hold besides a loss that stays stable.
checks:
  accept:
    - val_accuracy > 0.6   # the last value of a metric
    - max(grad_norm) < 100

# The same smoke with one setting changed, as `@NAME@.smoke.yaml::constant[wide]`. Delete the # to run it too.
# ablate:
#   wide: {args.hidden_size: 128}

# What the machine must have; the smoke is skipped elsewhere.
requires:
  device: any              # cpu, cuda or mps to insist
"""

TASK = '''\
"""The task of @NAME@.smoke.yaml: a small classifier that learns from a known teacher."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

FEATURES = 16
CLASSES = 4
Batch = tuple[Tensor, Tensor]


class @CLASS@:
    """Replace the methods with your own model, data and losses; the training loop is the tool's."""

    def __init__(self, hidden_size: int = 64) -> None:
        self.hidden_size = hidden_size
        # The teacher has a generator of its own, so the task is the same whatever the smoke's seed.
        fixed = torch.Generator().manual_seed(20)
        self.teacher = torch.randn(FEATURES, CLASSES, generator=fixed)
        self.validation = self.sample(2048, fixed)

    def model(self) -> nn.Module:
        """A new model with random weights; the seed is set before the call."""
        return nn.Sequential(
            nn.Linear(FEATURES, self.hidden_size),
            nn.GELU(),
            nn.Linear(self.hidden_size, self.hidden_size),
            nn.GELU(),
            nn.Linear(self.hidden_size, CLASSES),
        )

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        """Micro-batches without end; each rank draws samples of its own."""
        generator = torch.Generator().manual_seed(seed * world_size + rank)
        while True:
            yield self.sample(batch_size, generator)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Named loss terms, each a mean over the batch; several terms are weighted and added up."""
        features, labels = batch
        return {"ce": functional.cross_entropy(model(features), labels)}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Metrics for `checks.accept`, on samples that training never sees."""
        device = next(model.parameters()).device
        features, labels = (part.to(device) for part in self.validation)
        with torch.no_grad():
            predicted = model(features).argmax(dim=1)
        return {"val_accuracy": (predicted == labels).float().mean().item()}

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """Random features, and labels that the teacher draws from its own class probabilities."""
        features = torch.randn(count, FEATURES, generator=generator)
        scores = torch.tanh(features) @ self.teacher
        labels = torch.multinomial(scores.softmax(dim=1), 1, generator=generator).squeeze(1)
        return features, labels
'''
