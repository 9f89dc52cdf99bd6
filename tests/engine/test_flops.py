import pytest
import torch
from torch import nn

from mmhybrid.engine.flops import count_macs
from mmhybrid.models.kernels import biased_attention, deformable_attention
from mmhybrid.models.layers import Attention


def test_linear_and_convolution():
    assert count_macs(nn.Linear(8, 5), torch.randn(2, 3, 8)) == 6 * 8 * 5
    conv = nn.Conv2d(4, 6, 3, padding=1)
    assert count_macs(conv, torch.randn(1, 4, 7, 5)) == 35 * 6 * 4 * 9


def test_fused_attention_counts_both_products():
    attention = Attention(16, 2)
    tokens = 12
    linear = tokens * 16 * (48 + 16)
    products = 2 * tokens * tokens * 16
    assert count_macs(attention, torch.randn(1, tokens, 16), (3, 4)) == linear + products


def test_attention_with_a_bias_counts_the_same():
    q, k, v = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 8)
    inputs = q, k, v, torch.randn(3, 6, 5), 0.5
    macs = count_macs(nn.Identity(), *inputs, forward=biased_attention)
    assert macs == 2 * 3 * 6 * 5 * (4 + 8)


@pytest.mark.parametrize('backend', ['embedding_bag', 'grid_sample', 'gather'])
def test_deformable_attention_counts_four_pixels_a_sample(backend):
    n, queries, heads, dims, points = 2, 5, 3, 4, 2
    shapes = ((4, 4), (2, 2))
    value = torch.randn(n, 20, heads, dims)
    locations = torch.rand(n, queries, heads, 2, points, 2)
    weights = torch.rand(n, queries, heads, 2, points)

    def sample():
        return deformable_attention(value, shapes, locations, weights, backend)

    expected = n * queries * heads * 2 * points * 4 * dims
    assert count_macs(nn.Identity(), forward=sample) == expected
