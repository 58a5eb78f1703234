"""Find where a loss that is not finite, or exactly 0, comes from: rerun its batch and watch every operation."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pytest_smoke.events import Event, LossDiagnosis, ProbeLoss, Step
from pytest_smoke.task import Task
from pytest_smoke.text import count
from pytest_smoke.train.batch_equivalence import restored
from pytest_smoke.train.checkpoints.in_memory import WeightHistory
from pytest_smoke.train.device import isolated_eval, to_device
from pytest_smoke.train.in_place import write_
from pytest_smoke.train.labels import LABEL_LOSSES, labels_missing, place_of_caller
from pytest_smoke.train.sharding import local
from pytest_smoke.train.stepping import Rerunning
from pytest_smoke.train.task import counts_of

KEPT_STEPS = 128
"""Steps whose batches are kept until their losses have arrived on the host: two chunks of reports."""
KEPT_BYTES = 2**28
"""Memory of these batches, at most, but for the newest one."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A loss to diagnose."""

    step: int
    broken: str
    """`loss`, `gradient`, `zero` or `probe`."""
    batches: Sequence[Any] | None
    """The micro-batches of the step; None if they are gone."""


class LossWatch:
    """Diagnoses the first loss of a run that is not finite, and a first loss of exactly 0.

    The batches of steps whose figures are still on the device are kept for it: references, not copies.
    """

    def __init__(self, stepper: Rerunning, task: Task, root: str) -> None:
        self._stepper, self._task, self._root = stepper, task, root
        self._recent: deque[tuple[int, Sequence[Any]]] = deque(maxlen=KEPT_STEPS)
        self._bytes: int | None = None
        self._found: _Found | None = None
        self._is_done = False

    @property
    def unreported(self) -> Sequence[tuple[int, Sequence[Any]]]:
        """Steps whose loss is not known yet, oldest first, and their micro-batches."""
        return tuple(self._recent)

    def keep(self, step: int, batches: Sequence[Any]) -> None:
        """Keep a step's micro-batches until its loss is known."""
        if self._is_done or (self._recent and self._recent[-1][0] == step):
            return
        if self._bytes is None:
            self._bytes = max(1, sum(part.nbytes for batch in batches for _, part in tensors_of(batch)))
        while self._recent and (len(self._recent) + 1) * self._bytes > KEPT_BYTES:
            self._recent.popleft()
        self._recent.append((step, batches))

    def see(self, events: Sequence[Event]) -> None:
        """Remember the first of these events with such a loss, and let go of the batches of reported steps."""
        for event in events if not self._is_done else ():
            if isinstance(event, ProbeLoss) and self._found is None and not math.isfinite(event.loss):
                self._found = _Found(event.step, "probe", None)
                continue
            found = self._found
            if not isinstance(event, Step) or (
                found is not None and (found.broken, found.step) != ("probe", event.step)
            ):
                continue
            if broken := self._broken(event):
                batches = next((batches for step, batches in self._recent if step == event.step), None)
                self._found = _Found(event.step, broken, batches)
        newest = max((event.step for event in events if isinstance(event, Step)), default=-1)
        while self._recent and self._recent[0][0] <= newest:
            self._recent.popleft()

    def diagnose(self, weights: WeightHistory, probe: Sequence[Any]) -> list[Event]:
        """Return the diagnosis of the loss that was seen, if one was. `probe`: the probe batch of the phase.

        Model, task, gradients and random number generators are restored. What goes wrong is part of the diagnosis.
        """
        found, self._found = self._found, None
        if found is None:
            return []
        self._is_done = found.broken != "zero"
        batches, copy = probe if found.broken == "probe" else found.batches, weights.at(found.step)
        if batches is None or copy is None:
            return []
        start = LossDiagnosis(
            step=found.step,
            stage=self._stepper.stage.name,
            weights_step=copy[0],
            micro_batches=len(batches),
            is_probe=found.broken == "probe",
            kind="not-reproduced",
        )
        stepper = self._stepper
        try:
            with (
                _weights(stepper.model, copy[1]),
                stepper.parts.gathered(),
                _untouched(stepper, self._task, training=not start.is_probe),
            ):
                event = _Diagnosis(stepper, self._task, self._root).of(start, batches, found.broken)
        except Exception as error:  # of the task: it was not made for a second call
            event = replace(start, detail=f"the rerun raised {type(error).__name__}")
        return [] if found.broken == "zero" and event.kind != "labels" else [event]

    def _broken(self, event: Step) -> str:
        """Return what is wrong with a step: `loss`, `gradient` or `zero`; empty if nothing is."""
        if not all(map(math.isfinite, (event.loss, *event.terms.values()))):
            return "loss"
        if event.grad_norm is not None and not math.isfinite(event.grad_norm):
            return "" if self._stepper.scaler.is_enabled() else "gradient"  # a loss scaler skips such a step
        first = self._stepper.stage.first_step
        return "zero" if event.step == first and event.loss == 0.0 and event.grad_norm == 0.0 else ""


