"""The operators of compiled code, beside the functions of eager code that stand behind them."""

import pytest
import torch

from mmhybrid.models.layers import deformable_attention, operators, pair_bias

SHAPES = ((4, 6), (2, 3))
SIZES = [4, 6, 2, 3]
CHECKS = (
    'test_schema',
    'test_autograd_registration',
    'test_faketensor',
    'test_aot_dispatch_dynamic',
)


def draw(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def samples():
    """Values, locations and weights."""
    return draw((2, 30, 8), (2, 7, 2, 2, 3, 2), (2, 7, 2, 2, 3))


def attention():
    """Queries, keys, values and a bias."""
    return draw((2, 3, 12, 4), (2, 3, 5, 4), (2, 3, 5, 8), (3, 12, 5))


@pytest.mark.parametrize('name', ['bag_samples', 'biased_attention'])
def test_the_operators_are_well_formed(name):
    """Schema, gradients, and shapes and strides without data, as torch checks them."""
    tensors, rest = {
        'bag_samples': (samples(), SIZES),
        'biased_attention': (attention(), 0.5),
    }[name]
    torch.library.opcheck(getattr(operators, name), (*tensors, rest), test_utils=CHECKS)


def gradients(function, tensors):
    out = function(*tensors)
    return out, *torch.autograd.grad(out.square().sum(), tensors)


def eager(value, locations, weights):
    return deformable_attention(
        value.unflatten(2, (2, 4)), SHAPES, locations, weights, 'embedding_bag'
    )


def test_sampling():
    expected = gradients(eager, samples())
    found = gradients(lambda *t: operators.bag_samples(*t, SIZES), samples())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('band', [2**24, 100])
def test_attention_whole_and_in_bands(band, monkeypatch):
    monkeypatch.setattr(pair_bias, 'MAX_BAND', band)
    expected = gradients(lambda *t: pair_bias.BiasedAttention.apply(*t, 0.5), attention())
    found = gradients(lambda *t: operators.biased_attention(*t, 0.5), attention())
    torch.testing.assert_close(found, expected)


def test_a_gradient_alone():
    """Where values and locations need none."""
    value, locations, weights = samples()
    out = operators.bag_samples(value.detach(), locations.detach(), weights, SIZES)
    (grad,) = torch.autograd.grad(out.square().sum(), [weights])
    expected = gradients(eager, samples())
    torch.testing.assert_close(grad, expected[3])
