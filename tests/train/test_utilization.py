"""Utilisation is sampled beside the training, and never at its cost."""

from __future__ import annotations

import threading

import pytest
import torch

from pytest_smoke.train.utilization import Utilization, reader_of


def test_the_mean_is_of_what_was_read_while_it_ran() -> None:
    """And nothing is read after it."""
    values, three = [20.0, 40.0, 90.0], threading.Event()

    def read() -> float:
        if len(values) == 1:
            three.set()
        return values.pop(0)

    with Utilization(read, every_seconds=0.001) as sampled:
        assert three.wait(10)
    assert sampled.mean_percent == 50.0  # a fourth reading raises, and ends the sampling with what there is


def test_a_reader_that_fails_leaves_no_figure_and_no_exception() -> None:
    """A driver that goes away must not end a rehearsal."""
    asked = threading.Event()

    def read() -> float:
        asked.set()
        raise RuntimeError("driver not loaded")

    with Utilization(read, every_seconds=0.001) as sampled:
        assert asked.wait(10)
    assert sampled.mean_percent is None


def test_there_is_none_on_a_cpu() -> None:
    """And no thread for it."""
    before = threading.active_count()
    assert reader_of(torch.device("cpu")) is None
    with Utilization(None) as sampled:
        assert threading.active_count() == before
    assert sampled.mean_percent is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_answers_where_nvml_is_installed() -> None:
    """A share of the time, in per cent."""
    pytest.importorskip("pynvml")
    read = reader_of(torch.device("cuda"))
    assert read is not None
    assert 0.0 <= read() <= 100.0
