"""Modules that the fork server imports, so that no training process has to. Must not start threads or touch CUDA."""

import torch
import torch._dynamo  # imported on first use by torch.optim: half of the start-up time of a training process

from pytest_smoke.train import worker  # noqa: F401  # imported for its side effect

cuda_in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch types it so
assert not cuda_in_use, "a forked process cannot use its parent's CUDA context"
