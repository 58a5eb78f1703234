"""Name the label, id or target that is out of range: rerun the batch of a crash, and look at what torch is given."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pytest_smoke.plain import exception_text, plain_name
from pytest_smoke.task import Task
from pytest_smoke.text import count
from pytest_smoke.train.crash import Cause, CauseNote
from pytest_smoke.train.device import to_device
from pytest_smoke.train.labels import place_of_caller
from pytest_smoke.train.nonfinite import tensors_of
from pytest_smoke.train.step import Stepper

MESSAGES = (
    *("target", "weight tensor", "out of bounds", "out of range", "class values", "between 0 and 1"),
    *("device-side assert", "cuda error", "hip error"),
)
"""Parts of what torch raises for labels, ids and targets that it cannot use. Only on an accelerator, where many batches
are rerun, does an exception need one of them."""
RERUN_SECONDS = 30.0
"""Time after which no further batch is rerun: on an accelerator, the error may belong to any of the last steps."""


def explain(error: BaseException, stepper: Stepper, task: Task, steps: Sequence[tuple[int, Sequence[Any]]]) -> None:
    """Add a note to an exception of the training loop if a label, id or target of its batch is out of range.

    `steps`: steps whose figures have not arrived yet, oldest first, and their micro-batches. On a CPU the exception
    belongs to the last micro-batch. On an accelerator it may belong to any of them, and neither its memory nor the
    weights can be read any longer: batches on the host are rerun with a new model, as they are with a sharded model.
    """
    on_cpu = stepper.device.type == "cpu"
    if stepper.last_batch is None or not _may_be_of_range(error, any_text=on_cpu):
        return
    try:
        model, batches = stepper.model, [("", stepper.last_batch)]
        drawn = [
            (f"step {step}" + (f", micro-batch {at + 1} of {len(batches)}" if len(batches) > 1 else ""), batch)
            for step, batches in steps
            for at, batch in enumerate(batches)
        ]
        of_last = [row for row in drawn if row[1] is stepper.last_batch] or batches
        batches = of_last if on_cpu else [*drawn, *batches]
        if not on_cpu or stepper.sharding is not None:  # the other processes do not make this forward pass
            model = task.model()
            if _shapes(model) != _shapes(stepper.model):
                return
        cause = find_cause(task.losses, model, batches, stepper.plan.root)
    except Exception:  # of the task, which was not made for a second call
        return
    if cause is not None:
        error.add_note(CauseNote.of(cause))


def _shapes(model: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(p.shape)) for name, p in model.named_parameters()]


def _may_be_of_range(error: BaseException, *, any_text: bool) -> bool:
    """Tell whether torch may have raised this because a label, an id or a target is out of range."""
    if not isinstance(error, IndexError | RuntimeError | ValueError) or isinstance(error, torch.OutOfMemoryError):
        return False
    text = exception_text(error).lower()
    return any_text or any(part in text for part in MESSAGES)


def find_cause(
    losses: Callable[[nn.Module, Any], Any], model: nn.Module, batches: Iterable[tuple[str, Any]], root: str
) -> Cause | None:
    """Rerun `losses` on the CPU with each batch until a value is out of range; None if none is.

    `model` is on the CPU; its weights do not matter. `batches`: where each is (`step 3`), and the batch.
    """
    started = time.monotonic()
    for where, batch in batches:
        if time.monotonic() - started > RERUN_SECONDS:
            return None
        try:
            moved = to_device(batch, torch.device("cpu"))
        except Exception:  # of the accelerator, after an error of its own
            continue
        watch = _RangeWatch(model, moved, root)
        try:
            with torch.no_grad(), torch.compiler.set_stance("force_eager"), watch:
                losses(model, moved)
        except _FoundError as found:
            cause = found.cause
            return Cause(f"{cause.text}{f' ({where})' if where else ''}", cause.hint, cause.place)
        except Exception:  # another error than the one of the crash, or the same one in a function that is not known
            continue
    return None


class _FoundError(Exception):
    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.text)
        self.cause = cause


class _RangeWatch(TorchFunctionMode):
    """Looks at the labels, ids and targets of torch's functions before they are called; raises _FoundError."""

    def __init__(self, model: nn.Module, batch: Any, root: str) -> None:
        super().__init__()
        self._model, self._root = model, root
        self._parts = list(tensors_of(batch))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            for look in LOOKS.get(getattr(func, "__name__", ""), ()):
                if fault := look(func, args, kwargs):
                    raise _FoundError(self._cause(fault))
        return func(*args, **kwargs)

    def _cause(self, fault: _Fault) -> Cause:
        place = place_of_caller(self._root)
        if fault.tensor is None or fault.bad is None:
            return Cause(fault.allowed, fault.hint, place)
        bad = fault.bad.flatten().nonzero().flatten()
        flat = int(bad[0])
        value = fault.tensor.flatten()[flat].item()
        name, index = self._named(fault, flat, value)
        others = f"; {len(bad):,} of {count(fault.bad.numel(), 'value')} are out of range" if len(bad) > 1 else ""
        shown = f"{value:,}" if isinstance(value, int) else f"{value:g}"
        subject = fault.subject
        if (module := self._module_of(fault.weight)) is not None:
            subject = f"{module} ({subject})"
        text = f"{name}{list(index) if index else ''} is {shown}, but {subject} takes {fault.allowed}{others}"
        return Cause(text, fault.hint, place)

    def _module_of(self, weight: Tensor | None) -> str | None:
        """Return the name of the module with this weight."""
        if weight is None:
            return None
        names = (name for name, p in self._model.named_parameters() if p is weight)
        return next((name.rpartition(".")[0] or name for name in names), None)

    def _named(self, fault: _Fault, flat: int, value: float) -> tuple[str, tuple[int, ...]]:
        """Return the tensor of the batch that holds the value, and its index there; else the argument's own."""
        tensor = fault.tensor
        assert tensor is not None
        memory = tensor.untyped_storage().data_ptr()
        views = [row for row in self._parts if row[1].untyped_storage().data_ptr() == memory]
        as_large = [row for row in self._parts if row[1].numel() == tensor.numel()]
        for path, part in views:
            if len(found := (part == value).nonzero()):
                return plain_name(path), tuple(found[0].tolist())
        for path, part in as_large:
            if part.flatten()[flat].item() == value:
                return plain_name(path), _unravel(flat, part.shape)
        return fault.argument, _unravel(flat, tensor.shape)


