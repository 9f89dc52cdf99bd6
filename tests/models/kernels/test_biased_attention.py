from importlib import import_module

import pytest
import torch
import torch.nn.functional as F

from mmhybrid.models.kernels import biased_attention

SCALE = 0.5
module = import_module('mmhybrid.models.kernels.biased_attention')


def random_inputs(n=2, queries=30, keys=12, width=4):
    generator = torch.Generator().manual_seed(0)
    shapes = (n, 2, queries, width), (n, 2, keys, width), (n, 2, keys, width), (2, queries, keys)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def plain_attention(q, k, v, bias):
    return ((q @ k.transpose(2, 3)) * SCALE + bias).softmax(-1) @ v


@pytest.mark.parametrize('n', [0, 1, 2])
@pytest.mark.parametrize('band', [2**24, 200, 1])
def test_attention_and_its_gradients(monkeypatch, band, n):
    monkeypatch.setattr(module, 'MAX_BAND', band)
    inputs, results = random_inputs(n), []
    for out in (biased_attention(*inputs, SCALE), plain_attention(*inputs)):
        results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_a_bias_of_more_precision():
    *qkv, bias = random_inputs()
    out = biased_attention(*(t.bfloat16() for t in qkv), bias, SCALE)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), plain_attention(*qkv, bias), rtol=0.1, atol=0.05)
    out.sum().backward()
    assert bias.grad.dtype == torch.float32 and bias.grad.isfinite().all()


def test_training_takes_the_fused_kernel():
    with torch.profiler.profile(acc_events=True) as profile:
        biased_attention(*random_inputs(), SCALE)
    operations = {event.key for event in profile.key_averages()}
    assert 'aten::_scaled_dot_product_flash_attention_for_cpu' in operations
    assert 'aten::_softmax' not in operations


@pytest.mark.parametrize('narrow', [False, True])
@pytest.mark.parametrize('width', [5, 8, 46])
def test_heads_of_any_width_in_aligned_ones(width, narrow, monkeypatch):
    q, k, v, bias = random_inputs(width=width)
    if narrow:  # queries and keys, as with qk_ratio
        q, k = q[..., : width // 2], k[..., : width // 2]
    expected, widths = plain_attention(q, k, v, bias), []
    fused = F.scaled_dot_product_attention

    def note(q, *args, **kwargs):
        widths.append([it.shape[-1] for it in (q, *args)])
        return fused(q, *args, **kwargs)

    monkeypatch.setattr(F, 'scaled_dot_product_attention', note)
    out = module.attend_in_aligned_heads(q, k, v, bias, SCALE)
    torch.testing.assert_close(out, expected)
    aligned = {2: 8, 4: 8, 23: 24, 5: 8, 8: 8, 46: 48}
    assert widths == [[aligned[it.shape[-1]] for it in (q, k, v)]]
