"""What every family asks of a GPU, without one: tensors that are on it in name and hold nothing."""

from collections import defaultdict
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mmhybrid.models.backbones.adapter import PyramidAdapter
from mmhybrid.models.kernels import pyramid
from mmhybrid.models.kernels.deformable_attention import triton_kernels
from tests.copies import Copies

from .test_compile import MODELS


@pytest.fixture
def gpu(monkeypatch):
    """Within it there is one, of compute capability 9.0."""
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda *_: (9, 0))
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda *_: True)
    monkeypatch.setattr(torch.cuda.amp.common, 'amp_definitely_not_available', lambda: False)
    # Sizes of levels are kept, as they are where nothing looks on.
    monkeypatch.setattr(pyramid, '_is_fake', lambda: False)
    pyramid._kept_sizes.cache_clear()
    yield FakeTensorMode(allow_non_fake_inputs=True)
    pyramid._kept_sizes.cache_clear()


@pytest.mark.parametrize('mode', ['infer', 'float32', 'bfloat16', 'amp'])
@pytest.mark.parametrize('name', MODELS)
def test_a_gpu_is_never_waited_for(name, mode, gpu):
    model = MODELS[name]().train(mode != 'infer')
    if isinstance(model, PyramidAdapter) and triton_kernels() is None:
        pytest.skip('its deformable attention samples by Triton on a GPU')
    dtype = torch.bfloat16 if mode == 'bfloat16' else torch.float32
    autocast = torch.autocast('cuda', torch.bfloat16) if mode == 'amp' else nullcontext()
    with gpu:
        _move(model, dtype)
        image = torch.empty(2, 3, 75, 131, device='cuda', dtype=dtype)
        with torch.inference_mode(mode == 'infer'), autocast:
            model(image)
            with Copies() as copies:
                maps = model(image)
        assert all(level.is_cuda for level in maps)
        if mode != 'infer':
            with copies:
                reached = _backward(maps)
            assert reached == {p for p in model.parameters() if p.requires_grad}
    assert not copies.found


def _move(model, dtype):
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                new = torch.empty_like(
                    tensor, device='cuda', dtype=dtype if tensor.is_floating_point() else None
                )
                is_parameter = isinstance(tensor, nn.Parameter)
                tensors[name] = nn.Parameter(new, tensor.requires_grad) if is_parameter else new


def _backward(outputs):
    """The backward pass, step by step, since torch's engine asks for a driver.

    Returns:
        The parameters that get a gradient.
    """
    grads = defaultdict(lambda: defaultdict(list))  # of each step, by its output's number
    for out in outputs:
        grads[out.grad_fn][out.output_nr].append(torch.empty_like(out))
    reached = set()
    for step in _in_order([out.grad_fn for out in outputs]):
        if type(step).__name__ == 'AccumulateGrad':
            (grad,) = _summed(grads[step], [step.variable])
            assert grad.shape == step.variable.shape and grad.is_cuda
            reached.add(step.variable)
            continue
        inputs = _summed(grads.pop(step), step._input_metadata)
        results = step.apply(*inputs) if hasattr(step, 'apply') else step(*inputs)
        edges = step.next_functions
        if hasattr(step, 'apply'):  # it has no edge for what is not a tensor
            results = [r for r in results if r is not None]
            edges = [edge for edge in edges if edge[0] is not None]
        results = results if isinstance(results, (tuple, list)) else (results,)
        for result, (following, number) in zip(results, edges, strict=True):
            if following is not None and result is not None:
                grads[following][number].append(result)
    return reached


def _summed(grads, likes):
    return [
        sum(g.sum_to_size(like.shape).to(like.dtype) for g in grads[i]) if grads[i] else None
        for i, like in enumerate(likes)
    ]


def _in_order(steps):
    """All steps of a graph, each after those whose results it takes."""
    order, entered = [], set()
    stack = [(step, False) for step in steps]
    while stack:
        step, is_done = stack.pop()
        if is_done:
            order.append(step)
        elif step not in entered:
            entered.add(step)
            stack.append((step, True))
            stack += [(following, False) for following, _ in step.next_functions if following]
    return reversed(order)
