"""Gradients of every differentiable operator are those of its values, in float64."""

import pytest
import torch
from mmcv import ops
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from mmcv.ops.psa_mask import psa_mask
from torch.autograd import gradcheck

ROIS = torch.tensor(
    [[1, 2.2, 3.1, 21.3, 17.9], [0, -9.3, 4.2, 12.7, 30.1], [0, 6.1, 6.3, 6.4, 7.7]],
    dtype=torch.float64,
)

OPTIONS = ((2, 1), (1, 0), (1, 2), 2, 2)
"""Of convolutions: stride, padding, dilation, groups, deformable groups."""


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_roi_align(mode, ratio, aligned):
    gradcheck(
        lambda x: ops.roi_align(x, ROIS, (2, 3), 0.25, ratio, mode, aligned), draw(2, 2, 5, 7)
    )


def test_roi_pool():
    gradcheck(lambda x: ops.roi_pool(x, ROIS, (2, 3), 0.25), draw(2, 2, 5, 7))


@pytest.mark.parametrize('ratio', [0, 2])
def test_deform_roi_pool(ratio):
    gradcheck(
        lambda x, offset: ops.deform_roi_pool(x, ROIS, offset, (2, 3), 0.25, ratio, 0.3),
        (draw(2, 2, 5, 7), draw(3, 2, 2, 3)),
    )


@pytest.mark.parametrize('needed', [(1, 1, 1), (0, 0, 1), (0, 1, 0), (1, 0, 1)])
def test_deform_conv(needed):
    tensors = (draw(2, 4, 5, 6), draw(2, 24, 3, 4), draw(6, 2, 3, 2))
    for tensor, need in zip(tensors, needed, strict=True):
        tensor.requires_grad_(bool(need))
    gradcheck(lambda *tensors: ops.deform_conv2d(*tensors, *OPTIONS), tensors)


def test_modulated_deform_conv():
    tensors = (draw(2, 4, 5, 6), draw(2, 24, 3, 4), draw(2, 12, 3, 4), draw(6, 2, 3, 2), draw(6))
    gradcheck(lambda *tensors: ops.modulated_deform_conv2d(*tensors, *OPTIONS), tensors)


@pytest.mark.parametrize('weighted', [True, False])
@pytest.mark.parametrize('reduction', ['mean', 'none'])
@pytest.mark.parametrize('name', ['sigmoid_focal_loss', 'softmax_focal_loss'])
def test_focal_loss(name, reduction, weighted):
    weight = torch.rand(4, dtype=torch.float64) if weighted else None
    target = torch.tensor([3, 0, 1, 1, 2])
    if name == 'softmax_focal_loss' and reduction == 'none':
        reduction = 'sum'  # mmcv's own backward pass takes one number for its rows
    gradcheck(lambda x: getattr(ops, name)(x, target, 1.5, 0.3, weight, reduction), draw(5, 4))


def test_carafe():
    gradcheck(lambda *t: ops.carafe(*t, 3, 2, 2), (draw(2, 4, 3, 2), draw(2, 18, 6, 4)))


@pytest.mark.parametrize('kind', [0, 1])
def test_psa_mask(kind):
    gradcheck(lambda x: psa_mask(x, kind, (3, 5)), draw(2, 15, 4, 3))


def test_ms_deform_attn():
    shapes = torch.tensor([[4, 3], [2, 2]])
    locations = torch.rand(2, 3, 2, 2, 2, 2, dtype=torch.float64) * 1.4 - 0.2
    gradcheck(
        lambda *t: MultiScaleDeformableAttnFunction.apply(
            t[0], shapes, torch.tensor([0, 12]), t[1], t[2], 64
        ),
        (draw(2, 16, 2, 3), locations.requires_grad_(), draw(2, 3, 2, 2, 2)),
    )
