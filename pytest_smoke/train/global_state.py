"""Global state of a process that smoke runs share: it is the same before and after each of them."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch._dynamo  # torch.optim imports it on first use, and it sets an environment variable and a warnings filter
import torch._functorch.config as functorch_config
from torch.nn.modules import module as torch_modules

from pytest_smoke.train.device import generator_states, set_generator_states

CPU = torch.device("cpu")
AUTOCAST_DEVICES = ("cpu", "cuda")
TORCH_VARIABLES = ("TORCHINDUCTOR_", "TRITON_")
"""Beginnings of the environment variables that torch sets itself: the first step of an optimizer sets one."""
UNSET = object()


@dataclass(frozen=True, slots=True)
class Setting:
    """A part of the global state."""

    name: str
    """What a warning calls it; empty for what every run changes."""
    read: Callable[[], Any]
    write: Callable[[Any], None]
    start: Any = UNSET
    """Its value at the start of a run; by default that of the moment."""


@contextmanager
def restored_globals(root: str) -> Iterator[list[str]]:
    """Start with torch's own defaults, and restore on exit what the task changed.

    The list has the names of what was changed, once the context is left. `root` is in `sys.path` during the run.
    """
    settings = [*_torch_settings(), *_python_settings(root), *_numpy_settings()]
    before = [setting.read() for setting in settings]
    changed: list[str] = []
    generators = generator_states(CPU)
    with warnings.catch_warnings():  # torch changes the filters, too, so that a change of them is not named
        for setting in settings:
            if setting.start is not UNSET:
                setting.write(setting.start)
        expected = [setting.read() for setting in settings]
        try:
            yield changed
        finally:
            for setting, old, own in zip(settings, before, expected, strict=True):
                with contextlib.suppress(Exception):  # what one setting refuses must not keep the others
                    if setting.name and setting.read() != own:
                        changed.append(setting.name)
                    if setting.read() != old:
                        setting.write(old)
            set_generator_states(generators, CPU)


def _torch_settings() -> Iterator[Setting]:
    backends = torch.backends
    yield Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype, torch.float32)
    yield Setting("torch's default device", torch.get_default_device, _set_default_device, CPU)
    yield Setting("torch's grad mode", torch.is_grad_enabled, lambda on: _enter(torch.set_grad_enabled(on)), True)
    yield Setting("torch's anomaly detection", torch.is_anomaly_enabled, _set_anomaly, False)
    yield Setting("torch's deterministic algorithms", _deterministic, _set_deterministic)
    for device in AUTOCAST_DEVICES:
        yield Setting(f"autocast on {device}", *_autocast(device), start=None)
    yield Setting(
        "torch's float32 matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    )
    yield Setting("", torch.get_num_threads, torch.set_num_threads)
    yield Setting(
        "", lambda: functorch_config.donated_buffer, lambda on: setattr(functorch_config, "donated_buffer", on)
    )
    for name in ("enabled", "benchmark", "deterministic"):
        yield Setting(f"torch.backends.cudnn.{name}", *_attribute(backends.cudnn, name))
    yield Setting(
        "torch's print options", lambda: dict(vars(_print_options())), lambda old: vars(_print_options()).update(old)
    )
    for name, hooks in sorted(vars(torch_modules).items()):
        if name.startswith("_global_") and isinstance(hooks, dict):
            yield Setting("global hooks of torch modules", *_contents(hooks))


def _python_settings(root: str) -> Iterator[Setting]:
    yield Setting("environment variables", _environment, _set_environment)
    yield Setting("the current folder", os.getcwd, os.chdir)
    yield Setting("sys.path", lambda: [path for path in sys.path if path != root], _restored_otherwise)
    yield Setting("", lambda: list(sys.path), _set_sys_path)
    if threading.current_thread() is threading.main_thread():
        yield Setting("signal handlers", _signal_handlers, _set_signal_handlers)
    yield Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit)
    yield Setting("the garbage collector", gc.isenabled, lambda on: gc.enable() if on else gc.disable())
    yield Setting("sys.stdout and sys.stderr", lambda: (sys.stdout, sys.stderr), _set_streams)
    yield Setting("logging", lambda: (logging.root.level, logging.root.manager.disable), _set_logging)


def _numpy_settings() -> Iterator[Setting]:
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        yield Setting("numpy's error handling", numpy.geterr, lambda old: numpy.seterr(**old) and None)
        yield Setting("numpy's print options", numpy.get_printoptions, lambda old: numpy.set_printoptions(**old))


def _attribute(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return lambda: getattr(owner, name), lambda old: setattr(owner, name, old)


def _contents(hooks: dict[Any, Any]) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    def write(old: dict[Any, Any]) -> None:
        hooks.clear()
        hooks.update(old)

    return lambda: dict(hooks), write


def _autocast(device: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """Return functions that read and write whether autocast is on, and with which dtype; None: it is off."""

    def read() -> Any:
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None

    def write(dtype: Any) -> None:
        torch.set_autocast_enabled(device, dtype is not None)
        if dtype is not None:
            torch.set_autocast_dtype(device, dtype)

    return read, write


def _restored_otherwise(_: object) -> None:
    """Restore nothing: another setting does it."""


def _enter(_: object) -> None:
    """Take the return value of a function that acts when it is called."""


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device == CPU else device)


def _set_anomaly(on: bool) -> None:
    _enter(torch.autograd.set_detect_anomaly(on))


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(old: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(old[0], warn_only=old[1])


def _print_options() -> Any:
    return torch._tensor_str.PRINT_OPTS  # torch has a function that sets them, and none that returns them


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(TORCH_VARIABLES)}


def _set_environment(old: dict[str, str]) -> None:
    for name in _environment():
        del os.environ[name]
    os.environ.update(old)


def _set_sys_path(old: list[str]) -> None:
    sys.path[:] = old


def _signal_handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _set_signal_handlers(old: dict[int, Any]) -> None:
    for number, handler in old.items():
        if handler is not None and signal.getsignal(number) != handler:  # None: of C, which Python cannot set
            signal.signal(number, handler)


def _set_streams(old: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = old


def _set_logging(old: tuple[int, int]) -> None:
    logging.root.setLevel(old[0])
    logging.disable(old[1])
