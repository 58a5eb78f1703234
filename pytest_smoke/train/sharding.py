"""Train with FSDP2: shard a model as its task says, and read parameters of which each process holds a part."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.utils._pytree as pytree
from torch import Tensor, nn

from pytest_smoke.errors import TaskError
from pytest_smoke.text import count
from pytest_smoke.train.in_place import write_

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

    from pytest_smoke.train.ranks import Ranks

COMPILED = "_orig_mod."
"""Prefix that torch.compile puts into names."""
MESH_DIMENSION = "dp"
"""Name of the only dimension of the mesh that `parallelize` gets, as in torchtitan."""


def is_sharded(tensor: Tensor) -> bool:
    """Tell whether a tensor is a DTensor, of which this process holds a part; without importing that, which is slow."""
    return hasattr(tensor, "device_mesh")


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor, which shares its memory; the tensor itself if it is not sharded."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]  # of a DTensor
    return part


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with the parts of all processes, each of which must call this."""
    full: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]  # of a DTensor
    return full


def copies_of(tensor: Tensor) -> int:
    """Return how many processes hold the same part of a DTensor."""
    if not is_sharded(tensor):
        return 1
    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]  # of a DTensor
    copies = 1
    for dimension, placement in enumerate(placements):
        copies *= mesh.size(dimension) if placement.is_replicate() else 1
    return copies


def broadcast_(tensor: Tensor) -> None:
    """Give all processes the first one's values of a tensor, in place; all processes call this.

    Sends bytes, because gloo does not know every dtype, and of a copy, because it does not look at strides.
    """
    if tensor.numel():
        sent = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.broadcast(sent.view(-1).view(torch.uint8), src=0)
        write_(tensor.detach(), sent)


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the 2-norm of all tensors together, a scalar on their device, in all processes.

    Each process measures its parts; one all-reduce on the device adds up their squares.
    """
    parts = [tensor for tensor in tensors if is_sharded(tensor)]
    if not parts:
        return nn.utils.get_total_norm(tensors)
    rest = [tensor for tensor in tensors if not is_sharded(tensor)]
    groups = {number: [part for part in parts if copies_of(part) == number] for number in map(copies_of, parts)}
    # In fp64: the square of a large norm is not finite in fp32.
    squares = [nn.utils.get_total_norm(list(map(local, group))).double() ** 2 / n for n, group in groups.items()]
    square = torch.stack(squares).sum()
    dist.all_reduce(square)
    if rest:
        square += nn.utils.get_total_norm(rest).to(square) ** 2
    return square.sqrt().to(local(parts[0]).dtype)


def clip_(parameters: Sequence[Tensor], max_norm: float, norm: Tensor) -> None:
    """Scale the gradients down to a total norm of `max_norm`; `norm` is the one they have."""
    groups = [[p for p in parameters if is_sharded(p) == sharded] for sharded in (False, True)]
    for group, foreach in zip(groups, (None, True), strict=True):  # one call of DTensor's slow dispatcher, not N
        if any(p.grad is not None for p in group):
            nn.utils.clip_grads_with_norm_(group, max_norm, norm, foreach=foreach)


def reshard(model: nn.Module) -> None:
    """Free what a forward pass without a backward pass has gathered: `fully_shard` keeps that of the outermost module.

    The parameters of the model are then those that the optimizer holds.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is not None:
        for module in model.modules():
            if isinstance(module, fsdp.FSDPModule):
                module.reshard()


def holds_half(model: nn.Module) -> bool:
    """Tell whether a model has parameters in 16 bits or fewer."""
    return any(p.is_floating_point() and p.dtype.itemsize < 4 for p in model.parameters())


class Unsharded:
    """A model of which each process of the run has all parameters: `Parts` of what is not sharded."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    @property
    def computes_in_half(self) -> bool:
        """Whether parts of the model compute in 16 bits without autocast."""
        return holds_half(self._model)

    def anywhere(self, flags: Sequence[bool]) -> list[bool]:
        """Return the flags: those of the other processes are the same."""
        return list(flags)

    def gathered(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which this process can make passes on its own, as it can outside."""
        return contextlib.nullcontext()


