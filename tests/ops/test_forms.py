"""Operators in every dtype and memory format, in autocast, and on a GPU that is one in name."""

import pytest
import torch
from mmcv import ops
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.copies import Copies

from . import operators
from .operators import OPERATORS, inputs, run

TOLERANCE = {torch.float16: 4e-3, torch.bfloat16: 3e-2}


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('name', OPERATORS)
def test_halves_are_float32_rounded(name, dtype):
    found, expected = run(name, inputs(name, dtype)), run(name, inputs(name))
    for half, full in zip(found, expected, strict=True):
        assert half.dtype == dtype
        atol = TOLERANCE[dtype] * full.abs().max().item()
        torch.testing.assert_close(half.float(), full, rtol=0, atol=atol)


@pytest.mark.parametrize('name', OPERATORS)
def test_autocast_changes_nothing(name):
    expected = run(name, inputs(name))
    with torch.autocast('cpu', torch.bfloat16):
        found = run(name, inputs(name))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize('name', [name for name in OPERATORS if len(OPERATORS[name][1][0]) == 4])
def test_memory_formats_give_the_same(name):
    tensors, expected = inputs(name), run(name, inputs(name))
    for i, tensor in enumerate(tensors):
        if tensor.dim() == 4:
            tensor = tensor.detach().to(memory_format=torch.channels_last)
            assert not tensor.is_contiguous()
            tensors[i] = tensor.requires_grad_()
    out = OPERATORS[name][0](*tensors)
    grad = torch.ones_like(out)
    if grad.dim() == 4:
        grad = grad.to(memory_format=torch.channels_last)
    for one, other in zip((out, *torch.autograd.grad(out, tensors, grad)), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_suppression_in_other_dtypes(dtype):
    torch.manual_seed(0)
    boxes = torch.randint(0, 60, (50, 2)).float()
    boxes = torch.cat((boxes, boxes + torch.randint(8, 40, (50, 2))), 1)
    scores = torch.randperm(50) / 64
    for offset in (0, 1):
        expected = ops.nms(boxes, scores, 0.5, offset)[1]
        assert 8 < len(expected) < 45, len(expected)
        assert ops.nms(boxes.to(dtype), scores.to(dtype), 0.5, offset)[1].equal(expected)
        assert ops.nms(boxes, scores.to(dtype), 0.5, offset)[1].equal(expected)
    expected = ops.soft_nms(boxes, scores, 0.5)
    found = ops.soft_nms(boxes.to(dtype), scores.to(dtype), 0.5)
    assert found[1].equal(expected[1])
    torch.testing.assert_close(found[0].float(), expected[0], rtol=1e-2, atol=1e-2)
    overlaps = ops.bbox_overlaps(boxes.to(dtype), boxes.to(dtype))
    torch.testing.assert_close(overlaps.float(), ops.bbox_overlaps(boxes, boxes), rtol=0, atol=4e-3)


# A region's own number of points, and the sizes of a pyramid, are numbers on the GPU.
WAIT = ['roi_align max dense', 'roi_pool', 'deform_roi_pool dense', 'ms_deform_attn']


@pytest.mark.parametrize('name', [name for name in OPERATORS if name not in WAIT])
def test_a_gpu_is_never_waited_for(name, monkeypatch):
    with FakeTensorMode(allow_non_fake_inputs=True):
        for constant in ('ROIS', 'CLASSES', 'WEIGHT'):
            value = getattr(operators, constant)
            monkeypatch.setattr(operators, constant, torch.empty_like(value, device='cuda'))
        tensors = [torch.empty_like(t, device='cuda').requires_grad_() for t in inputs(name)]
        with Copies() as waits:
            out = OPERATORS[name][0](*tensors)
            if name not in ('carafe', 'deform_roi_pool'):
                # Not by torch's engine, which asks for a driver; these two call it themselves.
                grads = out.grad_fn.apply(torch.empty_like(out))
                assert grads[0].is_cuda and grads[0].shape == tensors[0].shape
    assert out.is_cuda
    assert not waits.found