def _unravel(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    index: list[int] = []
    for size in reversed(shape):
        flat, rest = divmod(flat, size)
        index.append(rest)
    return tuple(reversed(index))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """What is wrong with the arguments of a function."""

    allowed: str
    """The values that it takes; the whole clause where `tensor` is None."""
    subject: str = ""
    """The function, and what limits the values."""
    hint: str
    tensor: Tensor | None = None
    bad: Tensor | None = None
    """Which values of `tensor` are out of range."""
    argument: str = ""
    """What to call `tensor` if it is no part of the batch."""
    weight: Tensor | None = None
    """The weight of an embedding."""


Look = Callable[[Any, Any, Mapping[str, Any]], _Fault | None]


def _bound(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    given = inspect.signature(func).bind(*args, **kwargs)
    given.apply_defaults()
    return given.arguments


def _class_labels(func: Any, args: Any, kwargs: Mapping[str, Any]) -> _Fault | None:
    """Look at class indices, class probabilities and class weights."""
    given, name = _bound(func, args, kwargs), func.__name__
    logits, labels, weight = given["input"], given["target"], given.get("weight")
    classes = logits.shape[min(1, logits.ndim - 1)]
    if isinstance(weight, Tensor) and weight.numel() != classes:
        text = (
            f"the class weights of {name} are {count(weight.numel(), 'value')}, but its input has {classes:,} classes"
        )
        return _Fault(allowed=text, hint="pass one weight per class")
    if labels.is_floating_point():
        if labels.shape == logits.shape:
            return None
        text = f"the target of {name} has the shape {tuple(labels.shape)}, and its input {tuple(logits.shape)}"
        return _Fault(allowed=text, hint="class probabilities need the shape of the logits; class indices are integers")
    ignored = given.get("ignore_index")
    bad = (labels < 0) | (labels >= classes)
    if ignored is not None:
        bad &= labels != ignored
    if not bool(bad.any()):
        return None
    used = labels[labels != ignored] if ignored is not None else labels
    hint = "clean the labels, or give the last layer one output per class"
    if bool((labels[bad] == labels[bad][0]).all()) and int(labels[bad][0]) < 0 and ignored is not None:
        hint = f"if {int(labels[bad][0])} marks padding, pass ignore_index={int(labels[bad][0])}"
    elif (int(used.min()), int(used.max())) == (1, classes):
        hint = "the labels start at 1: subtract 1"
    allowed = f"0 to {classes - 1:,}" + (f" or {ignored} (ignored)" if ignored is not None else "")
    subject = f"{name} over {count(classes, 'class', 'classes')}"
    return _Fault(allowed=allowed, subject=subject, hint=hint, tensor=labels, bad=bad, argument=f"the target of {name}")


def _probabilities(func: Any, args: Any, kwargs: Mapping[str, Any]) -> _Fault | None:
    given, name = _bound(func, args, kwargs), func.__name__
    hints = {
        "target": "labels must be 0 or 1, or a probability between them",
        "input": "apply a sigmoid, or use binary_cross_entropy_with_logits",
    }
    for argument, hint in hints.items():
        values = given[argument]
        bad = ~((values >= 0) & (values <= 1))
        if bool(bad.any()):
            subject = f"the {argument} of {name}"
            return _Fault(allowed="0 to 1", subject=subject, hint=hint, tensor=values, bad=bad, argument=subject)
    return None


def _ids(func: Any, args: Any, kwargs: Mapping[str, Any]) -> _Fault | None:
    given = _bound(func, args, kwargs)
    ids, weight = given["input"], given["weight"]
    if ids.is_floating_point():  # embedding_bag takes its arguments in either order
        ids, weight = weight, ids
    bad = (ids < 0) | (ids >= len(weight))
    if not bool(bad.any()):
        return None
    return _Fault(
        allowed=f"0 to {len(weight) - 1:,}",
        subject=f"an embedding of {count(len(weight), 'row')}",
        hint="raise num_embeddings to the size of the vocabulary, or look at the tokenizer and at padding ids",
        tensor=ids,
        bad=bad,
        argument=f"the input of {func.__name__}",
        weight=weight,
    )


def _one_hot(func: Any, args: Any, kwargs: Mapping[str, Any]) -> _Fault | None:
    given: dict[str, Any] = {**dict(zip(("input", "num_classes"), args, strict=False)), **kwargs}
    labels, classes = given["input"], given.get("num_classes", -1)
    bad = labels < 0 if classes < 0 else (labels < 0) | (labels >= classes)
    if not bool(bad.any()):
        return None
    return _Fault(
        allowed="0 and more" if classes < 0 else f"0 to {classes - 1:,}",
        subject="one_hot",
        hint="clean the labels, or raise num_classes",
        tensor=labels,
        bad=bad,
        argument="the input of one_hot",
    )


def _indices(func: Any, args: Any, kwargs: Mapping[str, Any]) -> _Fault | None:
    given = dict(zip(("input", "dim", "index"), args, strict=False)) | dict(kwargs)
    return _index_fault(func.__name__, given["input"], given["dim"], given["index"], lowest=0)


def _subscript(func: Any, args: Any, kwargs: Mapping[str, Any]) -> _Fault | None:
    source, index = args
    for dim, part in _indexed_dims(source, index if isinstance(index, tuple) else (index,)):
        if fault := _index_fault("indexing", source, dim, part, lowest=-source.shape[dim]):
            return fault
    return None


def _indexed_dims(source: Tensor, index: Sequence[Any]) -> Iterator[tuple[int, Tensor]]:
    """Yield the integer tensors of a subscript, each with the dimension that it indexes."""
    widths = [0 if part is None or part is Ellipsis else part.ndim if _is_mask(part) else 1 for part in index]
    dim = 0
    for part, width in zip(index, widths, strict=True):
        if part is Ellipsis:
            dim += source.ndim - sum(widths)
        elif isinstance(part, Tensor) and not _is_mask(part):
            yield dim, part
        dim += width


def _is_mask(part: Any) -> bool:
    return isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8)


def _index_fault(name: str, source: Tensor, dim: int, index: Tensor, *, lowest: int) -> _Fault | None:
    size = source.shape[dim]
    bad = (index < lowest) | (index >= size)
    if not bool(bad.any()):
        return None
    return _Fault(
        allowed=f"{lowest:,} to {size - 1:,}",
        subject=f"{name} along dimension {dim % source.ndim} of {tuple(source.shape)}",
        hint="look at the labels or ids that are used as an index",
        tensor=index,
        bad=bad,
        argument=f"the index of {name}",
    )


def _guarded(look: Look) -> Look:
    """Return a look that finds nothing in arguments of another form than it knows."""

    def guarded(func: Any, args: Any, kwargs: Mapping[str, Any]) -> _Fault | None:
        try:
            return look(func, args, kwargs)
        except Exception:  # the call itself will say what is wrong with them
            return None

    return guarded


LOOKS: Mapping[str, tuple[Look, ...]] = {
    **{loss.__name__: (_guarded(_class_labels),) for loss in (F.cross_entropy, F.nll_loss, F.multi_margin_loss)},
    F.binary_cross_entropy.__name__: (_guarded(_probabilities),),
    **{lookup.__name__: (_guarded(_ids),) for lookup in (F.embedding, F.embedding_bag)},
    "one_hot": (_guarded(_one_hot),),
    **dict.fromkeys(
        ("gather", "index_select", "scatter", "scatter_", "scatter_add", "scatter_add_", "index_add", "index_add_"),
        (_guarded(_indices),),
    ),
    "__getitem__": (_guarded(_subscript),),
}
"""How the arguments of a function of torch are looked at, by its name."""
