"""What a task changes in the process of its smoke run, another smoke run does not see."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.modules import module as torch_modules

from pytest_smoke.train.global_state import restored_globals


def other_folder() -> None:
    os.chdir("/")


def other_handler() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def other_streams() -> None:
    sys.stdout = sys.stderr


CHANGES: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "torch's default dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "torch's default device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "torch's grad mode": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "torch's anomaly detection": (lambda: torch.autograd.set_detect_anomaly(True), torch.is_anomaly_enabled),
    "torch's deterministic algorithms": (
        lambda: torch.use_deterministic_algorithms(True),
        torch.are_deterministic_algorithms_enabled,
    ),
    "autocast on cpu": (
        lambda: torch.autocast("cpu", dtype=torch.bfloat16).__enter__(),
        lambda: torch.is_autocast_enabled("cpu"),
    ),
    "torch's float32 matmul precision": (
        lambda: torch.set_float32_matmul_precision("medium"),
        torch.get_float32_matmul_precision,
    ),
    "torch.backends.cudnn.benchmark": (
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
        lambda: torch.backends.cudnn.benchmark,
    ),
    "torch's print options": (lambda: torch.set_printoptions(precision=1), lambda: str(torch.tensor(0.123456))),
    "global hooks of torch modules": (
        lambda: torch_modules.register_module_forward_hook(lambda *_: None),
        lambda: len(torch_modules._global_forward_hooks),
    ),
    "environment variables": (lambda: os.environ.update(SMOKE_LEAK="1"), lambda: dict(os.environ)),
    "the current folder": (other_folder, os.getcwd),
    "sys.path": (lambda: sys.path.append("/nowhere"), lambda: list(sys.path)),
    "signal handlers": (other_handler, lambda: signal.getsignal(signal.SIGUSR1)),
    "the recursion limit": (lambda: sys.setrecursionlimit(5000), sys.getrecursionlimit),
    "the garbage collector": (gc.disable, gc.isenabled),
    "sys.stdout and sys.stderr": (other_streams, lambda: sys.stdout),
    "logging": (lambda: logging.disable(logging.CRITICAL), lambda: logging.root.manager.disable),
    "numpy's error handling": (lambda: np.seterr(all="raise"), np.geterr),
    "numpy's print options": (lambda: np.set_printoptions(precision=1), np.get_printoptions),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_restored_and_named(name: str) -> None:
    change, read = CHANGES[name]
    before = read()
    with restored_globals("/root") as changed:
        change()
        assert read() != before
    assert read() == before
    assert name in changed
    if name != "torch's deterministic algorithms":  # which changes more than one thing
        assert changed == [name]


def test_what_every_run_changes_is_restored_and_not_named() -> None:
    before = torch.get_num_threads(), list(sys.path), random.getstate(), torch.get_rng_state(), np.random.get_state()[1]
    filters = list(warnings.filters)
    with restored_globals("/root") as changed:
        warnings.simplefilter("ignore")
        torch.set_num_threads(before[0] + 1)
        sys.path.insert(0, "/root")
        random.seed(5)
        torch.manual_seed(5)
        np.random.seed(5)
    after = torch.get_num_threads(), list(sys.path), random.getstate(), torch.get_rng_state(), np.random.get_state()[1]
    assert changed == []
    assert warnings.filters == filters
    assert before[:3] == after[:3]
    assert torch.equal(before[3], after[3])
    assert np.array_equal(before[4], after[4])


def test_everything_is_restored_after_an_exception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if one part cannot be: the folder that was current is gone."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)

    def change_and_raise() -> None:
        os.chdir(tmp_path)
        gone.rmdir()
        torch.set_default_dtype(torch.float64)
        sys.setrecursionlimit(5000)
        raise KeyError

    with pytest.raises(KeyError), restored_globals("/root"):
        change_and_raise()
    assert torch.get_default_dtype() == torch.float32
    assert sys.getrecursionlimit() != 5000


def test_a_run_starts_with_the_defaults_of_torch() -> None:
    """As in a process of its own, whatever a test in this one has set."""
    torch.set_default_dtype(torch.float64)
    try:
        with restored_globals("/root") as changed:
            assert torch.get_default_dtype() == torch.float32
        assert torch.get_default_dtype() == torch.float64
        assert changed == []
    finally:
        torch.set_default_dtype(torch.float32)
