"""Gradients that operators of our own do not have: another form is taken, or an error says so."""

import pytest
import torch
from torch.autograd import forward_ad

from mmhybrid.models.kernels import biased_attention, deformable_attention

SHAPES = ((3, 4), (2, 2))


def attention():
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 2, 5, 4), (1, 2, 3, 4), (1, 2, 3, 4), (2, 5, 3))
    tensors = [torch.randn(shape, generator=generator).double() for shape in shapes]
    return lambda *tensors: biased_attention(*tensors, 0.5), tensors


def sampling():
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(1, 16, 2, 4, generator=generator)
    locations = torch.rand(1, 3, 2, 2, 2, 2, generator=generator)
    weights = torch.rand(1, 3, 2, 2, 2, generator=generator)
    tensors = [value, locations, weights]
    return lambda value, *others: deformable_attention(value, SHAPES, *others), tensors


@pytest.mark.parametrize('case', [attention, sampling])
@pytest.mark.parametrize('way', ['torch.func', 'dual numbers'])
def test_gradients_forward_are_those_backward(case, way):
    function, tensors = case()
    tangents = [torch.randn_like(tensor) for tensor in tensors]
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    grads = torch.autograd.grad(function(*leaves).sum(), leaves)
    expected = sum((g * t).sum() for g, t in zip(grads, tangents, strict=True))
    if way == 'torch.func':
        _, tangent = torch.func.jvp(function, tuple(tensors), tuple(tangents))
    else:
        with forward_ad.dual_level():
            duals = map(forward_ad.make_dual, tensors, tangents)
            tangent = forward_ad.unpack_dual(function(*duals)).tangent
    torch.testing.assert_close(tangent.sum(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('case', [attention, sampling])
def test_gradients_of_gradients_are_refused(case):
    function, tensors = case()
    leaves = [tensor.requires_grad_() for tensor in tensors]
    grads = torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match='has no gradient: for gradients of gradients use'):
        sum(grad.square().sum() for grad in grads).backward()