class Sharding:
    """A model whose parameters `fully_shard` has split among the processes of the run.

    Every backward pass averages gradients over the processes, which wait for each other in it, unless the next one is
    to add to them. So all processes must make the same passes; `gathered` is the exception.
    """

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        from torch.distributed.fsdp import FSDPModule  # takes a second, which only sharded models need

        self._model, self._ranks = model, ranks
        self._parts: list[tuple[nn.Module, FSDPModule]] = [
            (module, module) for module in model.modules() if isinstance(module, FSDPModule)
        ]
        self._outputs: list[Tensor] | None = None
        """Outputs of the sharded modules in a forward pass; None: they are not collected."""
        self._is_gathered = False
        self._looks: dict[nn.Module, Any] = {}
        """Handles of the hooks that look at the types of gathered parameters, once per module."""
        self._has_half_policy = False
        """Whether a sharded module computes in 16 bits, by its MixedPrecisionPolicy."""
        for module, _ in self._parts:
            # Before FSDP's own: a process that hangs before it has entered one time less than those that wait there.
            module.register_forward_pre_hook(_eager(self._enter), prepend=True)
            self._looks[module] = module.register_forward_pre_hook(_eager(self._look))
            module.register_forward_hook(_eager(self._collect))
        self._check_placements()

    @property
    def size(self) -> int:
        """Number of processes."""
        return self._ranks.size

    @property
    def computes_in_half(self) -> bool:
        """Whether parts of the model compute in 16 bits without autocast."""
        return self._has_half_policy or holds_half(self._model)

    def call(self, losses: Callable[..., list[Tensor]], *args: Any, synchronized: bool, partial: bool) -> list[Tensor]:
        """Return `losses(*args)`, whose backward pass averages the gradients over the processes if `synchronized`.

        `partial`: this process may have no item for a term, which is then a constant. The other processes wait for its
        backward pass nevertheless, so it gets a gradient of 0 from the outputs of the sharded modules.
        """
        self._ranks.enter()
        for _, part in self._parts:
            part.set_requires_gradient_sync(synchronized, recurse=False)
        self._outputs = [] if partial else None
        try:
            terms = losses(*args)
            outputs = [output for output in self._outputs or () if output.requires_grad]
        finally:
            self._outputs = None
        if outputs and torch.is_grad_enabled():
            zero: Tensor = _NoGradient.apply(*outputs)  # type: ignore[no-untyped-call]  # torch types it so
            terms = [term if term.requires_grad else term + zero.to(term) for term in terms]
        self._ranks.enter()
        return terms

    def average_whole(self, parameters: Sequence[Tensor]) -> None:
        """Average the gradients of parameters that are not sharded; None where no process has one."""
        rest = [p for p in parameters if not is_sharded(p)]
        if rest:
            row = [p.grad for p in rest]
            self._ranks.add_up([row], rest)
            for p, total in zip(rest, row, strict=True):
                p.grad = None if total is None else total / self.size

    def spread_whole(self) -> None:
        """Give all processes the first one's values of parameters that are not sharded, as those that a stage adds."""
        with torch.no_grad():
            for p in self._model.parameters():
                if not is_sharded(p):
                    self._ranks.enter()
                    broadcast_(p)

    def copies_of(self, parameter: Tensor) -> int:
        """Return how many processes hold the same part of a parameter."""
        return copies_of(parameter) if is_sharded(parameter) else self.size

    def summed(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes, on the device."""
        dist.all_reduce(tensor)
        return tensor

    def anywhere(self, flags: Sequence[bool]) -> list[bool]:
        """Tell for each flag whether it is set in any of the processes."""
        return [total > 0 for total in self._ranks.totals([float(flag) for flag in flags])] if flags else []

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """Give every process the whole parameters, so that it can make passes that the others do not make.

        Needs the memory of the whole model. Gradients are those of this process's passes, and are dropped on exit.
        """
        self._ranks.enter()
        try:
            for _, part in self._parts:
                part.set_requires_gradient_sync(False, recurse=False)
                part.set_reshard_after_backward(False, recurse=False)
                part.set_reshard_after_forward(False, recurse=False)
                part.unshard()
            self._is_gathered = True
            yield
        finally:
            self._is_gathered = False
            for p in self._model.parameters():
                p.grad = None
            for _, part in self._parts:
                part.reshard()
                part.set_requires_gradient_sync(True, recurse=False)
                part.set_reshard_after_backward(True, recurse=False)
                part.set_reshard_after_forward(True, recurse=False)

    def whole_weights(self) -> dict[str, Tensor]:
        """Return the model's whole state_dict on the CPU, in the first process; empty in the others."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        self._ranks.enter()
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_model_state_dict(self._model, options=options)
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}

    def whole_optimizer(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return the optimizer's whole state_dict on the CPU, by parameter names, in the first process."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

        self._ranks.enter()
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return dict(get_optimizer_state_dict(self._model, optimizer, options=options))

    def load(
        self, weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, optimizer_state: Mapping[str, Any]
    ) -> None:
        """Load this process's part of whole weights, of which tied ones need one name, and of an optimizer's state."""
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            set_model_state_dict,
            set_optimizer_state_dict,
        )

        self._ranks.enter()
        parameters = self._model.named_parameters(remove_duplicate=False)
        named = {name.replace(COMPILED, ""): p for name, p in parameters}  # as torch names them in both states
        names = {id(named[name]): name for name in weights if name in named}
        tied = {name: weights[names[id(p)]] for name, p in named.items() if name not in weights and id(p) in names}
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self._model, {**weights, **tied}, options=options)
        # A parameter without a gradient so far has no state. `strict` does not accept that, and torch makes one for it.
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_optimizer_state_dict(self._model, optimizer, dict(optimizer_state), options=options)
        stateful = {named[name] for name in optimizer_state["state"]}
        for parameter in optimizer.state.keys() - stateful:
            del optimizer.state[parameter]

    def _enter(self, *_: Any) -> None:
        if not self._is_gathered:
            self._ranks.enter()

    def _look(self, module: nn.Module, _: Any) -> None:
        self._looks.pop(module).remove()
        gathered = (p for p in module.parameters() if not is_sharded(p))
        halves = (p.is_floating_point() and p.dtype.itemsize < 4 for p in gathered)
        self._has_half_policy = self._has_half_policy or any(halves)

    def _collect(self, _: nn.Module, __: Any, output: Any) -> None:
        if self._outputs is not None:
            self._outputs += [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]

    def _check_placements(self) -> None:
        """Raise TaskError if a parameter is split in another way than among data-parallel processes."""
        held = {id(p) for module, _ in self._parts for p in module.parameters()}
        parameter: Any
        for name, parameter in self._model.named_parameters():
            if not is_sharded(parameter):
                continue
            mesh, placements = parameter.device_mesh, parameter.placements
            is_data_parallel = placements[-1].is_shard() and all(one.is_replicate() for one in placements[:-1])
            if id(parameter) not in held or mesh.size() != self.size or not is_data_parallel:
                shown = ", ".join(map(str, placements))
                raise TaskError(
                    f"parallelize(model, mesh) made {name} a DTensor ({shown}) on "
                    f"{count(mesh.size(), 'device')}, not one that fully_shard splits among all {self.size}: each "
                    "process of launch draws samples of its own, which tensor parallelism does not allow; call "
                    "fully_shard(module, mesh=mesh) alone, or start such a training with torchrun as a command",
                    key="launch",
                )


