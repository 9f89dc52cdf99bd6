"""Multiply-adds of a model, with those that torch's counter does not know."""

from collections.abc import Callable
from math import prod

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmhybrid.models.layers.blocks import counting


def count_macs(model: nn.Module, *inputs, forward: Callable | None = None) -> int:
    """Multiply-adds of one forward pass: matrix products, convolutions, fused and deformable
    attention. Norms, activations and resizing are not counted, as usual.

    Args:
        model: in the mode it is to be counted in.
        inputs: of ``forward``, by default the model itself.
    """
    counter = FlopCounterMode(display=False, custom_mapping=CUSTOM)
    with torch.no_grad(), counting(), counter:
        (forward or model)(*inputs)
    return counter.get_total_flops() // 2


def _fused_attention(query, key, value, *args, out_shape=None, **kwargs) -> int:
    """FLOPs of the two products of attention, ``(N, heads, L, D)``."""
    *batch, length, dims = query
    return 2 * prod(batch) * length * key[-2] * (dims + value[-1])


def _embedding_bag(table, indices, *args, out_shape=None, **kwargs) -> int:
    """FLOPs of a weighted sum of rows: how deformable attention samples."""
    return 2 * prod(indices) * table[-1]


def _grid_sample(maps, grid, *args, out_shape=None, **kwargs) -> int:
    """FLOPs of bilinear samples of four pixels each."""
    return 2 * 4 * maps[0] * maps[1] * prod(grid[1:-1])


CUSTOM = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _fused_attention,
    torch.ops.aten._embedding_bag: _embedding_bag,
    torch.ops.aten._embedding_bag_forward_only: _embedding_bag,
    torch.ops.aten.grid_sampler_2d: _grid_sample,
}