class _Diagnosis:
    def __init__(self, stepper: Rerunning, task: Task, root: str) -> None:
        self._stepper, self._task, self._root = stepper, task, root

    def of(self, start: LossDiagnosis, batches: Sequence[Any], broken: str) -> LossDiagnosis:
        """Return what is wrong with the micro-batches of a step."""
        model = self._stepper.model
        if broken != "zero":
            named = (*model.named_parameters(), *model.named_buffers())
            bad = next((name for name, value in named if value.is_floating_point() and not _is_finite(value)), "")
            if bad:
                return replace(start, kind="parameter", name=bad)
        for index, batch in enumerate(batches):
            recorder, losses = self._run(batch)
            items = dict(zip(self._stepper.terms, counts_of(self._task, batch, self._stepper.terms), strict=True))
            # A mean over nothing is NaN, and does not count.
            losses = {term: loss for term, loss in losses.items() if items.get(term, 1.0)}
            terms = [term for term, loss in losses.items() if not _is_finite(loss)]
            here = replace(start, micro_batch=index, term=terms[0] if terms else "")
            if broken == "zero":
                if recorder.labels:
                    return replace(here, kind="labels", detail=recorder.labels, place=recorder.labels_place)
            elif terms:
                return self._loss(here, batch, recorder)
            elif broken == "gradient" and (cause := self._gradient(losses)):
                term, operation, name = cause
                return replace(here, kind="gradient", term=term, operation=operation, name=name)
        return start

    def _loss(self, here: LossDiagnosis, batch: Any, recorder: Recorder) -> LossDiagnosis:
        inputs = [(path, part) for path, part in tensors_of(batch) if part.is_floating_point()]
        for path, part in inputs:
            bad = int(part.isnan().sum())
            if bad:
                values = f"{count(bad, 'value')} of {part.numel():,} {'is' if bad == 1 else 'are'} NaN"
                return replace(here, kind="input", name=path, detail=values)
        if recorder.labels:
            return replace(here, kind="labels", detail=recorder.labels, place=recorder.labels_place)
        made = recorder.source()
        infinite = next((path for path, part in inputs if not _is_finite(part)), "")
        if infinite and (made is None or made.rank == 2):
            return replace(here, kind="input", name=infinite, detail="it holds an infinite value")
        finite_in_fp32 = self._is_finite_in_fp32(batch, here.term)
        if made is None:
            return replace(here, kind="operation", finite_in_fp32=finite_in_fp32)
        return replace(
            here,
            kind="module" if made.module else "operation",
            name=made.module,
            operation=made.operation,
            place=made.place,
            detail="its inputs hold infinite values" if made.rank > 1 else "",
            finite_in_fp32=finite_in_fp32,
        )

    def _run(self, batch: Any, *, full_precision: bool = False) -> tuple[Recorder, Mapping[str, Tensor]]:
        stepper = self._stepper
        recorder = Recorder(self._root)
        moved = to_device(batch, stepper.device)
        with ExitStack() as stack:
            stack.enter_context(nullcontext() if full_precision else stepper.autocast())
            stack.enter_context(recorder.watching(stepper.model))
            stack.enter_context(recorder)
            losses = self._task.losses(stepper.model, moved)
        return recorder, losses

    def _is_finite_in_fp32(self, batch: Any, term: str) -> bool | None:
        """Tell whether the term is finite in fp32; None if that is what it was computed in, or it cannot be told."""
        model, stepper = self._stepper.model, self._stepper
        halves = [p for p in model.parameters() if p.is_floating_point() and p.dtype.itemsize < 4]
        if (stepper.plan.precision == "fp32" and not halves) or stepper.keeps_autocast:
            return None
        saved = [(p, p.data) for p in halves]
        try:
            for p in halves:
                p.data = p.data.float()
            _, losses = self._run(batch, full_precision=True)
            return _is_finite(losses[term])
        except Exception:  # inputs of a 16-bit model may have its type
            return None
        finally:
            for p, data in saved:
                p.data = data

    def _gradient(self, losses: Mapping[str, Tensor]) -> tuple[str, str, str] | None:
        """Return the term, and which operation or else which parameter has a gradient that is not finite."""
        weights = dict(zip(self._stepper.terms, self._stepper.weights, strict=True))
        for term, loss in losses.items():
            if loss.grad_fn is None or not weights.get(term, 1.0):
                continue
            made: list[str] = []
            for node in _graph(loss.grad_fn):
                node.register_hook(_look_at_gradients(node.name(), made))
            loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]  # torch types it so
            if made:
                return term, made[0].rstrip("0123456789").removesuffix("Backward").lower(), ""
            for name, p in self._stepper.model.named_parameters():
                if p.grad is not None and not _is_finite(p.grad):
                    return term, "", name
        return None


