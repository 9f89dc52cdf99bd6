"""Every differentiable operator as a function of mmcv, and small inputs of it."""

import torch
from mmcv import ops
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from mmcv.ops.psa_mask import psa_mask

# Numbers that bfloat16 has: they are the same in every dtype.
ROIS = torch.tensor(
    [[1, 2.25, 3.125, 21, 18], [0, -9, 4.25, 12.5, 30], [0, 6, 6.25, 6.5, 7.75]],
)
CLASSES = torch.tensor([3, 0, 1, 1, 2])
WEIGHT = torch.tensor([0.5, 2, 1.25, 0.75])
SIZES = torch.tensor([[4, 3], [2, 2]])
CONV = ((2, 1), (1, 0), (1, 2), 2, 2)
"""Stride, padding, dilation, groups, deformable groups."""


def roi_align(mode, ratio, aligned):
    return lambda x: ops.roi_align(x, ROIS.to(x), (2, 3), 0.25, ratio, mode, aligned)


def focal(name, weighted, reduction):
    def run(x):
        weight = WEIGHT.to(x) if weighted else None
        return getattr(ops, name)(x, CLASSES.to(x.device), 1.5, 0.3, weight, reduction)

    return run


def deform_attention(value, locations, weights):
    sizes = SIZES.to(value.device)
    starts = torch.tensor([0, 12], device=value.device)
    return MultiScaleDeformableAttnFunction.apply(value, sizes, starts, locations, weights, 64)


MAPS = (2, 4, 5, 6)
OPERATORS = {
    'roi_align avg dense': (roi_align('avg', 0, True), [MAPS]),
    'roi_align avg': (roi_align('avg', 2, False), [MAPS]),
    'roi_align max dense': (roi_align('max', 0, False), [MAPS]),
    'roi_align max': (roi_align('max', 2, True), [MAPS]),
    'roi_pool': (lambda x: ops.roi_pool(x, ROIS.to(x), (2, 3), 0.25), [MAPS]),
    'deform_roi_pool dense': (
        lambda x, offset: ops.deform_roi_pool(x, ROIS.to(x), offset, (2, 3), 0.25, 0, 0.25),
        [MAPS, (3, 2, 2, 3)],
    ),
    'deform_roi_pool': (
        lambda x, offset: ops.deform_roi_pool(x, ROIS.to(x), offset, (2, 3), 0.25, 2, 0.25),
        [MAPS, (3, 2, 2, 3)],
    ),
    'deform_conv': (
        lambda *tensors: ops.deform_conv2d(*tensors, *CONV),
        [MAPS, (2, 24, 3, 4), (6, 2, 3, 2)],
    ),
    'modulated_deform_conv': (
        lambda *tensors: ops.modulated_deform_conv2d(*tensors, *CONV),
        [MAPS, (2, 24, 3, 4), (2, 12, 3, 4), (6, 2, 3, 2), (6,)],
    ),
    'sigmoid_focal_loss': (focal('sigmoid_focal_loss', False, 'mean'), [(5, 4)]),
    'sigmoid_focal_loss weighted': (focal('sigmoid_focal_loss', True, 'none'), [(5, 4)]),
    'softmax_focal_loss': (focal('softmax_focal_loss', False, 'mean'), [(5, 4)]),
    'softmax_focal_loss weighted': (focal('softmax_focal_loss', True, 'sum'), [(5, 4)]),
    'carafe': (lambda *tensors: ops.carafe(*tensors, 3, 2, 2), [MAPS, (2, 18, 10, 12)]),
    'psa_mask collect': (lambda x: psa_mask(x, 0, (3, 5)), [(2, 15, 4, 3)]),
    'psa_mask distribute': (lambda x: psa_mask(x, 1, (3, 5)), [(2, 15, 4, 3)]),
    'ms_deform_attn': (deform_attention, [(2, 16, 2, 4), (2, 3, 2, 2, 2, 2), (2, 3, 2, 2, 2)]),
}


def inputs(name, dtype=torch.float32):
    """Random tensors for an operator, as leaves of a graph."""
    torch.manual_seed(0)
    tensors = [torch.randn(shape, dtype=torch.float64) for shape in OPERATORS[name][1]]
    if dtype != torch.float64:  # the same numbers in all others
        tensors = [tensor.to(torch.bfloat16) for tensor in tensors]
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


def run(name, tensors):
    """Output and gradients."""
    out = OPERATORS[name][0](*tensors)
    grads = torch.autograd.grad(out, tensors, torch.ones_like(out))
    return [out.detach(), *grads]
