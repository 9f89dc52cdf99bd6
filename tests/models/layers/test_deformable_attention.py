import pytest
import torch

from mmhybrid.models.kernels import deformable_attention
from mmhybrid.models.layers import MSDeformAttention

SHAPES = ((4, 6), (2, 3))


def test_offsets_begin_around_the_query():
    module = MSDeformAttention(24, 4, num_levels=2, num_points=3)
    offsets = module.sampling_offsets.bias.view(4, 2, 3, 2)
    assert offsets[0, 1].tolist() == [[1, 0], [2, 0], [3, 0]]
    torch.testing.assert_close(offsets.abs().amax(-1)[:, 0], torch.tensor([[1.0, 2.0, 3.0]] * 4))


def test_the_definition():
    """Samples of projected tokens at points that the query chooses, projected."""
    module = MSDeformAttention(8, 2, num_levels=2, num_points=3, value_ratio=0.5)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    query, points, tokens = torch.randn(2, 5, 8), torch.rand(5, 2), torch.randn(2, 30, 8)
    offsets = module.sampling_offsets(query).view(2, 5, 2, 2, 3, 2)
    locations = points.view(1, 5, 1, 1, 1, 2) + offsets / torch.tensor([[[6, 4]], [[3, 2]]])
    weights = module.attention_weights(query).view(2, 5, 2, 6).softmax(-1).view(2, 5, 2, 2, 3)
    value = module.value_proj(tokens).view(2, 30, 2, 2)
    samples = deformable_attention(value, SHAPES, locations, weights, 'grid_sample')
    out = module(query, points, tokens, SHAPES)
    torch.testing.assert_close(out, module.output_proj(samples), rtol=1e-4, atol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match=r'3 heads .* do not divide its width 8 \(= 16 \* 0.5\)'):
        MSDeformAttention(16, 3, num_levels=1, value_ratio=0.5)
    module = MSDeformAttention(8, 2, num_levels=1)
    with pytest.raises(ValueError, match=r'has 16 tokens, but .* have 20'):
        module(torch.randn(1, 3, 8), torch.rand(3, 2), torch.randn(1, 16, 8), ((4, 5),))
