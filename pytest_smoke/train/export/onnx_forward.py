"""A torch model whose forward is an ONNX file, so that the task's own `evaluate` can score that file."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch.utils._pytree as pytree
from torch import Tensor, nn

from pytest_smoke.errors import TaskError
from pytest_smoke.train.export.onnx_file import Session


@contextmanager
def served(model: nn.Module, session: Session, leaves: Sequence[Any], spec: pytree.TreeSpec) -> Iterator[None]:
    """Within it `session` answers `model(...)`; all else (`model.crf.decode`, its parameters) is the model's own.

    `leaves` and `spec` are what the model returns, flat: where it returns None, so does this. Outputs go to the device
    of the inputs. Raises TaskError for an argument that was not exported.
    """
    signature = inspect.signature(model.forward)
    before = vars(model).get("forward")

    def forward(*args: Any, **kwargs: Any) -> Any:
        inputs = _by_position(signature, args, kwargs, len(session.names))
        outputs = iter(session.run(inputs))
        device = inputs[0].device
        filled = [next(outputs).to(device) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        return pytree.tree_unflatten(filled, spec)

    model.forward = forward
    try:
        yield
    finally:
        del model.forward
        if before is not None:
            model.forward = before


def _by_position(signature: inspect.Signature, args: Any, kwargs: Any, count: int) -> list[Tensor]:
    bound = signature.bind(*args, **kwargs)
    given: list[tuple[str, Any]] = []
    for name, value in bound.arguments.items():
        many = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        given += [(name, one) for one in value] if many else [(name, value)]
    given = [(name, value) for name, value in given if value is not None]
    if len(given) != count or not all(isinstance(value, Tensor) for _, value in given):
        names = ", ".join(name for name, _ in given)
        raise TaskError(
            f"evaluate called the model with {len(given)} inputs ({names}), and it was exported with the {count} "
            "tensors of example_inputs(): they must be the same, in the same order"
        )
    return [value for _, value in given]