def _graph(root: Any) -> Iterator[Any]:
    """Yield the nodes of an autograd graph."""
    seen, waiting = {root}, [root]
    while waiting:
        node = waiting.pop()
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)


def _look_at_gradients(name: str, made: list[str]) -> Any:
    """Return a hook of an autograd node that adds `name` to `made` if it makes a gradient that is not finite."""

    def look(inputs: Any, outputs: Any) -> None:
        if not made and _all_finite(outputs) and not _all_finite(inputs):
            made.append(name)

    return look


@dataclass(frozen=True, slots=True)
class _Made:
    """An operation whose output is not finite, although its inputs are."""

    rank: int
    """0: NaN or +inf from finite inputs; 1: -inf from finite inputs, which may be a mask; 2: NaN from infinite ones; 3:
    +inf from inputs with -inf."""
    module: str
    operation: str
    place: str


class Recorder(TorchFunctionMode):
    """Watches the functions of torch for values that are not finite, and for labels that are all ignored."""

    def __init__(self, root: str) -> None:
        super().__init__()
        self._root = root
        self._made: list[_Made] = []
        self._modules: list[str] = []
        self.labels = ""
        """What is wrong with the labels of a loss function, as a sentence; empty if nothing is."""
        self.labels_place = ""
        """`file:line` of that loss in the user's code."""

    def source(self) -> _Made | None:
        """Return the operation that is the most likely source; None if none was seen."""
        return min(self._made, key=lambda made: made.rank, default=None)

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Keep track of the module that is running, and look at the outputs of all modules."""
        handles = []
        for name, module in model.named_modules():
            label = f"{name or 'the model'} ({type(module).__name__})"
            handles += [
                module.register_forward_pre_hook(self._enter(label)),
                module.register_forward_hook(self._leave(label), always_call=True),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, label: str) -> Any:
        def enter(*_: Any) -> None:
            self._modules.append(label)

        return enter

    def _leave(self, label: str) -> Any:
        def leave(_: nn.Module, inputs: Any, output: Any) -> None:
            if self._modules and self._modules[-1] == label:
                self._modules.pop()
            with torch._C.DisableTorchFunction():
                if not self._made and _all_finite(inputs) and not _all_finite(output):  # a kernel of its own
                    self._made.append(_Made(0, label, "", ""))

        return leave

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in LABEL_LOSSES and not self.labels:
            self.labels = labels_missing(func, args, kwargs)
            self.labels_place = place_of_caller(self._root) if self.labels else ""
        out = func(*args, **kwargs)
        outputs = [part for part in _tensors(out) if part.is_floating_point()]
        if outputs and not all(map(_is_finite, outputs)):
            self._look_at(func, args, kwargs, outputs)
        return out

    def _look_at(self, func: Any, args: Any, kwargs: Any, outputs: Sequence[Tensor]) -> None:
        inputs = [part for part in (*_tensors(args), *_tensors(kwargs)) if part.is_floating_point()]
        numbers = [value for value in _leaves((args, kwargs)) if isinstance(value, float)]
        if not any(isinstance(value, Tensor) for value in _leaves((args, kwargs))):
            return  # it makes a tensor: a mask, or memory that is not written yet
        finite = all(map(_is_finite, inputs)) and all(map(math.isfinite, numbers))
        nan = any(bool(part.isnan().any()) for part in outputs)
        if finite:
            rank = 0 if nan or _has_inf(outputs) else 1
        elif any(bool(part.isnan().any()) for part in inputs):
            return
        elif nan:
            rank = 2
        elif _has_inf(outputs) and not _has_inf(inputs):
            rank = 3
        else:
            return
        module = self._modules[-1] if self._modules else ""
        self._made.append(_Made(rank, module, getattr(func, "__name__", ""), place_of_caller(self._root)))


@contextmanager
def _weights(model: nn.Module, copy: Mapping[str, Tensor]) -> Iterator[None]:
    """Load a copy of the weights, and restore the current ones on exit."""
    live = {name: local(value.detach()) for name, value in (*model.named_parameters(), *model.named_buffers())}
    swapped = {name: value for name, value in live.items() if name in copy and copy[name].shape == value.shape}
    current = {name: value.to("cpu", copy=True) for name, value in swapped.items()}
    try:
        with torch.no_grad():
            for name, value in swapped.items():
                write_(value, copy[name])
        yield
    finally:
        with torch.no_grad():
            for name, value in swapped.items():
                write_(value, current[name])


@contextmanager
def _untouched(stepper: Rerunning, task: Task, *, training: bool) -> Iterator[None]:
    """Restore modes, generators, buffers, attributes and gradients on exit."""
    model = stepper.model
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(p, p.grad) for p in model.parameters()]
    try:
        for p, _ in gradients:
            p.grad = None
        with (
            isolated_eval(model, stepper.device),
            restored(model, task),
            torch.enable_grad(),
            torch.compiler.set_stance("force_eager"),
        ):
            if training:
                model.train()
                for module, mode in modes:
                    module.training = mode
            yield
    finally:
        for p, gradient in gradients:
            p.grad = gradient


def tensors_of(value: Any, path: str = "batch") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested containers, each with its path."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from tensors_of(part, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from tensors_of(part, f"{path}[{index}]")
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        for name, part in vars(value).items():
            yield from tensors_of(part, f"{path}.{name}")


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _tensors(value: Any) -> list[Tensor]:
    return [part for part in _leaves(value) if isinstance(part, Tensor)]


def _has_inf(parts: Sequence[Tensor]) -> bool:
    return any(bool((part == math.inf).any()) for part in parts)


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value.detach()).all())


def _all_finite(value: Any) -> bool:
    return all(_is_finite(part) for part in _tensors(value) if part.is_floating_point())
