"""Imported by the fork server, so that no child has to. It must not train, start threads or touch CUDA."""

import torch
import torch._dynamo  # imported on first use by torch.optim: half of a child's start

from pytest_smoke.train import worker  # noqa: F401

cuda_in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch types it so
assert not cuda_in_use, "a forked child cannot use a CUDA context of its parent"