def sharded_by_task(parallelize: Callable[..., Any], model: nn.Module, ranks: Ranks, device: torch.device) -> bool:
    """Call the task's `parallelize` with a mesh of all processes; tell whether it has sharded a parameter.

    All processes start from the weights of the first one. `model` may be on the CPU: `fully_shard` moves what it
    shards to the device, one module after the other. Raises TaskError.
    """
    from torch.distributed.device_mesh import init_device_mesh

    ranks.enter()
    with torch.no_grad():
        for tensor in dict.fromkeys([*model.parameters(), *model.buffers()]):
            if not tensor.is_meta and not is_sharded(tensor):
                broadcast_(tensor)
    ranks.enter()
    mesh = init_device_mesh(device.type, (ranks.size,), mesh_dim_names=(MESH_DIMENSION,))
    check_returned(parallelize(model, mesh), model)
    return any(map(is_sharded, model.parameters()))


def check_returned(returned: object, model: nn.Module) -> None:
    """Raise TaskError if `parallelize` returned something else than `model` or None."""
    if returned is not None and returned is not model:
        raise TaskError(
            f"parallelize(model, mesh) returned a new {type(returned).__name__}: it must change the model in place, "
            "as fully_shard does, and return None or the same model",
            key="launch",
        )


def _eager(hook: Callable[..., None]) -> Any:
    """Return a hook that torch.compile does not trace."""
    return torch.compiler.disable(hook)  # type: ignore[no-untyped-call]  # torch types it so


class _NoGradient(torch.autograd.Function):
    """A zero that gives its inputs a gradient of 0."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        ctx.kinds = [(one.shape, one.dtype, one.device) for one in inputs]
        return inputs[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> Any:
        return tuple(torch.zeros(shape, dtype=dtype, device=device) for shape, dtype, device in ctx.kinds)
