"""Operators that a model asks torch for: on a GPU, about one kernel each."""

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mmhybrid.engine.flops import formulas
from mmhybrid.inspect.backward import backward, current_node

NO_KERNEL = {
    'aten::_unsafe_view', 'aten::is_same_size', 'aten::empty', 'aten::empty_strided',
    'aten::empty_like', 'aten::new_empty', 'aten::new_empty_strided', 'aten::lift_fresh',
}  # fmt: skip
"""Operators that compute nothing, besides those whose schema says that they return a view."""
OVERWRITES = {'aten::copy_', 'aten::fill_', 'aten::zero_', 'aten::bernoulli_', 'aten::normal_'}
"""Operators in place that do not read what they write to."""
ROWS = {'aten::index', 'aten::index_select', 'aten::gather', 'aten::embedding'}
"""Operators that read no more of their first tensor than they write."""
WAITS = {
    'aten::_local_scalar_dense', 'aten::nonzero', 'aten::masked_select', 'aten::equal',
    'aten::_unique2', 'aten::unique_dim', 'aten::unique_consecutive',
}  # fmt: skip
"""Operators whose result's value or shape the host reads: it waits for the device."""
SKIPPED = str(Path(torch.__file__).parent), str(Path(__file__).parent)
"""Folders whose code calls operators for others."""


@dataclass(frozen=True)
class Launch:
    """An operator that was called.

    Attributes:
        name: such as ``'aten::addmm'``.
        read: bytes of its inputs, each once.
        written: bytes of its outputs.
        macs: multiply-adds, of the operators that :func:`mmhybrid.engine.flops.count_macs` counts
            and of their gradients.
        dtype: of its first input of floating point, else None.
    """

    name: str
    read: int
    written: int
    macs: int
    dtype: torch.dtype | None


class LaunchCounter(TorchDispatchMode):
    """Counts operators while it is entered, views aside, and what they do.

    An operator of our own counts as one, whatever it is made of. Fake tensors count as real ones;
    where the host reads a number of theirs, it is answered with 0, and with no index for all that
    are not 0.

    Args:
        held: tensors that are in memory before, such as a model's parameters.

    Attributes:
        launches: the operators, in their order.
        peak: bytes of all tensors in memory, held ones too, at most at a time.
        largest: bytes of the largest tensor that an operator put out.
        largest_place: its operator, its shape and the line of code that called it.
        host_copies: operators that copy between host and device, or for which the host waits, each
            with the line of code that called it.
    """

    def __init__(self, held: Iterable[Tensor] = ()):
        super().__init__()
        self.launches: list[Launch] = []
        self.host_copies: list[str] = []
        self.largest, self.largest_place = 0, ''
        self.peak = self._in_use = 0
        self._storages: set[int] = set()
        for tensor in held:
            self._keep(tensor)

    @property
    def counts(self) -> Counter[str]:
        """Number of calls of each operator, such as ``'aten::addmm'``."""
        return Counter(launch.name for launch in self.launches)

    @property
    def moved(self) -> int:
        """Bytes that all operators read and write."""
        return sum(launch.read + launch.written for launch in self.launches)

    @property
    def macs(self) -> int:
        """Multiply-adds of all operators."""
        return sum(launch.macs for launch in self.launches)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name, is_view = _kind(func)
        if name == 'prim::device':  # most of all calls
            return func(*args, **kwargs)
        inputs = _tensors((args, kwargs))
        waits = _waits(name, args)
        out = _answer(func, args, kwargs) if waits else func(*args, **kwargs)
        outputs = _tensors(out)
        if waits or _crosses(name, inputs, outputs):
            self.host_copies.append(f'{name}, {_place()}')
        if is_view:
            return out
        for tensor in outputs:
            self._keep(tensor)
            if _bytes(tensor) > self.largest:
                self.largest = _bytes(tensor)
                self.largest_place = f'{name} {tuple(tensor.shape)}, {_place()}'
        if name not in NO_KERNEL:
            read = [tensor for tensor in inputs if not (name in OVERWRITES and tensor is inputs[0])]
            self.launches.append(
                Launch(
                    name,
                    _bytes_read(name, read, outputs),
                    sum(map(_bytes, outputs)),
                    macs_of(func, args, kwargs, out),
                    next((t.dtype for t in inputs if t.dtype.is_floating_point), None),
                )
            )
        return out

    def _keep(self, tensor: Tensor) -> None:
        """Count the tensor's memory as in use until nothing refers to it."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages:
            return
        self._storages.add(key)
        self._in_use += size
        self.peak = max(self.peak, self._in_use)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self._in_use -= size


@cache
def _kind(func: Any) -> tuple[str, bool]:
    """Return an operator's name, and if its schema says that it returns a view."""
    returns = func._schema.returns
    return func._schema.name, any(r.alias_info and not r.alias_info.is_write for r in returns)


