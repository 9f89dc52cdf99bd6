"""Mixed precision on a CPU."""

from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch.utils._pytree import tree_map_only

from mmhybrid.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """Runs the feature extractor (``model.backbone`` and ``model.neck``) in bfloat16 on a CPU.

    mmengine's ``AmpOptimWrapper`` refuses a CPU. Heads stay in float32: the CPU versions of
    RoIAlign and NMS know no bfloat16. No loss scaling: bfloat16 has float32's range.
    """

    @contextmanager
    def optim_context(self, model):
        inner = getattr(model, 'module', model)  # out of a distributed wrapper
        parts = [getattr(inner, name, None) for name in ('backbone', 'neck')]
        parts = [part for part in parts if isinstance(part, torch.nn.Module)] or [inner]
        with super().optim_context(model):
            # The forward methods are replaced for this step only, so that copies of the model
            # (an average of the weights, a saved module) never hold a wrapped one.
            for part in parts:
                part.forward = _in_bf16(part.forward)
            try:
                yield
            finally:
                for part in parts:
                    del part.forward


def _in_bf16(forward):
    def wrapped(*args, **kwargs):
        with torch.autocast('cpu', torch.bfloat16):
            outputs = forward(*args, **kwargs)
        return tree_map_only(torch.Tensor, torch.Tensor.float, outputs)

    return wrapped
