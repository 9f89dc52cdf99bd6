"""Gradients of every differentiable operator are those of its values, in float64."""

import pytest
import torch
from torch.autograd import gradcheck

from .operators import OPERATORS, inputs


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
