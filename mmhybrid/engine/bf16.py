"""Mixed precision where float32 is wanted after the neck."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch.utils._pytree import tree_map_only

from mmhybrid.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """Runs the feature extractor (every ``backbone`` and ``neck`` of the model) in bfloat16.

    Heads stay in float32: mmcv's RoIAlign knows no bfloat16, nor do its focal loss on GPUs and NMS
    on a CPU. mmengine's ``AmpOptimWrapper`` takes the whole model, and refuses a CPU. No loss
    scaling: bfloat16 has float32's range.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), features_in_bf16(model):
            yield


@contextmanager
def features_in_bf16(model: nn.Module) -> Iterator[None]:
    """Run every ``backbone`` and ``neck`` of a model in bfloat16; the whole model without any.

    The forward methods are replaced within the context only, so that copies of the model (an
    average of the weights, a saved module) never hold a wrapped one.
    """
    inner = getattr(model, 'module', model)  # out of a distributed wrapper
    modules = inner.named_modules()  # deep inside a wrapper, as of semi-supervised detection
    parts = [m for name, m in modules if name.rpartition('.')[2] in ('backbone', 'neck')]
    parts = parts or [inner]
    device = next(inner.parameters()).device.type  # a neck need not have any
    for part in parts:
        part.forward = _in_bf16(part.forward, device)
    try:
        yield
    finally:
        for part in parts:
            del part.forward


def _in_bf16(forward, device):
    def wrapped(*args, **kwargs):
        with torch.autocast(device, torch.bfloat16):
            outputs = forward(*args, **kwargs)
        return tree_map_only(torch.Tensor, _widened, outputs)

    return wrapped


def _widened(tensor):
    # Whole numbers, as the places of masked patches, stay what they are.
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor
