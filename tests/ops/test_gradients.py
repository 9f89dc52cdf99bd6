"""Gradients of every differentiable operator are those of its values, in float64."""

import pytest
import torch
from torch.autograd import gradcheck

from mmhybrid.ops.regions import Regions
from mmhybrid.ops.roi_align import _spread_mean

from .operators import OPERATORS, ROIS, inputs


@pytest.mark.parametrize('name', OPERATORS)
def test_gradients(name):
    gradcheck(OPERATORS[name][0], inputs(name, torch.float64))


@pytest.mark.parametrize('needed', [(0, 0, 1), (0, 1, 0), (1, 0, 1)])
def test_some_gradients_of_a_deformable_convolution(needed):
    tensors = inputs('deform_conv', torch.float64)
    for tensor, need in zip(tensors, needed, strict=True):
        tensor.requires_grad_(bool(need))
    gradcheck(OPERATORS['deform_conv'][0], tensors)


def test_a_second_backward_pass_has_gradients_of_its_own():
    tensors = inputs('deform_conv')
    out = OPERATORS['deform_conv'][0](*tensors)
    for scale in (1, 3):
        grads = torch.autograd.grad(out, tensors, torch.full_like(out, scale), retain_graph=True)
        if scale == 1:
            first = grads
    for one, other in zip(first, grads, strict=True):
        torch.testing.assert_close(3 * one, other)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_the_gradient_of_roi_align_in_one_order_is_that_in_any(ratio, aligned):
    shape, grad = torch.Size([2, 4, 5, 6]), torch.rand(3, 4, 2, 3)
    found = _spread_mean(grad, Regions(ROIS, (2, 3), 0.25, ratio, aligned), shape)
    options = (0.25, 2, 3, *shape, ratio, aligned)
    expected = torch.ops.torchvision._roi_align_backward(grad, ROIS, *options)
    assert expected.any()
    torch.testing.assert_close(found, expected)
