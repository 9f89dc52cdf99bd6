import pytest
import torch

from mmhybrid.models.layers import Attention, QKVLinear
from mmhybrid.models.layers.attention import join_windows, split_windows


def test_the_keys_part_of_a_bias_is_held_at_zero():
    layer, x = QKVLinear(4, mask_key_bias=True), torch.randn(2, 3, 4)
    with torch.no_grad():
        layer.bias.copy_(torch.arange(1.0, 13))
    bias = torch.tensor([1.0, 2, 3, 4, 0, 0, 0, 0, 9, 10, 11, 12])
    out = layer(x)
    torch.testing.assert_close(out, x @ layer.weight.T + bias)
    out.sum().backward()
    assert layer.bias.grad.tolist() == [6.0] * 4 + [0.0] * 4 + [6.0] * 4
    assert QKVLinear(4, bias=False, mask_key_bias=True)(x).shape == (2, 3, 12)


@pytest.mark.parametrize('grid', [(6, 9), (5, 7), (1, 2), (3, 3)])
def test_windows_split_and_join(grid):
    h, w = grid
    tokens = torch.arange(1.0, 2 * h * w + 1).view(2, h * w, 1)
    windows = split_windows(tokens, grid, 3)
    assert windows.shape == (2 * -(-h // 3) * -(-w // 3), 9, 1)
    # The first window's rows; what lies beyond the grid is zero.
    padded = torch.zeros(3, 3)
    padded[:h, :w] = tokens[0].view(grid)[:3, :3]
    assert torch.equal(windows[0].view(3, 3), padded)
    assert torch.equal(join_windows(windows, grid, 3), tokens)


@pytest.mark.parametrize('pad_input', [False, True])
def test_windows_are_a_mask_on_a_padded_grid(pad_input):
    """Padding is attended to: zeros, or what the projection makes of zeros."""
    module = Attention(8, 2, window=3, pad_input=pad_input)
    torch.nn.init.normal_(module.qkv.bias)
    x = torch.randn(2, 5 * 7, 8)
    padded = torch.zeros(2, 6, 9, 8)
    padded[:, :5, :7] = x.view(2, 5, 7, 8)
    qkv = module.qkv(padded)
    if not pad_input:
        qkv[:, 5:] = qkv[:, :, 7:] = 0
    y, x_ = torch.meshgrid(torch.arange(6) // 3, torch.arange(9) // 3, indexing='ij')
    number = (3 * y + x_).flatten()  # of the window
    mask = (number[:, None] != number).double() * -1e9
    q, k, v = qkv.view(2, 54, 3, 2, 4).double().permute(2, 0, 3, 1, 4)
    out = (q @ k.transpose(2, 3) / 2 + mask).softmax(-1) @ v  # (N, heads, 54, 4)
    out = out.permute(0, 2, 1, 3).reshape(2, 6, 9, 8)[:, :5, :7].reshape(2, 35, 8)
    torch.testing.assert_close(module(x, (5, 7)), module.proj(out.float()))
