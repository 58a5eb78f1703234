"""Judge a training loop of your own while it trains, and write a log that `judge` and `compare` read."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import index
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from pytest_smoke.errors import RecorderError, UnstableError
from pytest_smoke.files import strict_json
from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.judge.curve.evidence import MAX_STEPS_NEEDED

READ_EVERY = 16
"""Default number of steps whose values on an accelerator are read at once: each read waits for the device once."""
CONSTANT_SHARE = 0.5
"""Share of the planned steps at 80 % of the peak learning rate or more that a promotion in mode `constant` needs."""
TABLE_SUFFIXES = (".csv", ".tsv")
"""Ends of file names under which `judge` expects a table."""

TERM = "loss/"
"""Begins the keys of loss terms, as in the traces of smoke runs."""

KNOWN = frozenset({"loss", "lr", "grad_norm", "probe_loss"})
"""The other keys of a step."""
STEPS_TO_TELL = 4
"""Steps that tell how far apart the recorded ones are, if `every` does not: a resumed run begins with another gap."""

Mode = Literal["constant", "long-tail"]
T = TypeVar("T")


class Recorder:
    """Record the steps of a training loop, and judge them online; a context manager that closes the log at its end.

    `path`
        The log, JSON Lines with one object per step. Its folder is created, and an older file is replaced.
    `planned_steps`
        Optimizer steps of the whole run.
    `learning_rate`
        The peak learning rate of the run. Default: the largest one so far.
    `mode`
        What a promotion needs, as in a recipe: half of the steps at 80 % of the peak or more (`constant`), or 2,500
        such steps (`long-tail`). Default: the smaller of the two.
    `expected_jumps`
        Steps at which the data or the loss change by design.
    `from_scratch`
        Whether training starts from random weights. A loss that never improves is then `inconclusive`.
    `classes`
        Number of classes, or size of the vocabulary: a loss of ln `classes` is chance level.
    `on_unstable`
        What `step` does once the run is unstable: return True (`stop`), or raise UnstableError (`raise`).
    `every`
        Optimizer steps between two calls of `step`. Default: 1, or what the first numbers given as `step` say.
    `read_every`
        Values on an accelerator are kept, and read once in so many calls, because each read waits for the device. The
        verdict then comes up to so many calls late.

    Each line is written before `step` returns, so that a run that is killed leaves a complete log; only values that
    were not read yet are missing. Record on one rank only, and tell the other ranks to stop: a second process that
    writes to the same file gets an error.

    Raises RecorderError if an argument cannot be used or the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        planned_steps: int,
        learning_rate: float | None = None,
        mode: Mode | None = None,
        expected_jumps: Sequence[int] = (),
        from_scratch: bool = False,
        classes: int | None = None,
        on_unstable: Literal["stop", "raise"] = "stop",
        every: int | None = None,
        read_every: int = READ_EVERY,
    ) -> None:
        self.path = Path(path)
        """The log."""
        self._planned_steps = _whole(planned_steps, "planned_steps", at_least=1)
        self._read_every = _whole(read_every, "read_every", at_least=1)
        self._peak = None if learning_rate is None else _positive(learning_rate, "learning_rate")
        self._mode = _one_of(mode, "mode", (None, "constant", "long-tail"))
        self._raises = _one_of(on_unstable, "on_unstable", ("stop", "raise")) == "raise"
        self._jumps = [_whole(jump, "expected_jumps", at_least=1) for jump in expected_jumps]
        self._classes = None if classes is None else _whole(classes, "classes", at_least=2)
        self._from_scratch = from_scratch
        self._every = 1 if every is None else _whole(every, "every", at_least=1)
        self._first: list[tuple[int, dict[str, float]]] | None = [] if every is None else None
        """The first steps, until they tell how far apart steps are."""
        self._judge: CurveJudge | None = None
        """Made at the first step, which tells how many are left."""
        self._unstable: CurveVerdict | None = None
        self._has_raised = False
        self._step = -1
        self._pending: list[tuple[int, dict[str, Any]]] = []
        """Steps with a value that was not read yet, and those after them."""
        self._keys: dict[str, str] = {}
        """Keys of the log as JSON."""
        self._is_open = True
        self._file: int | None = _opened(self.path)

    def step(
        self,
        *,
        loss: Any,
        step: int | None = None,
        terms: Mapping[str, Any] | None = None,
        grad_norm: Any = None,
        optimizer: Any = None,
        lr: Any = None,
        probe_loss: Any = None,
    ) -> bool:
        """Record one optimizer step. Return whether the run is unstable and should stop.

        `loss` is the training loss, and `terms` are its parts by name. `grad_norm` is the norm of the gradient.
        `probe_loss` is the loss on a fixed batch before this step, in evaluation mode; give it about 40 times in a run.
        All are numbers or tensors with one element. NaN and infinity are allowed, and decide.

        `optimizer`: the highest `lr` of its `param_groups` is recorded. `lr` gives it directly, to be used instead.
        Call `step` before the scheduler's. Without either, the loss alone is judged. `step` is the number of this
        optimizer step, by default `every` after the last one, from 0.

        Raises RecorderError for a value that is not one number, for a step that is not after the last one, and after
        `close`. Raises UnstableError if the run is unstable and `on_unstable` is `raise`.
        """
        if not self._is_open:
            raise RecorderError(f"{self.path}: step() was called after close()")
        following = self._step + self._every if self._step >= 0 else 0
        number = following if step is None else _whole(step, "step", at_least=0)
        if number <= self._step:
            raise RecorderError(f"step is {number}, must be above {self._step}, the last recorded step")
        values: dict[str, Any] = {"loss": _value(loss, "loss")}
        if lr is not None or optimizer is not None:
            values["lr"] = _learning_rate(lr, optimizer)
        if grad_norm is not None:
            values["grad_norm"] = _value(grad_norm, "grad_norm")
        if probe_loss is not None:
            values["probe_loss"] = _value(probe_loss, "probe_loss")
        if terms is not None:
            for name, term in _named(terms):
                values[TERM + name] = _value(term, f"terms[{name!r}]")
        self._step = number
        if self._pending or not _are_read(values):
            self._pending.append((number, values))
            if len(self._pending) >= self._read_every:
                self._read_pending()
        else:
            self._add(number, values)
        self._raise_if_unstable()
        return self._unstable is not None

    @property
    def should_stop(self) -> bool:
        """Whether the run is unstable."""
        return self._unstable is not None

    @property
    def verdict(self) -> CurveVerdict:
        """The verdict on the steps so far: final once the run is unstable, or has all planned steps."""
        self._read_pending()
        judge = self._judge or self._new_judge(0)
        return self._unstable or judge.finish(ended_early=self._step + self._every < self._planned_steps)

    def close(self) -> None:
        """Write what was not written yet, and close the file. Further calls do nothing."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._read_pending()
        finally:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.close()
            if not self._has_raised:
                self._raise_if_unstable()
            return
        with contextlib.suppress(Exception):  # the device may have failed; `error` is what the user must see
            self.close()

    def _raise_if_unstable(self) -> None:
        if self._unstable is not None and self._raises:
            self._has_raised = True
            raise UnstableError(self._unstable)

    def _read_pending(self) -> None:
        """Read the values on accelerators, all at once, and add their steps."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        tensors = [part for _, values in pending for value in values.values() for part in _parts(value)]
        numbers = iter(_read(tensors))
        for step, values in pending:
            for name, value in values.items():
                if isinstance(value, _Rates):
                    values[name] = max([value.known, *(next(numbers) for _ in value.tensors)])
                elif type(value) is not float:
                    values[name] = next(numbers)
            self._add(step, values)

    def _add(self, step: int, values: dict[str, float]) -> None:
        """Write and judge one step."""
        self._write(step, values)
        if self._unstable is not None:
            return
        if self._judge is None:
            self._judge = self._new_judge(step)
        self._judge_step(self._judge, step, values)
        if self._first is not None:
            self._tell_spacing(step, values)

    def _tell_spacing(self, step: int, values: dict[str, float]) -> None:
        """Collect the first steps; if they are equally far apart, plan that many fewer points and judge them again."""
        assert self._first is not None
        self._first.append((step, values))
        if len(self._first) < STEPS_TO_TELL:
            return
        first, self._first = self._first, None
        gaps = {after - before for (before, _), (after, _) in pairwise(first)}
        if len(gaps) > 1 or gaps == {self._every} or self._unstable is not None:
            return
        self._every = gaps.pop()
        self._judge = self._new_judge(first[0][0])
        for number, one in first:
            self._judge_step(self._judge, number, one)

    def _judge_step(self, judge: CurveJudge, step: int, values: dict[str, float]) -> None:
        """Feed one step to a judge, unless the run is unstable already."""
        if self._unstable is not None:
            return
        terms = None
        if len(values) > len(KNOWN) or not KNOWN.issuperset(values):
            terms = {name.removeprefix(TERM): value for name, value in values.items() if name not in KNOWN}
        self._unstable = judge.add(
            step,
            values["loss"],
            probe_loss=values.get("probe_loss"),
            lr=values.get("lr"),
            grad_norm=values.get("grad_norm"),
            terms=terms,
        )

    def _new_judge(self, first_step: int) -> CurveJudge:
        """Return a judge of a run that begins at a step; a resumed one has fewer steps left."""
        steps = max(1, self._planned_steps - first_step)
        needed = {"constant": math.ceil(CONSTANT_SHARE * steps), "long-tail": MAX_STEPS_NEEDED, None: None}
        return CurveJudge(
            planned_points=max(1, steps // self._every),
            from_scratch=self._from_scratch,
            expected_jumps=self._jumps,
            peak_lr=self._peak,
            evidence_needed=needed[self._mode],
            classes=self._classes,
            is_log=False,
        )

    def _write(self, step: int, values: dict[str, float]) -> None:
        """Append a line to the log. If that fails, warn once and go on: training matters more than its log."""
        if self._file is None:
            return
        keys, text = self._keys, f'{{"step": {step}'
        for name, value in values.items():
            key = keys.get(name) or keys.setdefault(name, strict_json(name))
            text += f", {key}: {value}" if value - value == 0.0 else f", {key}: {strict_json(value)}"
        line = (text + "}\n").encode()
        try:
            written = os.write(self._file, line)
            if written < len(line):  # the disk is full: the rest raises
                os.write(self._file, line[written:])
        except OSError as error:
            os.close(self._file)
            self._file = None
            text = f"{self.path} cannot be written from step {step} on ({error.strerror or error}); judging continues"
            warnings.warn(text, stacklevel=4)


@dataclass(frozen=True, slots=True)
class _Rates:
    """Learning rates of parameter groups, some of which were not read yet."""

    known: float
    """The highest of the others; minus infinity if there are none."""
    tensors: tuple[Any, ...]


def _opened(path: Path) -> int:
    """Open an empty file for writing, and lock it until it is closed. Raises RecorderError."""
    if path.suffix.lower() in TABLE_SUFFIXES:
        raise RecorderError(f"{path}: a recorder writes JSON Lines; use another suffix, such as .jsonl")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    except OSError as error:
        raise RecorderError(f"{path} cannot be written: {error.strerror or error}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise RecorderError(
            f"{path} is being written by another recorder; of several ranks, only one may record, and each run needs "
            "a file of its own"
        ) from None
    except OSError:  # a file system without locks
        pass
    with contextlib.suppress(OSError):  # a pipe or a device has no length
        os.ftruncate(file, 0)
    return file


def _value(value: Any, name: str) -> Any:
    """Return a number as a float, and a tensor on an accelerator as a copy to read later. Raises RecorderError."""
    if type(value) is float:
        return value
    if hasattr(value, "detach") and hasattr(value, "numel"):
        if value.numel() != 1:
            shape = "x".join(map(str, value.shape))
            raise RecorderError(f"{name} is a tensor of shape {shape}, must have one element; average it first")
        if value.device.type != "cpu":
            return value.detach().clone()  # its memory may be used again before it is read
        if value.requires_grad:
            value = value.detach()  # newer torch warns about a conversion that the gradient does not follow
    elif isinstance(value, bool | str | bytes | bytearray):
        raise RecorderError(f"{name} is {value!r:.60}, must be a number or a tensor with one element")
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        kind = type(value).__name__
        raise RecorderError(
            f"{name} is {value!r:.60} ({kind}), must be a number or a tensor with one element"
        ) from None


def _learning_rate(lr: Any, optimizer: Any) -> Any:
    """Return the given learning rate, or the highest of an optimizer's parameter groups. Raises RecorderError."""
    if lr is not None:
        if optimizer is not None:
            raise RecorderError("both lr and optimizer are given; give one of them")
        return _value(lr, "lr")
    try:
        rates = [group["lr"] for group in optimizer.param_groups]
    except (AttributeError, KeyError, TypeError):
        rates = []
    if not rates:
        kind = type(optimizer).__name__
        raise RecorderError(f"optimizer is of type {kind}, without param_groups that have an lr; give lr= instead")
    known, tensors = -math.inf, []
    for rate in rates:
        value = rate if type(rate) is float else _value(rate, "the optimizer's lr")
        if type(value) is not float:
            tensors.append(value)
        elif value > known:
            known = value
    return _Rates(known, tuple(tensors)) if tensors else known


def _are_read(values: Mapping[str, Any]) -> bool:
    for value in values.values():  # noqa: SIM110  # a generator costs as much again
        if type(value) is not float:
            return False
    return True


def _named(terms: Any) -> Iterable[tuple[str, Any]]:
    """Return the loss terms with their names. Raises RecorderError."""
    if not isinstance(terms, Mapping) or not all(isinstance(name, str) and name for name in terms):
        raise RecorderError(f"terms is {terms!r:.60}, must map names of loss terms to numbers")
    return terms.items()


def _parts(value: Any) -> tuple[Any, ...]:
    """Return the tensors in a value."""
    if isinstance(value, _Rates):
        return value.tensors
    return () if type(value) is float else (value,)


def _read(tensors: Sequence[Any]) -> list[float]:
    """Return the numbers in tensors, with one transfer per device."""
    torch: Any = sys.modules["torch"]  # they are its tensors
    found = [0.0] * len(tensors)
    places: dict[Any, list[int]] = {}
    for at, tensor in enumerate(tensors):
        places.setdefault(tensor.device, []).append(at)
    for indices in places.values():
        stacked = torch.stack([tensors[at].reshape(()).float() for at in indices])
        for at, number in zip(indices, stacked.tolist(), strict=True):
            found[at] = number
    return found


def _whole(value: Any, name: str, *, at_least: int) -> int:
    try:
        number = index(value)
    except TypeError:
        number = at_least - 1
    if isinstance(value, bool) or number < at_least:
        raise RecorderError(f"{name} is {value!r:.60}, must be a whole number of {at_least} or more")
    return number


def _positive(value: Any, name: str) -> float:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
    if not 0 < number < math.inf:
        raise RecorderError(f"{name} is {value!r:.60}, must be a number above 0")
    return number


def _one_of(value: T, name: str, allowed: Sequence[T]) -> T:
    if value not in allowed:
        choices = ", ".join(repr(one) for one in allowed)
        raise RecorderError(f"{name} is {value!r:.60}, must be one of {choices}")
    return value
