"""Utilization is sampled during training, and a failure to read it has no effect on training."""

from __future__ import annotations

import threading

import pytest
import torch

from pytest_smoke.train.machine import Utilization, utilization_reader


def test_the_mean_is_that_of_the_readings() -> None:
    values, third_reading = [20.0, 40.0, 90.0], threading.Event()

    def read() -> float:
        if len(values) == 1:
            third_reading.set()
        return values.pop(0)

    with Utilization(read, every_seconds=0.001) as utilization:
        assert third_reading.wait(10)
    assert utilization.mean_percent == 50.0  # a fourth reading raises, which ends the sampling


def test_a_reader_that_raises_leaves_no_figure_and_no_exception() -> None:
    was_read = threading.Event()

    def read() -> float:
        was_read.set()
        raise RuntimeError("driver not loaded")

    with Utilization(read, every_seconds=0.001) as utilization:
        assert was_read.wait(10)
    assert utilization.mean_percent is None


def test_on_a_cpu_nothing_is_sampled_and_no_thread_is_started() -> None:
    before = threading.active_count()
    assert utilization_reader(torch.device("cpu")) is None
    with Utilization(None) as utilization:
        assert threading.active_count() == before
    assert utilization.mean_percent is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_reports_percent_if_nvml_is_installed() -> None:
    pytest.importorskip("pynvml")
    read = utilization_reader(torch.device("cuda"))
    assert read is not None
    assert 0.0 <= read() <= 100.0