def _tensors(tree: Any) -> list[Tensor]:
    """Return the distinct tensors of a tree."""
    return list({id(leaf): leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}.values())


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's elements, those that it repeats by a stride of 0 once."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return prod(side for side, step in sides if step or not side) * tensor.element_size()


def _bytes_read(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> int:
    sizes = list(map(_bytes, inputs))
    if name in ROWS and sizes:
        sizes[0] = min(sizes[0], *map(_bytes, outputs))
    return sum(sizes)


@cache
def _formulas() -> dict:
    return FlopCounterMode(display=False, custom_mapping=formulas()).flop_registry


def macs_of(func: Any, args: tuple, kwargs: dict, out: Any) -> int:
    """Return the multiply-adds of a call of an operator, of those that are counted."""
    formula = _formulas().get(getattr(func, '_overloadpacket', None))
    return 0 if formula is None else formula(*args, **kwargs, out_val=out) // 2


def _waits(name: str, args: tuple) -> bool:
    """Return True if the host needs what the operator computes on a device."""
    if name in WAITS:
        return args[0].device.type != 'cpu'
    if name in ('aten::index', 'aten::index_put_', 'aten::index_put'):
        return any(t.dtype == torch.bool and t.device.type != 'cpu' for t in _tensors(args[1]))
    return False


def _answer(func: Any, args: tuple, kwargs: dict) -> Any:
    """Call an operator for which the host waits; a fake tensor has no values to answer with."""
    tensor, name = args[0], func._schema.name
    if isinstance(tensor, FakeTensor) and name == 'aten::_local_scalar_dense':
        return False if tensor.dtype == torch.bool else 0.0 if tensor.is_floating_point() else 0
    if isinstance(tensor, FakeTensor) and name == 'aten::nonzero':
        return tensor.new_empty(0, tensor.dim(), dtype=torch.int64)
    return func(*args, **kwargs)


def _crosses(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Return True for a copy between the host and a device."""
    is_copy = name in ('aten::_to_copy', 'aten::copy_')
    return is_copy and len({t.device.type for t in inputs + outputs} & {'cpu', 'cuda'}) > 1


def _place() -> str:
    """Return the line of code that called the operator, or the step of the backward pass."""
    node = current_node()
    if node is not None:
        return node
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(SKIPPED):
        frame = frame.f_back
    if frame is None:
        return 'unknown'
    path = Path(frame.f_code.co_filename)
    return f'{"/".join(path.parts[-3:])}:{frame.f_lineno}'


def count_inference(model: nn.Module, infer: Callable[[], object]) -> LaunchCounter:
    """Count the operators of one inference.

    Args:
        model: is in evaluation mode for it; its mode is then as before.
        infer: runs the model once.
    """
    was_training = model.training
    try:
        model.eval()
        with torch.no_grad(), LaunchCounter(_held(model)) as counter:
            infer()
    finally:
        model.train(was_training)
    return counter


def count_step(model: nn.Module, loss: Callable[[], Tensor]) -> LaunchCounter:
    """Count the operators of one training step, forward and backward, without the optimizer's.

    Widths of layers do not change their number, and sizes of images only where something is resized
    or padded.

    Args:
        model: is in training mode for the step; its mode and gradients are then as before.
        loss: runs the forward pass and returns the scalar that is differentiated.
    """
    was_training = model.training
    before = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in before:
        parameter.grad = None  # torch would add to it
    try:
        model.train()
        with LaunchCounter(_held(model)) as counter, torch.enable_grad():
            value = loss()
            is_fake = isinstance(value, FakeTensor)
            if value.requires_grad and not is_fake:  # unless everything is frozen
                value.backward()
            elif value.requires_grad:
                losses = [value]
                del value  # which holds all that the backward pass is to free
                backward(losses)
    finally:
        model.train(was_training)
        for parameter, grad in before:
            parameter.grad = grad
    return counter


def count_launches(model: nn.Module, loss: Callable[[], Tensor]) -> Counter[str]:
    """Return the number of calls of each operator in a training step; see :func:`count_step`."""
    return count_step(model, loss).counts


def _held(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
