"""The operators, as torch checks them, and beside plain code."""

from importlib import import_module

import pytest
import torch

from mmhybrid.models.kernels import biased_attention, sample_around

bags, bands = (
    import_module(f'mmhybrid.models.kernels.{name}')
    for name in ('deformable_bags', 'biased_attention')
)
SHAPES, SIZES = ((4, 6), (2, 3)), [4, 6, 2, 3]
OPERATORS = ('sample_in_bags', 'biased_attention')


def draw(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def inputs_of(name, queries=12):
    """Arguments of an operator."""
    if name == 'biased_attention':
        # (N, L, heads, D) -> (N, heads, L, D), as projections make them
        parts = draw((2, queries, 3, 4), (2, 5, 3, 4), (2, 5, 3, 8), (3, queries, 5))
        heads = (part.detach().transpose(1, 2).requires_grad_() for part in parts[:3])
        return *heads, parts[3], 0.5
    value, offsets, weights = draw((2, 30, 8), (2, queries, 2, 2, 3, 2), (2, queries, 2, 2, 3))
    points = torch.rand(queries, 2, generator=torch.Generator().manual_seed(0))
    return value, points, offsets, weights, SIZES


def with_gradients(function, inputs):
    out = function(*inputs)
    wanted = [t for t in inputs if isinstance(t, torch.Tensor) and t.requires_grad]
    return [out, *torch.autograd.grad(out.square().sum(), wanted)]


@pytest.mark.parametrize('name', OPERATORS)
def test_the_operators_are_well_formed(name):
    """Schema, registration of gradients, shapes and strides without data, any sizes."""
    torch.library.opcheck(getattr(torch.ops.mmhybrid, name), inputs_of(name))


@pytest.mark.parametrize('name', OPERATORS)
def test_the_gradients_are_well_formed(name):
    operator = getattr(torch.ops.mmhybrid, name)
    inputs = [t.detach() if isinstance(t, torch.Tensor) else t for t in inputs_of(name)]
    grad = torch.randn_like(operator(*inputs))
    backward = getattr(torch.ops.mmhybrid, f'{name}_backward')
    torch.library.opcheck(backward, (grad, *inputs), test_utils=('test_schema', 'test_faketensor'))


@pytest.mark.parametrize(
    ('name', 'module', 'limit'),
    [('sample_in_bags', bags, 'BLOCK'), ('biased_attention', bands, 'MAX_BAND')],
)
def test_parts_of_the_queries(name, module, limit, monkeypatch):
    operator, inputs = getattr(torch.ops.mmhybrid, name), inputs_of(name, queries=150)
    whole = with_gradients(operator, inputs)
    monkeypatch.setattr(module, limit, 100)  # 64 samples or 3 rows of the attention
    with torch.profiler.profile(acc_events=True) as profile:
        parts = with_gradients(operator, inputs)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    counts = {event.key: event.count for event in profile.key_averages()}
    if name == 'sample_in_bags':  # three blocks; a bag for each image, level and corner backward
        assert counts['aten::embedding_bag'] == 3 + 16
    else:
        assert counts['aten::_softmax_backward_data'] == 50


def test_samples_are_those_of_a_grid():
    """Positions are computed in float32: beside another backend, not by differences."""

    def grid(value, points, offsets, weights, sizes):
        value = value.unflatten(2, (2, 4))
        return sample_around(value, SHAPES, points, offsets, weights, 'grid_sample')

    inputs = inputs_of('sample_in_bags')
    found = with_gradients(torch.ops.mmhybrid.sample_in_bags, inputs)
    torch.testing.assert_close(found, with_gradients(grid, inputs), rtol=1e-4, atol=1e-5)


def test_gradients_of_the_attention_by_differences():
    *tensors, scale = inputs_of('biased_attention')
    tensors = [tensor.detach().double().requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(biased_attention, (*tensors, scale))
