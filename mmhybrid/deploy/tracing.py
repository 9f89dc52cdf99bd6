"""Torch's tracer, set up for images of any size."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from unittest import mock

import torch
from torch import Tensor


@contextmanager
def any_size() -> Iterator[None]:
    """Set torch up for sizes that are symbols: for tracing, and for converting what was traced.

    Nothing is concluded from what the example happens to be, such as a batch that is not 1. And no
    cache of traced operators, which is slower than tracing them again when sizes are expressions.
    """
    import torch._dynamo.config as tracing
    from torch._subclasses.fake_impls import get_fast_op_impls

    symbols: Any = import_module('torch.fx.experimental._config')
    with (
        symbols.patch(backed_size_oblivious=True),
        tracing.patch(fake_tensor_cache_enabled=False),
        mock.patch.dict(get_fast_op_impls(), shapes()),
    ):
        yield


def shapes() -> dict:
    """Return functions that find the shape of an operator's result.

    Torch finds it by tracing up to a hundred operators in the place of one of these, once while it
    traces a model, and three times while it converts one to ONNX.
    """
    aten = torch.ops.aten

    def grid_sample(mode: Any, maps: Tensor, grid: Tensor, *options: Any) -> Tensor:
        return maps.new_empty((*maps.shape[:2], *grid.shape[1:3]))  # (N, C, h', w')

    def layer_norm(mode: Any, x: Tensor, shape: Sequence[int], *options: Any) -> tuple:
        moments = [x.new_empty((*x.shape[: -len(shape)], *[1] * len(shape))) for _ in range(2)]
        return torch.empty_like(x, memory_format=torch.contiguous_format), *moments

    def gelu(mode: Any, x: Tensor, **options: Any) -> Tensor:
        return torch.empty_like(x)

    return {
        aten.grid_sampler_2d.default: grid_sample,
        aten.native_layer_norm.default: layer_norm,
        aten.gelu.default: gelu,
    }
