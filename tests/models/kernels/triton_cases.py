"""What is asked of the Triton kernels: `test_deformable_triton.py` runs pytest on this file.

Triton's interpreter has to be chosen before Triton is imported, so these need a process of their
own: with TRITON_INTERPRET=1 on a CPU, without it on a GPU.
"""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from mmhybrid.engine.flops import count_macs
from mmhybrid.models.kernels import deformable_attention, deformable_triton

DEVICE = 'cpu' if deformable_triton.INTERPRETED else 'cuda'
LEVEL = ((4, 7),)
TWO_LEVELS = ((4, 5), (2, 2))
THREE_LEVELS = ((5, 6), (3, 3), (1, 2))
TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def sample(shapes, dtype=torch.float32, n=2, queries=5, heads=2, dims=8, points=2):
    """Values, locations of which a third lies outside, and weights."""
    generator = torch.Generator().manual_seed(0)
    tokens = sum(h * w for h, w in shapes)
    value = torch.randn(n, tokens, heads, dims, generator=generator)
    locations = torch.rand(n, queries, heads, len(shapes), points, 2, generator=generator)
    weights = torch.rand(n, queries, heads, len(shapes), points, generator=generator)
    tensors = (value.to(dtype), locations * 1.5 - 0.25, weights)
    return [tensor.to(DEVICE).requires_grad_() for tensor in tensors]


def run(backend, shapes, tensors):
    """The output and all gradients of its squared sum."""
    value, locations, weights = tensors
    out = deformable_attention(value, shapes, locations, weights, backend)
    out.float().square().sum().backward()
    return [out.detach(), *(tensor.grad for tensor in tensors)]


def check(shapes, dtype=torch.float32, **sizes):
    """Against ``grid_sample`` in float32, in parts of the largest number."""
    value, *others = sample(shapes, dtype, **sizes)
    exact = [value.detach().float().requires_grad_(), *(t.detach().clone() for t in others)]
    exact[1:] = [tensor.requires_grad_() for tensor in exact[1:]]
    results = run('triton', shapes, [value, *others])
    assert [result.dtype for result in results] == [dtype, dtype, torch.float32, torch.float32]
    for result, expected in zip(results, run('grid_sample', shapes, exact), strict=True):
        error = (result.float() - expected).abs().max() / expected.abs().max()
        assert error < TOLERANCES[dtype]


@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
@pytest.mark.parametrize('dims', [8, 20, 32, 64])
def test_widths_and_dtypes(dims, dtype):
    check(TWO_LEVELS, dtype, dims=dims)


@pytest.mark.parametrize(
    'sizes',
    [
        dict(shapes=LEVEL),
        dict(shapes=((1, 1),)),
        dict(shapes=THREE_LEVELS, points=3),
        dict(shapes=THREE_LEVELS, points=1, heads=1, n=1),
        dict(shapes=LEVEL, queries=20, dims=32),  # of which 16 are a program's
        dict(shapes=((2, 2),), dims=1),
    ],
    ids=str,
)
def test_sizes(sizes):
    check(**sizes)


def test_64_bit_indices(monkeypatch):
    monkeypatch.setattr(deformable_triton, 'MAX_INT32', 0)
    check(TWO_LEVELS)


@pytest.mark.parametrize('empty', [dict(n=0), dict(queries=0)], ids=str)
def test_nothing(empty):
    tensors = sample(LEVEL, **empty)
    out, grad_value, *_ = run('triton', LEVEL, tensors)
    assert out.numel() == 0
    assert grad_value.shape == tensors[0].shape and not grad_value.any()


@pytest.mark.parametrize('wanted', range(3), ids=['value', 'locations', 'weights'])
def test_a_gradient_alone(wanted):
    full, alone = sample(LEVEL), sample(LEVEL)
    for i, tensor in enumerate(alone):
        tensor.requires_grad_(i == wanted)
    run('triton', LEVEL, full)
    run('triton', LEVEL, alone)
    torch.testing.assert_close(alone[wanted].grad, full[wanted].grad)
    assert [tensor.grad is not None for tensor in alone] == [i == wanted for i in range(3)]


@pytest.mark.parametrize('place', [3.0, -1e9, float('inf')])
def test_far_outside(place):
    value, locations, weights = sample(LEVEL)
    locations.data.fill_(place)
    out, *grads = run('triton', LEVEL, (value, locations, weights))
    assert not out.any()
    assert not any(grad.any() for grad in grads)


def test_not_a_number_stays_so():
    value, locations, weights = sample(LEVEL)
    locations.data[0, 3, 1] = float('nan')
    out = deformable_attention(value, LEVEL, locations, weights, 'triton')
    out = out.unflatten(2, (2, -1))
    assert out[0, 3, 1].isnan().all()
    out[0, 3, 1] = 0
    assert out.isfinite().all()


def test_views():
    """Tensors that are not contiguous, as outputs of a joint projection would be."""
    tensors = sample(LEVEL)
    expected = run('triton', LEVEL, tensors)
    views = [tensor.detach().repeat_interleave(2, dim=2)[:, :, ::2] for tensor in tensors]
    results = run('triton', LEVEL, [view.requires_grad_() for view in views])
    torch.testing.assert_close(results, expected)


def test_its_multiply_adds_are_counted():
    value, *rest = (tensor.detach() for tensor in sample(TWO_LEVELS))

    def run():
        deformable_attention(value, TWO_LEVELS, *rest, 'triton')

    macs = count_macs(torch.nn.Identity(), forward=run)
    assert macs == 4 * rest[1].numel() * value.shape[3]  # four pixels a sample


def test_it_compiles():
    """Into one graph for several sizes, forward and backward."""
    counter = CompileCounterWithBackend('aot_eager')

    @torch.compile(backend=counter, fullgraph=True, dynamic=True)
    def compiled(value, locations, weights, shapes):
        return deformable_attention(value, shapes, locations, weights, 'triton').square().sum()

    for shapes in (((4, 7),), ((6, 4),), ((9, 9),)):
        tensors = sample(shapes)
        compiled(*tensors, shapes).backward()
        expected = sample(shapes)
        run('triton', shapes, expected)
        for tensor, same in zip(tensors, expected, strict=True):
            torch.testing.assert_close(tensor.grad, same.grad)
    assert counter.frame_count == 1


def test_the_operators_are_well_formed():
    """Schema, registration of gradients, and shapes without data, as torch checks them."""
    sizes = [side for shape in LEVEL for side in shape]
    checks = ('test_schema', 'test_autograd_registration', 'test_faketensor')
    ops, tensors = torch.ops.mmhybrid, sample(LEVEL)
    grad = torch.ones(2, 5, 16, device=DEVICE)
    gradients = (ops.deformable_sample_gradients, ops.deformable_value_gradient)
    torch.library.opcheck(ops.deformable_sample, (*tensors, sizes), test_utils=checks)
    for op in gradients:
        inputs = [tensor.detach() for tensor in tensors]
        torch.library.opcheck(op, (grad, *inputs, sizes), test_utils=checks)


def test_float64_is_refused():
    value, locations, weights = sample(((2, 2),))
    with pytest.raises(RuntimeError, match=r"backend='triton' needs .* got torch.float64"):
        deformable_attention(value.double(), ((2, 2),), locations, weights, 'triton')
