"""The rules that all operators share: precision, autocast, and values that may be read."""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)


def full(tensor: Tensor) -> Tensor:
    """The tensor in the precision an operator works in: float32 for float16 and bfloat16.

    torchvision has no kernels for bfloat16 and few for float16, and 16 bits do not hold the
    coordinates of an image.
    """
    return tensor.float() if tensor.dtype in HALVES else tensor


def without_autocast(function: Callable) -> Callable:
    """Run an operator in the dtypes it is given: mmcv's compiled ones know no autocast either."""

    @functools.wraps(function)
    def run(first: Tensor, *args, **kwargs):
        device = first.device.type
        if not torch.amp.is_autocast_available(device):
            return function(first, *args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(first, *args, **kwargs)

    return run


def can_read(tensor: Tensor) -> bool:
    """Return True if values are at hand: a real tensor of a CPU, outside of any tracing.

    Reading one from a GPU would stop the program until the GPU has caught up.
    """
    return (
        tensor.device.type == 'cpu'
        and type(tensor) in (Tensor, torch.nn.Parameter)  # and not FakeTensor
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def single(number: float) -> float:
    """A number as mmcv's compiled operators are given it: in float32."""
    mantissa, exponent = math.frexp(number)
    return math.ldexp(round(mantissa * 2**24), exponent - 24)


def shape(tensor: Tensor) -> str:
    """A tensor as error messages print it."""
    return f'{tuple(tensor.shape)} {str(tensor.dtype).removeprefix("torch.")} on {tensor.device}'


def check_alike(operator: str, **tensors: Tensor) -> None:
    """Raise a ValueError unless all tensors are floating point, of one dtype and device."""
    given = list(tensors.values())
    alike = all(t.dtype == given[0].dtype and t.device == given[0].device for t in given)
    if not (alike and given[0].is_floating_point()):
        listed = ', '.join(f'{name} {shape(t)}' for name, t in tensors.items())
        raise ValueError(
            f'{operator}: expected floating point tensors of one dtype on one device, got {listed}'
        )
