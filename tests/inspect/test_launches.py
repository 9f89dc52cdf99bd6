"""Operators of a training step: known numbers of a small network, bounds of the backbones."""

import pytest
import torch
from torch import nn

from mmhybrid.inspect import count_launches
from mmhybrid.models.backbones import CMT, ViTAdapter, ViTCoMer

NARROW = dict(embed_dims=48, deform_heads=6, stem_channels=8)
"""As many operators as the S architecture calls, in a tenth of the time."""
NARROW_CMT = dict(embed_dims=(16, 32, 64, 128), stem_channels=8)


def launches(model, image):
    return count_launches(model, lambda: sum(out.sum() for out in model(image)))


def test_known_counts():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Flatten(0))
    image = torch.randn(2, 3, 4)
    counts = count_launches(net, lambda: net(image).sum())
    # Forward: addmm, relu, sum; backward: ones, relu's, the weight's and the bias's gradient. The
    # gradient of a sum, expand, is a view, and so are the reshapings.
    assert counts['aten::addmm'] == counts['aten::relu'] == 1
    assert counts['aten::threshold_backward'] == counts['aten::mm'] == 1
    assert counts['aten::sum'] == 2 and counts['aten::ones_like'] == 1
    assert not {'aten::view', 'aten::expand', 'aten::t', 'aten::detach'} & set(counts)


def test_a_step_leaves_the_model_as_it_was():
    net = nn.Linear(4, 4).eval()
    net.weight.grad = grad = torch.ones(4, 4)
    image = torch.randn(2, 4)
    first = count_launches(net, lambda: net(image).sum())
    assert net.weight.grad is grad and torch.equal(grad, torch.ones(4, 4))
    assert net.bias.grad is None and not net.training
    net.weight.grad = None
    assert count_launches(net, lambda: net(image).sum()) == first


def test_a_frozen_model_has_a_forward_pass():
    net = nn.Linear(4, 4).requires_grad_(False)
    assert count_launches(net, lambda: net(torch.ones(2, 4)).sum())['aten::addmm'] == 1


@pytest.mark.parametrize(
    'backbone, narrow, bound',
    [
        pytest.param(ViTCoMer, NARROW, 1850, id='vitcomer_s'),
        pytest.param(ViTAdapter, NARROW, 1300, id='vitadapter_s'),
        pytest.param(CMT, NARROW_CMT, 1750, id='cmt_s'),
    ],
)
def test_bounds(backbone, narrow, bound):
    """1738, 1134 and 1683 with torch 2.12: deformable attention is one operator."""
    model = backbone({**backbone.arch_settings['s'], **narrow})
    counts = launches(model, torch.randn(2, 3, 224, 224))
    assert 0.8 * bound < counts.total() <= bound, counts.most_common(12)
    if backbone is not CMT:
        attentions = counts['mmhybrid::sample_in_bags']
        assert attentions == counts['mmhybrid::sample_in_bags_backward'] > 0
        assert counts['aten::embedding_bag'] == counts['aten::_embedding_bag'] == 0


def test_every_operator_counts():
    """200 more in the forward pass are 200 more in the backward pass too."""
    net = nn.Linear(4, 4)

    def loss(more):
        out = net(torch.ones(2, 4))
        for _ in range(more):
            out = out * 1.5
        return out.sum()

    few, many = (count_launches(net, lambda more=more: loss(more)) for more in (0, 200))
    assert many['aten::mul'] - few['aten::mul'] == 400 == many.total() - few.total()
