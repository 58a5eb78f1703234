"""Imported by the fork server, so that no child has to. It must not train, start threads or touch CUDA."""

import torch
import torch._dynamo  # imported on first use by torch.optim: half of a child's start  # noqa: F401

from pytest_smoke.run import worker  # noqa: F401

assert not torch.cuda.is_initialized(), "a forked child cannot use a CUDA context of its parent"
